"""Where a stage works besides its outs: its lock, its resume scratch, its private folders.

Everything lies below ``.dvc/tmp/forebear``, except the private temporary folder, which stays in
the system's (sockets need short paths). A second recorder of the same stage waits, then gives up.
It never follows a symlink when it deletes, and deletes nothing that it did not create.

Rests on: provenance page, section 4.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from forebear.errors import EnvironmentFailure

LOCK_TIMEOUT_S = 10.0
TEMPORARY_PREFIX = "forebear-"


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folders of one run of one stage.

    Attributes:
        state: ``.dvc/tmp/forebear``.
        private: fresh folder, mode 0700, removed when the run ends.
        stage_name: whose.
    """

    state: Path
    private: Path
    stage_name: str

    @property
    def tmp(self) -> Path:
        """``TMPDIR`` of the stage."""
        return self.private / "tmp"

    @property
    def home(self) -> Path:
        """``HOME`` of the stage."""
        return self.private / "home"

    @property
    def digest_cache(self) -> Path:
        """File of the digest cache that all stages share."""
        return self.state / "digests.sqlite"

    def scratch(self, key: str) -> Path:
        """Resume folder of this stage for the inputs that ``key`` stands for.

        Folders of other inputs are deleted: nothing may resume from them.
        """
        home = self.state / "scratch" / file_name(self.stage_name)
        home.mkdir(parents=True, exist_ok=True)
        for other in home.iterdir():
            if other.name != key:
                _delete(other)
        folder = home / key
        folder.mkdir(exist_ok=True)
        return folder

    def drop_scratch(self) -> None:
        """Deletes the stage's resume state: the link is written, nothing will resume."""
        _delete(self.state / "scratch" / file_name(self.stage_name))


def file_name(stage_name: str) -> str:
    """The stage's name as one path segment; only ``/`` and the like change."""
    return quote(stage_name, safe="@")


@contextlib.contextmanager
def occupy(root: Path, stage_name: str) -> Iterator[Workplace]:
    """Holds the stage's lock and its private folder while the block runs.

    Raises:
        EnvironmentFailure: another recorder holds the lock for more than 10 s; its id is named.
    """
    state = root / ".dvc" / "tmp" / "forebear"
    state.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(state / f"{file_name(stage_name)}.lock", stage_name)
    try:
        _clear_leftover(descriptor)
        private = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        try:
            (private / "tmp").mkdir()
            (private / "home").mkdir()
            _write_note(descriptor, private)
            yield Workplace(state, private, stage_name)
        finally:
            _delete(private)
    finally:
        os.close(descriptor)


def _lock(file: Path, stage_name: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(file, flags, 0o600)
    give_up_at = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                holder = _read_note(descriptor).get("pid", "unknown")
                os.close(descriptor)
                raise EnvironmentFailure(
                    f"the stage is being recorded by process {holder}",
                    where=stage_name,
                    fix="wait for it to end, or stop it",
                ) from None
            time.sleep(0.1)
        else:
            return descriptor


def _read_note(descriptor: int) -> dict[str, object]:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(descriptor: int, private: Path) -> None:
    os.ftruncate(descriptor, 0)
    note = {"pid": os.getpid(), "private": str(private)}
    os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _clear_leftover(descriptor: int) -> None:
    """Deletes the private folder of a killed run, only where such folders are made."""
    left = Path(str(_read_note(descriptor).get("private", "")))
    ours = left.parent == Path(tempfile.gettempdir()) and left.name.startswith(TEMPORARY_PREFIX)
    if ours and left.is_dir() and not left.is_symlink() and left.stat().st_uid == os.geteuid():
        _delete(left)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
