"""How a part of a bill is named: its version, its digest, and the lines that say what it rests on.

Source: compliance page, section 8, D8 (no placeholder versions; sibling properties).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from forebear.documents.reading import Cells, Reader, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebear.documents.parts import Lines
    from forebear.documents.values import Value

NO_VERSION = {"", "unknown", "none", "n/a", "latest", "main", "head"}
_SHORT = 12
_HEX = re.compile(r"[0-9a-f]{64}")


def lines_of(reader: Reader, row: Cells, names: Iterable[str] | None = None) -> Lines:
    """What each known cell rests on."""
    found: list[tuple[str, str]] = []
    for name in row.names() if names is None else names:
        value = row.value(name)
        if value.value is not None:
            found += reader.evidence(name, value)
    return tuple(found)


def digest_of(row: Cells, name: str) -> str | None:
    """The cell if it is a SHA-256 in hexadecimal."""
    text = row.text(name)
    return text if text is not None and _HEX.fullmatch(text) else None


def version_of(value: Value, digest: str | None, row: Cells | None = None) -> str:
    """The version that is told; else the digest of the thing, or of what names it."""
    told = text_of(value)
    if told is not None and told.lower() not in NO_VERSION:
        return f"sha256-{told[:_SHORT]}" if _HEX.fullmatch(told) else told
    if digest is None:
        digest = _named_by(row)
    return f"sha256-{digest[:_SHORT]}"


def _named_by(row: Cells | None) -> str:
    """Digest of the evidence or of the declarations that name a thing; else of its key."""
    for value in [] if row is None else [row.value(name) for name in row.names()]:
        if value.evidence:
            return value.evidence[0].sha256
        if value.declarations_sha256 is not None:
            return value.declarations_sha256
    return hashlib.sha256(("" if row is None else row.key).encode()).hexdigest()
