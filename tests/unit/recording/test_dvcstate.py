"""DVC's lock file is mended only when it is broken and nobody can be using it."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest

from forebear.recording.dvcstate import inspect_rwlock, mend_rwlock

ENTRY = {"pid": 1, "cmd": "dvc repro"}
SOUND = [
    {},
    {"read": {}, "write": {}},
    {"write": {"/a": ENTRY}},
    {"read": {"/a": [ENTRY, ENTRY]}},
]
BROKEN = ["", "{", "[]", "null", '{"other": {}}', '{"write": {"/a": {"pid": "1", "cmd": "x"}}}',
          '{"read": {"/a": {}}}', "[" * 100_000, "\0\0\0\0"]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    return tmp_path


def _write(root: Path, text: str) -> Path:
    file = root / ".dvc" / "tmp" / "rwlock"
    file.write_text(text)
    return file


@pytest.mark.parametrize("value", SOUND)
def test_sound_lock_is_left_alone(root: Path, value: object) -> None:
    file = _write(root, json.dumps(value))
    assert mend_rwlock(root).state == "sound"
    assert json.loads(file.read_text()) == value


@pytest.mark.parametrize("text", BROKEN)
def test_broken_lock_is_removed(root: Path, text: str) -> None:
    file = _write(root, text)
    assert inspect_rwlock(root).state == "broken"
    assert file.exists()
    assert mend_rwlock(root).mended
    assert not file.exists()


def test_absent_lock_is_absent(root: Path) -> None:
    assert mend_rwlock(root).state == "absent"


def test_broken_lock_stays_while_its_guard_is_held(root: Path) -> None:
    file = _write(root, "")
    with (root / ".dvc" / "tmp" / "rwlock.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert not mend_rwlock(root).mended
    assert file.exists()


def test_broken_lock_stays_while_dvc_works_in_the_repository(root: Path) -> None:
    file = _write(root, "")
    below = root / "sub"
    below.mkdir()
    code = "import sys; sys.stdout.write('up'); sys.stdout.flush(); sys.stdin.read()"
    dvc = subprocess.Popen(
        [sys.executable, "-c", code, "x"], executable=sys.executable, cwd=below,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    named = subprocess.Popen(
        ["dvc", "-c", code], executable=sys.executable, cwd=below,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        for process in (dvc, named):
            assert process.stdout is not None
            assert process.stdout.read(2) == b"up"
        report = mend_rwlock(root)
        assert report.holders == (named.pid,)
        assert not report.mended
        assert file.exists()
    finally:
        for process in (dvc, named):
            process.communicate(b"")
    assert mend_rwlock(root).mended
