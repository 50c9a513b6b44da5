"""Mends what a kill can leave behind in DVC's own state: an empty or broken ``.dvc/tmp/rwlock``.

DVC rewrites that file in place, so a kill or a full disk in that moment leaves it empty, and every
later ``dvc repro`` ends with "JSON structure is corrupted". It is mended only when no live process
holds DVC's lock or works in the repository; entries of running processes are never touched.

Rests on: design page, "The command". Needs no dvc.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from forebear.errors import EnvironmentFailure

State = Literal["absent", "sound", "broken"]


@dataclass(frozen=True, slots=True)
class RwlockReport:
    """What was found, and what was done about it.

    Attributes:
        state: as found.
        mended: the broken file was removed; DVC starts a new one.
        holders: ids of live DVC processes of this repository, the reason for not mending.
    """

    state: State
    mended: bool = False
    holders: tuple[int, ...] = ()


def inspect_rwlock(root: Path) -> RwlockReport:
    """State of the lock file; changes nothing.

    Raises:
        EnvironmentFailure: it cannot be read.
    """
    return RwlockReport(_state(_rwlock(root)), holders=tuple(live_dvc_processes(root)))


def mend_rwlock(root: Path) -> RwlockReport:
    """Removes a broken lock file when no live process can be using it.

    Raises:
        EnvironmentFailure: it cannot be read or removed.
    """
    file = _rwlock(root)
    if _state(file) != "broken":
        return RwlockReport(_state(file))
    with _guard(file.with_name("rwlock.lock")) as free:
        holders = tuple(live_dvc_processes(root))
        if not free or holders:
            return RwlockReport("broken", holders=holders)
        # again under the guard: DVC may have rewritten it in between
        if _state(file) != "broken":
            return RwlockReport("sound")
        try:
            file.unlink()
        except OSError as error:
            raise EnvironmentFailure(
                f"cannot remove DVC's broken lock file: {error.strerror}", where=str(file)
            ) from error
    return RwlockReport("broken", mended=True)


def live_dvc_processes(root: Path) -> list[int]:
    """Ids of running DVC processes whose current folder lies in the repository."""
    root = root.resolve()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            folder = (entry / "cwd").readlink()
        except OSError:
            continue  # gone by now, or another user's
        if _is_dvc(words) and (folder == root or root in folder.parents):
            found.append(int(entry.name))
    return sorted(found)


def _rwlock(root: Path) -> Path:
    return root / ".dvc" / "tmp" / "rwlock"


def _state(file: Path) -> State:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read DVC's lock file: {error.strerror}", where=str(file)
        ) from error
    except (ValueError, RecursionError):
        return "broken"
    return "sound" if _has_shape(value) else "broken"


def _has_shape(value: Any) -> bool:
    """Whether DVC's own schema takes it: ``{write: {path: info}, read: {path: [info]}}``."""
    if not isinstance(value, dict) or set(value) - {"write", "read"}:
        return False
    write, read = value.get("write", {}), value.get("read", {})
    if not isinstance(write, dict) or not isinstance(read, dict):
        return False
    if not all(isinstance(infos, list) for infos in read.values()):
        return False
    infos = [*write.values(), *(info for infos in read.values() for info in infos)]
    return all(
        isinstance(info, dict)
        and set(info) == {"pid", "cmd"}
        and isinstance(info["pid"], int)
        and isinstance(info["cmd"], str)
        for info in infos
    )


def _is_dvc(words: list[bytes]) -> bool:
    names = [word.rpartition(b"/")[2] for word in words[:3]]
    return b"dvc" in names or words[1:3] == [b"-m", b"dvc"]


@contextlib.contextmanager
def _guard(file: Path) -> Iterator[bool]:
    """Holds the lock under which DVC edits the file; False when another process holds it."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot open DVC's lock: {error.strerror}", where=str(file)
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
