"""Lists of digests as ``sha256sum`` writes and checks them: ``SHA256SUMS`` and the manifests.

Refuses what ``sha256sum`` lets pass: another order, a path twice, escaped names, loose white space.

Source: provenance page, sections 1 and 6.
"""

from __future__ import annotations

import re

from forebear.errors import FormatError, PathError
from forebear.formats.pathrule import require_path, require_side_by_side

_LINE = re.compile(rb"([0-9a-f]{64})  ([^\n]+)\n")


def parse_sums(data: bytes, *, where: str) -> dict[str, str]:
    """Digest of each path in a list of digests.

    Args:
        data: whole file, sorted by the paths' UTF-8 bytes.
        where: name of the file, for the message.

    Raises:
        FormatError: a line is not ``<hex>  <path>``, a path breaks the path rules, or the order
            is another one.
    """
    sums: dict[str, str] = {}
    previous = b""
    at = 0
    while at < len(data):
        match = _LINE.match(data, at)
        number = len(sums) + 1
        if match is None:
            raise FormatError("is not '<64 hex digits>  <path>'", f"{where}: line {number}")
        digest, raw = match.groups()
        if raw <= previous:
            raise FormatError("is out of order or stands here twice", f"{where}: line {number}")
        try:
            path = raw.decode("utf-8")
            require_path(path)
        except UnicodeDecodeError as error:
            raise FormatError("is not UTF-8", f"{where}: line {number}") from error
        except PathError as error:
            raise FormatError(error.what, f"{where}: line {number}") from error
        sums[path] = digest.decode("ascii")
        previous, at = raw, match.end()
    try:
        require_side_by_side(sums)
    except PathError as error:
        raise FormatError(error.what, where) from error
    return sums
