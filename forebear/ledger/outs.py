"""Outs of stages as they lie on disk, read only where they are the ones that a link names.

Nothing is followed out of the root, and JSON lines are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError, FormatError
from forebear.formats import strictjson
from forebear.formats.link import Link
from forebear.hashing.digest import hash_file
from forebear.ledger.rowfile import ROOT_FILE, open_regular

LEDGER_PRODUCT = f"/ledger/{ROOT_FILE}"


def ledger_roots(links: Mapping[str, Link]) -> Iterator[tuple[str, str, str]]:
    """Every ledger that the links name: stage, path of ``root.json``, its digest."""
    for stage, link in links.items():
        for path, digest in sorted(link.products.items()):
            if f"/{path}".endswith(LEDGER_PRODUCT):
                yield stage, path, digest


class Outs:
    """The outs below ``root``; what was once looked at is not hashed again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[tuple[str, str], bool] = {}

    def has(self, path: str, digest: str) -> bool:
        """Whether the file is here with this digest."""
        if (path, digest) not in self._known:
            file = self.root / path
            try:
                inside = file.resolve().is_relative_to(self.root.resolve())
                self._known[path, digest] = inside and file.is_file() and hash_file(file) == digest
            except (ForebearError, OSError):
                self._known[path, digest] = False
        return self._known[path, digest]

    def rows(self, path: str) -> Iterator[dict[str, Any]]:
        """Objects of a JSON-lines file, one by one.

        Raises:
            FormatError: a line is no object.
        """
        with open_regular(self.root / path) as stream:
            number = 0
            while line := stream.readline(strictjson.MAX_BYTES + 1):
                number += 1
                row = strictjson.parse(line, where=f"{path}: line {number}")
                if not isinstance(row, dict):
                    raise FormatError("must be an object", f"{path}: line {number}")
                yield row

    def ids(self, path: str) -> Iterator[str]:
        """What its rows have as ``id``."""
        return (row["id"] for row in self.rows(path) if isinstance(row.get("id"), str))
