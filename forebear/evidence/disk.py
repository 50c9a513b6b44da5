"""What lies on disk, by name and kind, and the bytes of one file: nothing is followed or trusted.

A scan never opens anything. A read opens regular files only, without following a symbolic link and
without blocking on a FIFO, and stops at a size limit. In a repository alone, a symbolic link to a
regular file of DVC's cache counts as that file: DVC makes those itself.

Rests on: provenance page, section 1, "Path rules".
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from forebear.errors import EnvironmentFailure, FormatError, PathError

FILE = "file"
FOLDER = "folder"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def kind_of(file: Path) -> str | None:
    """Kind of what lies at ``file``, a link not followed; None when nothing does.

    Raises:
        EnvironmentFailure: it cannot be reached.
    """
    try:
        status = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failure(file, error) from error
    return _KINDS.get(stat.S_IFMT(status.st_mode), "unknown kind")


def cached_object(link: Path, cache: Path | None) -> Path | None:
    """The regular file in DVC's cache that a symbolic link leads to; None for any other."""
    if cache is None:
        return None
    try:
        target = link.resolve(strict=True)
        held = target.is_relative_to(cache.resolve()) and stat.S_ISREG(target.lstat().st_mode)
    except (OSError, RuntimeError, ValueError):
        return None
    return target if held else None


def _kind(place: Path, mode: int, cache: Path | None) -> str:
    if stat.S_ISLNK(mode) and cached_object(place, cache) is not None:
        return FILE
    return _KINDS.get(stat.S_IFMT(mode), "unknown kind")


def scan(root: Path, *, cache: Path | None = None) -> dict[str, str]:
    """Kind of every entry below ``root``, by its path relative to it; links are not followed.

    Args:
        root: a folder.
        cache: DVC's cache, links into which count as files; None where no link does.

    Raises:
        EnvironmentFailure: a folder cannot be listed.
    """
    found: dict[str, str] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    mode = entry.stat(follow_symlinks=False).st_mode
                    found[path] = _kind(root / path, mode, cache)
                    if found[path] == FOLDER:
                        folders.append(path)
        except OSError as error:
            raise _failure(root / folder, error) from error
    return dict(sorted(found.items()))


def scan_path(root: Path, path: str, *, cache: Path | None = None) -> dict[str, str] | None:
    """Entries of ``path`` below ``root``, itself included, by paths relative to ``root``.

    None when nothing is there. A symbolic link on the way stands alone in the answer; see
    :func:`scan` for ``cache``.
    """
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        part = "/".join(parts[:depth])
        kind = kind_of(root / part)
        if kind is None:
            return None
        if kind != FOLDER:
            held = part == path and cached_object(root / part, cache) is not None
            return {part: FILE if held else kind}
    below = scan(root / path, cache=cache)
    return {path: FOLDER, **{f"{path}/{name}": kind for name, kind in below.items()}}


def read_regular(file: Path, *, where: str, max_bytes: int) -> bytes:
    """Bytes of a regular file.

    Raises:
        PathError: it is something else.
        FormatError: it is longer than ``max_bytes``.
        EnvironmentFailure: it cannot be read.
    """
    try:
        # NOFOLLOW and NONBLOCK: it may have been swapped for a link or a FIFO since the scan
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise PathError("is no regular file", where)
            data = stream.read(max_bytes + 1) if status.st_size <= max_bytes else None
    except OSError as error:
        raise _failure(file, error) from error
    if data is None or len(data) > max_bytes:
        raise FormatError(f"is longer than the {max_bytes} bytes that are read", where)
    return data


def _failure(file: Path, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"cannot be read: {(error.strerror or 'failed').lower()}", ascii(str(file))
    )
