"""Unpacks a release from a tar archive, after every member was looked at.

Refuses the whole archive for one member that is absolute, leaves its folder, stands there twice or
is anything but a folder or a regular file. Modes, owners and times of the archive are ignored.

Rests on: provenance page, section 13, row 80.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from forebear.errors import EnvironmentFailure, FormatError, PathError
from forebear.evidence.disk import FILE, kind_of
from forebear.formats.pathrule import require_path

_MAX_MEMBERS = 1_000_000
_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE}


def unpack(archive: Path, target: Path) -> list[tuple[str, str]]:
    """Unpacks ``archive`` into the empty folder ``target``; returns faults, as (member, what).

    With any fault nothing is unpacked.

    Raises:
        EnvironmentFailure: the archive cannot be read, or does not fit on the disk.
    """
    if kind_of(archive.resolve()) != FILE:
        raise EnvironmentFailure("is neither a folder nor a regular file", str(archive))
    try:
        with tarfile.open(archive, "r:*") as tar:
            members = tar.getmembers()
            faults = _faults(members)
            if faults:
                return faults
            _require_space(members, target)
            for member in members:
                _extract(tar, member, target)
    except (tarfile.TarError, EOFError, UnicodeError, FormatError) as error:
        shutil.rmtree(target)
        target.mkdir()
        return [(archive.name, f"is no tar archive that can be read: {error}")]
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be unpacked: {error.strerror or error}", str(archive)
        ) from error
    return []


def top_folder(target: Path) -> Path:
    """The folder that the archive is about: its only entry when that is a folder."""
    entries = list(target.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else target


def _faults(members: Sequence[tarfile.TarInfo]) -> list[tuple[str, str]]:
    if len(members) > _MAX_MEMBERS:
        return [("archive", f"holds more than {_MAX_MEMBERS} members")]
    faults: list[tuple[str, str]] = []
    seen: set[str] = set()
    for member in members:
        name = _name(member)
        if not name:
            continue
        if not member.isdir() and member.type not in _REGULAR:
            faults.append((name, "is neither a folder nor a regular file"))
        try:
            require_path(name)
        except PathError as error:
            faults.append((ascii(name), error.what))
        if name in seen:
            faults.append((name, "stands in the archive twice"))
        seen.add(name)
    return faults


def _name(member: tarfile.TarInfo) -> str:
    """Path of a member; empty for ``.``, which ``tar -C FOLDER .`` writes."""
    name = member.name.removeprefix("./")
    return "" if name == "." else name


def _require_space(members: Sequence[tarfile.TarInfo], target: Path) -> None:
    needed_bytes = sum(member.size for member in members)
    if needed_bytes > shutil.disk_usage(target).free:
        raise EnvironmentFailure(
            f"unpacking needs {needed_bytes} bytes, more than are free", str(target),
            "set TMPDIR to a larger disk, or unpack it yourself",
        )  # fmt: skip


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    name = _name(member)
    if not name:
        return
    place = target / name
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        raise FormatError("the member holds no data", name)
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with source, os.fdopen(handle, "wb") as stream:
        shutil.copyfileobj(source, stream, 1024 * 1024)
