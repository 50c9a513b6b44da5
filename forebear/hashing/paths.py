"""Path rules where they meet the disk: which entries may be hashed, and under which name.

Refuses everything that is not a regular file: folders that are links, FIFOs, sockets, devices. A
symbolic link is taken only while recording, and only into DVC's cache. Nothing special is ever
opened, since opening a FIFO blocks and opening a device acts.

Source: provenance page, section 1.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from forebear.errors import EnvironmentFailure, PathError
from forebear.formats.pathrule import check_relative_path, check_tree_paths

__all__ = [
    "check_relative_path",
    "check_tree_paths",
    "disk_path",
    "missing",
    "require_regular",
]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def disk_path(relative: str, root: Path) -> PurePosixPath:
    """Path inside the evidence of a name that was read from disk below ``root``.

    Raises:
        PathError: the name breaks the path rules.
    """
    try:
        return check_relative_path(relative)
    except PathError as error:
        raise PathError(error.what, str(root), error.fix) from error


def require_regular(file: Path, *, allow_symlinks_into: Path | None) -> os.stat_result:
    """Status of the regular file at ``file``, following an allowed symbolic link only.

    Raises:
        PathError: not a regular file, or a symbolic link that leaves ``allow_symlinks_into``.
        EnvironmentFailure: the file cannot be reached.
    """
    try:
        status = os.lstat(file)
        if stat.S_ISLNK(status.st_mode) and allow_symlinks_into is not None:
            target = Path(os.path.realpath(file, strict=True))
            if not target.is_relative_to(os.path.realpath(allow_symlinks_into)):
                raise PathError(
                    "is a symbolic link that leads out of DVC's cache",
                    str(file),
                    "replace it by the file itself",
                )
            status = os.lstat(target)
    except (OSError, ValueError) as error:
        raise missing(file, error) from error
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise PathError(
            f"is {kind}; only regular files can be hashed",
            str(file),
            "replace it by the file itself, or take it out of the declared paths",
        )
    return status


def missing(file: Path, error: OSError | ValueError) -> EnvironmentFailure | PathError:
    """Our error for what the system said about ``file``."""
    if isinstance(error, ValueError):
        return PathError("holds a NUL character", ascii(str(file)))
    reason = (error.strerror or type(error).__name__).lower()
    return EnvironmentFailure(f"cannot be read: {reason}", str(file))
