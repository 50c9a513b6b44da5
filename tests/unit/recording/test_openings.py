"""Which paths stay open, and which grants are refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from forebear.errors import ConfigError
from forebear.pipeline import Stage
from forebear.recording.openings import around, granted, interpreter, openings


def _stage(name: str, **options: object) -> Stage:
    return Stage(name, f"forebear record {name} -- x", meta={"forebear": options})


def _open(stage: Stage, root: Path, cache: Path | None = None):
    cache = cache or root / ".dvc/cache"
    return openings(stage, root=root, program="true", own=(), writable=(), cache_dir=cache)


def test_a_system_folder_around_the_workspace_is_opened_beside_it_only(tmp_path):
    root = tmp_path / "src" / "app"
    (root / "data").mkdir(parents=True)
    (tmp_path / "src" / "lib").mkdir()
    (tmp_path / "bin").mkdir()
    assert set(around([tmp_path], root)) == {tmp_path / "bin", tmp_path / "src" / "lib"}
    assert list(around([tmp_path / "bin"], root)) == [tmp_path / "bin"]
    assert list(around([root], root)) == []


def test_an_environment_in_the_workspace_is_open_and_one_around_it_by_its_parts(
    tmp_path, monkeypatch
):
    (tmp_path / "root" / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "root" / ".venv"))
    assert tmp_path / "root" / ".venv" in set(interpreter(tmp_path / "root"))
    for around_it in (tmp_path, tmp_path / "root"):
        monkeypatch.setattr(sys, "prefix", str(around_it))
        found = set(interpreter(tmp_path / "root"))
        assert not {tmp_path, tmp_path / "root"} & found
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert tmp_path / "lib" in set(interpreter(tmp_path / "root"))


def test_links_of_deps_are_followed_into_the_cache_and_nowhere_else(tmp_path):
    root, cache = tmp_path / "w", tmp_path / "cache"
    (root / "dep").mkdir(parents=True)
    cache.mkdir()
    (cache / "object").write_text("x")
    (tmp_path / "elsewhere").write_text("x")
    (root / "dep" / "in").symlink_to(cache / "object")
    (root / "dep" / "out").symlink_to(tmp_path / "elsewhere")
    stage = Stage("s", "forebear record s -- x", deps=("dep",))
    read = _open(stage, root, cache).read
    assert root / "dep" in read
    assert cache / "object" in read
    assert tmp_path / "elsewhere" not in read
    assert cache not in read


def test_raw_disks_and_memory_are_closed_and_the_null_device_is_open(tmp_path):
    write = {str(path) for path in _open(_stage("s"), tmp_path).write}
    assert "/dev/null" in write
    assert not {"/dev", "/dev/mem", "/dev/shm", "/dev/vda", "/dev/sda"} & write  # noqa: S108


@pytest.mark.parametrize(
    "reads", ["owner-key", ["owner-key"], ["relative"], [1], {"owner-key": True}]
)
def test_a_grant_must_be_a_known_name_or_an_absolute_path(reads):
    with pytest.raises(ConfigError) as refused:
        granted(_stage("s", reads=reads))
    assert refused.value.where == "dvc.yaml: s.meta.forebear.reads"


def test_the_owners_key_is_for_attest_alone_and_without_the_recorders(tmp_path, monkeypatch):
    keys = tmp_path / "config" / "forebear" / "keys"
    keys.mkdir(parents=True)
    names = ("owner.pem", "owner.pub", "recorder.pem", "recorder.pub", "recorder.12345678.pem")
    for name in names:
        (keys / name).touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("FOREBEAR_OWNER_KEY", "hsm:2?name=x")
    monkeypatch.setenv("FOREBEAR_OWNER_PASSPHRASE_FILE", str(tmp_path / "secret"))
    root = tmp_path / "w"
    root.mkdir()
    opened = _open(_stage("attest", reads=["owner-key"]), root)
    inside = {path.name for path in opened.read if keys in path.parents}
    assert inside == {"owner.pem", "owner.pub", "recorder.pub"}
    assert tmp_path / "secret" in opened.read
    assert not opened.memory
    opened = _open(_stage("s", reads=["public-keys"]), root)
    assert {p.name for p in opened.read if keys in p.parents} == {"owner.pub", "recorder.pub"}
    assert not [path for path in _open(_stage("s"), root).read if keys in path.parents]


def test_the_repository_grant_leaves_the_recorders_state_unwritable(tmp_path):
    for path in (".dvc/tmp/forebear", ".dvc/tmp/rwlock.d", ".git"):
        (tmp_path / path).mkdir(parents=True)
    opened = _open(_stage("s", reads=["repository"]), tmp_path)
    assert {tmp_path, tmp_path / ".git"} <= set(opened.read)
    assert tmp_path / ".dvc" / "tmp" / "rwlock.d" in opened.write
    assert not {tmp_path / ".dvc" / "tmp", tmp_path / ".dvc" / "tmp" / "forebear"} & {*opened.write}
    assert os.fspath(tmp_path) not in map(os.fspath, opened.write)


@pytest.mark.parametrize("inside", [".", "..", "data"])
def test_a_path_in_or_around_the_workspace_is_no_grant(tmp_path, inside):
    root = tmp_path / "w"
    (root / "data").mkdir(parents=True)
    with pytest.raises(ConfigError, match="workspace"):
        _open(_stage("s", reads=[str((root / inside).resolve())]), root)
    (tmp_path / "tool").mkdir()
    assert tmp_path / "tool" in _open(_stage("s", reads=[str(tmp_path / "tool")]), root).read
