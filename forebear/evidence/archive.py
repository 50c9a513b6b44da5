"""Unpacks a release from a tar archive, after every member was looked at.

Refuses the whole archive for one member that is absolute, leaves its folder, stands there twice or
is anything but a folder or a regular file, and for a packing that costs more than an honest one
could: a member list or contents out of all proportion, headers of megabytes. Plain, gzip and bzip2
are read; xz is not, since a file of its own choosing decides how much memory it takes. Modes,
owners and times of the archive are ignored.

Rests on: provenance page, section 13, row 80.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from forebear.errors import EnvironmentFailure, FormatError, PathError
from forebear.evidence.disk import FILE, kind_of
from forebear.formats.pathrule import require_path

_MAX_MEMBERS = 1_000_000
# what a small archive may grow to at most: lists of digests shrink by 3, zeros by 1,000
_MAX_GROWTH = 200
_FREE_BYTES = 64 * 1024 * 1024
_FREE_MEMBERS = 10_000
_BYTES_PER_MEMBER = 64
# tarfile reads a header for a long name whole into memory
_MAX_HEADER_BYTES = 1024 * 1024
_HEADERS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE}
_SHOWN_FAULTS = 1000


def unpack(archive: Path, target: Path) -> list[tuple[str, str]]:
    """Unpacks ``archive`` into the empty folder ``target``; returns faults, as (member, what).

    With any fault nothing is unpacked.

    Raises:
        EnvironmentFailure: the archive cannot be read, or does not fit on the disk.
    """
    if kind_of(archive.resolve()) != FILE:
        raise EnvironmentFailure("is neither a folder nor a regular file", str(archive))
    try:
        faults, needed_bytes = _judge(archive)
        if faults:
            return faults
        _require_space(needed_bytes, target)
        for tar, member in _members(archive):
            _extract(tar, member, target)
    except (tarfile.TarError, EOFError, UnicodeError, zlib.error, ValueError) as error:
        return _refused(archive, target, f"is no tar archive that can be read: {error}")
    except FormatError as error:
        return _refused(archive, target, error.what)
    except OSError as error:
        if error.errno is None:  # how gzip and bzip2 say that the bytes are not theirs
            return _refused(archive, target, f"is no tar archive that can be read: {error}")
        raise EnvironmentFailure(
            f"cannot be unpacked: {error.strerror or error}", str(archive)
        ) from error
    return []


def top_folder(target: Path) -> Path:
    """The folder that the archive is about: its only entry when that is a folder."""
    entries = list(target.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else target


def _refused(archive: Path, target: Path, what: str) -> list[tuple[str, str]]:
    shutil.rmtree(target)
    target.mkdir()
    return [(archive.name, what)]


def _judge(archive: Path) -> tuple[list[tuple[str, str]], int]:
    """Faults of all members, and the bytes that they unpack to."""
    faults: list[tuple[str, str]] = []
    seen: set[str] = set()
    needed_bytes = 0
    for _, member in _members(archive):
        needed_bytes += member.size
        name = _name(member)
        if not name or len(faults) >= _SHOWN_FAULTS:
            continue
        if (not member.isdir() and member.type not in _REGULAR) or member.issparse():
            faults.append((ascii(name), "is neither a folder nor a regular file"))
        try:
            require_path(name)
        except PathError as error:
            faults.append((ascii(name), error.what))
        if name in seen:
            faults.append((name, "stands in the archive twice"))
        seen.add(name)
    return faults, needed_bytes


def _members(archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Each member with the archive it can be read from, before the next one is looked for.

    Raises:
        FormatError: the archive costs more than its size allows.
    """
    size_bytes = archive.stat().st_size
    budget = _Budget(size_bytes)
    with _open(archive, budget) as tar:
        count, at = 0, -1
        while (member := tar.next()) is not None:
            count += 1
            if member.size < 0 or tar.offset <= at:
                raise FormatError("has a member of negative size", archive.name)
            if count > min(_MAX_MEMBERS, _FREE_MEMBERS + size_bytes // _BYTES_PER_MEMBER):
                raise FormatError(
                    "holds more members than an archive of its size can", archive.name
                )
            budget.spend(member.size)
            at = tar.offset
            yield tar, member
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps all that it has seen


class _Budget:
    """Bytes that an archive of this size may make us read."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes * _MAX_GROWTH + _FREE_BYTES

    def spend(self, size_bytes: int) -> None:
        """Counts bytes that are about to be read.

        Raises:
            FormatError: none are left.
        """
        self._left -= size_bytes
        if self._left < 0:
            raise FormatError(f"unpacks to more than {_MAX_GROWTH} times its own size", "archive")


@contextmanager
def _open(archive: Path, budget: _Budget) -> Iterator[tarfile.TarFile]:
    class Member(tarfile.TarInfo):
        """A header that is judged before tarfile acts on it."""

        def _proc_member(self, tar: tarfile.TarFile) -> Any:
            if self.type in _HEADERS:
                if not 0 <= self.size <= _MAX_HEADER_BYTES:
                    raise FormatError("has a header of more than a megabyte", "archive")
                budget.spend(self.size)
            return super()._proc_member(tar)  # type: ignore[misc]  # not in the stubs

        @classmethod
        def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
            try:
                return super().fromtarfile(tar)
            except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]  # not in the stubs
                # tarfile would call it the end, where tar goes on with the next header
                raise tarfile.ReadError(str(error)) from error

    with archive.open("rb") as stream:
        start = stream.read(6)
    if start == b"\xfd7zXZ\0":
        raise FormatError(
            "is packed with xz, whose memory has no bound; unpack it first", "archive"
        )
    mode = "r:gz" if start[:2] == b"\x1f\x8b" else "r:bz2" if start[:3] == b"BZh" else "r:"
    with tarfile.open(archive, mode, tarinfo=Member) as tar:  # type: ignore[call-overload]  # mode is one of three literals
        yield tar


def _name(member: tarfile.TarInfo) -> str:
    """Path of a member; empty for ``.``, which ``tar -C FOLDER .`` writes."""
    name = member.name.removeprefix("./")
    return "" if name == "." else name


def _require_space(needed_bytes: int, target: Path) -> None:
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
