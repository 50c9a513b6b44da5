from __future__ import annotations

import hashlib
import os
import sqlite3
import time

import pytest

from forebear.errors import EnvironmentFailure
from forebear.hashing.cache import MIN_AGE_NS, DigestCache
from forebear.hashing.digest import hash_files, hash_tree

HEX = "a" * 64


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    return file


@pytest.fixture
def cache(tmp_path):
    with DigestCache(tmp_path / "cache" / "digests.sqlite") as cache:
        yield cache


def later(status):
    return status.st_ctime_ns + MIN_AGE_NS


def test_an_entry_is_found_again(file, cache, tmp_path):
    status = os.lstat(file)
    assert cache.get(status) is None
    cache.put(status, HEX, read_at_ns=later(status))
    assert cache.get(status) == HEX
    cache.commit()
    with DigestCache(tmp_path / "cache" / "digests.sqlite") as second:
        assert second.get(status) == HEX


def test_a_young_file_is_not_remembered(file, cache):
    status = os.lstat(file)
    cache.put(status, HEX, read_at_ns=later(status) - 1)
    assert cache.get(status) is None


def test_an_edit_with_restored_mtime_is_seen(file, cache):
    before = os.lstat(file)
    cache.put(before, HEX, read_at_ns=later(before))
    deadline = time.monotonic() + 5
    while os.lstat(file).st_ctime_ns == before.st_ctime_ns and time.monotonic() < deadline:
        file.write_bytes(b"abd")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.lstat(file)
    assert after.st_mtime_ns == before.st_mtime_ns
    assert cache.get(after) is None


def test_a_malformed_entry_counts_as_none(file, cache):
    status = os.lstat(file)
    cache.put(status, "rubbish", read_at_ns=later(status))
    assert cache.get(status) is None


def test_hashing_uses_and_fills_the_cache(tmp_path, cache, monkeypatch):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"abc")
    (tree / "b").write_bytes(b"abd")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 2 * MIN_AGE_NS)
    first = hash_tree(tree, cache=cache)
    assert cache.get(os.lstat(tree / "a")) == hashlib.sha256(b"abc").hexdigest()
    status = os.lstat(tree / "b")
    cache.put(status, HEX, read_at_ns=later(status))
    assert hash_files([tree / "a", tree / "b"], cache=cache)[1] == HEX
    assert hash_tree(tree) == first


def test_a_broken_cache_file_is_explained(tmp_path):
    broken = tmp_path / "digests.sqlite"
    broken.write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(EnvironmentFailure) as refused:
        DigestCache(broken)
    assert refused.value.where == str(broken)


def test_a_foreign_database_is_explained(tmp_path, file):
    foreign = tmp_path / "digests.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE digest (x)")
    connection.close()
    with DigestCache(foreign) as cache, pytest.raises(EnvironmentFailure):
        cache.get(os.lstat(file))
