"""The path rules, on names alone: what a path inside the evidence may look like.

Refuses names that differ between file systems, that leave their folder, or that break a manifest
line. Never looks at a disk; ``forebear.hashing.paths`` does.

Source: provenance page, section 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from forebear.errors import PathError

# The usual case, decided in one match: ASCII segments that neither begin with a dot nor hold
# anything below a space, a backslash or a trailing space.
_PLAIN = re.compile(r"(?:[\w+=@,~#%-][\w.+=@,~#%-]*+/)*+[\w+=@,~#%-][\w.+=@,~#%-]*+", re.ASCII)


def check_relative_path(text: str) -> PurePosixPath:
    """``text`` as a path inside the evidence.

    Raises:
        PathError: not valid UTF-8 in NFC; absolute; an empty, ``.`` or ``..`` segment; a control
            character, a backslash, or a space at the end of a segment.
    """
    require_path(text)
    return PurePosixPath(text)


def check_tree_paths(paths: Iterable[PurePosixPath]) -> None:
    """Refuses paths that could not lie side by side on every file system.

    Raises:
        PathError: two paths are equal after NFC and case folding, or one is a folder of another.
    """
    require_side_by_side(map(str, paths))


def require_path(text: str) -> None:
    """``check_relative_path`` without the object, for tens of thousands of names.

    Raises:
        PathError: as ``check_relative_path``.
    """
    if _PLAIN.fullmatch(text):
        return
    fault = _fault(text)
    if fault:
        raise PathError(f"the path {text[:120]!a} {fault}", fix="rename the file")


def require_side_by_side(paths: Iterable[str]) -> None:
    """``check_tree_paths`` without the objects, for tens of thousands of names.

    Raises:
        PathError: as ``check_tree_paths``.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        folded = _folded(path)
        if folded in seen:
            raise PathError(
                f"the paths {seen[folded]!a} and {path!a} are equal after NFC and case folding",
                fix="rename one of them",
            )
        seen[folded] = path
        folder = folded.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = path
            folder = folder.rpartition("/")[0]
    for folded in folders.keys() & seen.keys():
        raise PathError(
            f"{seen[folded]!a} is a file and, in {folders[folded]!a}, a folder",
            fix="rename one of them",
        )


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _fault(text: str) -> str:
    """What is wrong with ``text``; empty when nothing is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8"
    segments = text.split("/")
    faults = {
        "is not in Unicode form NFC": not unicodedata.is_normalized("NFC", text),
        "holds a control character": any(unicodedata.category(one) == "Cc" for one in text),
        "holds a backslash": "\\" in text,
        "is not relative, or holds an empty, '.' or '..' segment": any(
            segment in {"", ".", ".."} for segment in segments
        ),
        "holds a segment that ends in a space": any(segment.endswith(" ") for segment in segments),
    }
    return next((fault for fault, found in faults.items() if found), "")
