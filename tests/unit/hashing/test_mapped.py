"""Hashing without a copy: only under a lease, only what is in memory, never another digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from forebear.errors import EnvironmentFailure
from forebear.hashing import digest, mapped
from forebear.hashing.digest import hash_file, hash_files

SIZES = (
    mapped.WORTH_BYTES - 1,
    mapped.WORTH_BYTES,
    mapped.WORTH_BYTES + 1,
    mapped._WINDOW_BYTES,
    mapped._WINDOW_BYTES + 4097,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "weights.bin"
    place.write_bytes(os.urandom(mapped._WINDOW_BYTES + 4097))
    return place


@pytest.fixture
def handle(file: Path):
    number = os.open(file, os.O_RDONLY)
    yield number
    os.close(number)


def _require_lease(handle: int) -> None:
    with mapped.lease(handle, os.fstat(handle)) as held:
        if not held:
            pytest.skip("this file system gives no lease")


@pytest.mark.parametrize("size_bytes", SIZES)
def test_sizes_around_the_limits_have_the_digest_of_sha256(tmp_path, size_bytes):
    data = os.urandom(size_bytes)
    (tmp_path / "a").write_bytes(data)
    assert hash_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_a_warm_file_is_not_copied(file, handle):
    _require_lease(handle)
    size = file.stat().st_size
    with mapped.lease(handle, os.fstat(handle)) as held:
        lengths = [len(mapping) for mapping in mapped.windows(handle, 0, size)]
    assert held
    assert sum(lengths) == size


def test_a_writer_waits_while_the_lease_is_held_and_not_after(file, handle):
    _require_lease(handle)
    writing = os.O_WRONLY | os.O_NONBLOCK
    with mapped.lease(handle, os.fstat(handle)), pytest.raises(BlockingIOError):
        os.open(file, writing)
    os.close(os.open(file, writing))


def test_a_waiting_writer_ends_the_mapping_and_the_rest_is_read(file, handle):
    _require_lease(handle)
    with mapped.lease(handle, os.fstat(handle)):
        seen = []
        for mapping in mapped.windows(handle, 0, file.stat().st_size):
            seen.append(len(mapping))
            with pytest.raises(BlockingIOError):
                os.open(file, os.O_WRONLY | os.O_NONBLOCK)
    assert seen == [mapped._WINDOW_BYTES]


def test_a_digest_is_the_same_when_a_writer_interrupts_the_mapping(file, monkeypatch):
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    real = mapped.windows

    def interrupted(handle, start, size_bytes):
        for mapping in real(handle, start, size_bytes):
            yield mapping
            with pytest.raises(BlockingIOError):
                os.open(file, os.O_WRONLY | os.O_NONBLOCK)

    monkeypatch.setattr(mapped, "windows", interrupted)
    assert hash_file(file) == expected


def test_an_open_writer_leaves_only_reading(file, handle):
    with file.open("r+b"), mapped.lease(handle, os.fstat(handle)) as held:
        assert not held
        assert hash_file(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_that_another_machine_could_cut_is_only_read(file, handle):
    status = list(os.fstat(handle))
    status[2] = os.makedev(0, 45)  # as FUSE, NFS and overlays have
    with mapped.lease(handle, os.stat_result(status)) as held:
        assert not held


def test_pages_that_are_not_in_memory_are_read(file, handle, monkeypatch):
    def cold(*_arguments):
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", cold)
    with mapped.lease(handle, os.fstat(handle)):
        assert not list(mapped.windows(handle, 0, file.stat().st_size))
    assert hash_file(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_cut_short_before_the_lease_is_refused(file, monkeypatch):
    real = mapped.lease

    def cut(handle, status):
        os.truncate(file, 10)
        return real(handle, status)

    monkeypatch.setattr(mapped, "lease", cut)
    with pytest.raises(EnvironmentFailure, match="changed while"):
        hash_file(file)


def test_progress_ends_at_the_whole(file):
    seen: list[tuple[int, int]] = []
    hash_files([file], on_progress=lambda done, total: seen.append((done, total)))
    size = file.stat().st_size
    assert seen[-1] == (size, size)


def test_every_thread_stops_at_the_first_failure(tmp_path, monkeypatch):
    files = [tmp_path / str(number) for number in range(50)]
    for one in files:
        one.write_bytes(bytes(digest._THREADS_FROM_BYTES // 40))
    real, opened = os.open, []

    def failing(place, flags):
        opened.append(place)
        if len(opened) > 5:
            raise PermissionError(13, "Permission denied")
        return real(place, flags)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(EnvironmentFailure, match="permission denied"):
        hash_files(files)
    assert len(opened) <= 5 + os.cpu_count()
