"""Documents as they lie on disk: a folder with a file each, or JSON lines with a text each.

Read one by one, never all at once. Exact bytes: a file's as it is, a text's in UTF-8. Refuses
links and special files in a folder, and a line without text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from forebear.errors import EnvironmentFailure, FormatError, UsageError
from forebear.formats import strictjson
from forebear.ledger.rowfile import open_regular

_MAX_DOCUMENT_BYTES = 1 << 30
# How a row may name the label; the first that is there counts.
_NAMES = {"license": ("license", "licence"), "source": ("source",), "split": ("split", "role")}


@dataclass(frozen=True, slots=True)
class Labels:
    """What a row says of a document besides its length."""

    license: str
    source: str
    split: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its bytes, its labels, and where it came from, for messages."""

    data: bytes
    labels: Labels
    where: str


def read_documents(place: Path, labels: Labels, *, field: str = "text") -> Iterator[Document]:
    """Documents of a folder (every file below it) or of a ``.jsonl`` file, one by one.

    Args:
        place: folder or file.
        labels: of every document; a JSON row may override them.
        field: which field of a row is the document.
    Raises:
        EnvironmentFailure: nothing is there, or it cannot be read.
        FormatError: a row has no such text.
        UsageError: neither folder nor ``.jsonl``.
    """
    if place.is_dir():
        yield from _read_folder(place, labels)
    elif not place.exists():
        raise EnvironmentFailure("there is nothing here", str(place))
    elif place.suffix == ".jsonl":
        yield from _read_lines(place, labels, field)
    else:
        raise UsageError(
            "is neither a folder of documents nor a .jsonl file", str(place), "name one of them"
        )


def _read_folder(folder: Path, labels: Labels) -> Iterator[Document]:
    def refuse(error: OSError) -> None:
        raise EnvironmentFailure(f"cannot be read: {error.strerror}", str(error.filename))

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            with open_regular(file) as stream:
                data = stream.read(_MAX_DOCUMENT_BYTES + 1)
            if len(data) > _MAX_DOCUMENT_BYTES:
                raise FormatError("is longer than a gigabyte", str(file), "cut it into documents")
            yield Document(data, labels, str(file))


def _read_lines(file: Path, labels: Labels, field: str) -> Iterator[Document]:
    with open_regular(file) as stream:
        number = 0
        while line := stream.readline(strictjson.MAX_BYTES + 1):
            number += 1
            where = f"{file}: line {number}"
            row = strictjson.parse(line, where=where)
            text = row.get(field) if isinstance(row, dict) else None
            if not isinstance(text, str):
                raise FormatError(
                    f"has no text {field!r}", where, "name the field of the text with --field"
                )
            yield Document(text.encode(), _override(labels, row, where), where)


def _override(labels: Labels, row: dict[str, object], where: str) -> Labels:
    for label, names in _NAMES.items():
        name = next((name for name in names if name in row), None)
        if name is None:
            continue
        value = row[name]
        if not isinstance(value, str) or not value:
            raise FormatError(f"{name!r} must be text, not empty", where)
        labels = replace(labels, **{label: value})
    return labels
