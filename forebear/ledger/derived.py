"""Texts made from documents (``derived.jsonl`` beside the rows): which kept text came from what.

A ledger row tells what became of a document itself. Texts that curation *writes* from documents, as
a list or a question, are kept under keys of their own; this file leads from the one to the other,
so that a takedown and an impact reach them. It is a product of the same stage, bound by its link;
no root covers it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.ledger.rowfile import open_regular

DERIVED_FILE = "derived.jsonl"


def derived_keys(folder: Path, documents: Collection[str]) -> Iterator[str]:
    """Keys of kept texts made from one of the documents; none where the ledger has no such file.

    Raises:
        FormatError: a line is not what ``forebear.ledger.render_derived`` writes.
    """
    file = folder / DERIVED_FILE
    if not file.exists():
        return
    wanted = set(documents)
    with open_regular(file) as stream:
        number = 0
        while line := stream.readline(strictjson.MAX_BYTES + 1):
            number += 1
            where = f"{file}: line {number}"
            row = strictjson.parse_canonical(line, where=where)
            if (
                not isinstance(row, dict)
                or row.keys() != {"from", "key"}
                or not isinstance(row["key"], str)
                or not isinstance(row["from"], list)
                or not all(isinstance(key, str) for key in row["from"])
            ):
                raise FormatError("a line has the fields from and key", where)
            if not wanted.isdisjoint(row["from"]):
                yield row["key"]
