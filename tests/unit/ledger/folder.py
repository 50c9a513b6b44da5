"""A small ledger folder, written by the ledger itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from forebear.ledger import IntakeRow, LedgerRow, document_key
from forebear.ledger.writer import LedgerWriter

# Vectors of the provenance page, section 9.
DOCUMENTS = {
    b"alpha\n": ("s1", "CC0-1.0"),
    b"beta\n": ("s1", "CC0-1.0"),
    b"gamma\n": ("s2", "MIT"),
    b"delta\n": ("s2", "MIT"),
    b"epsilon\n": ("s2", "MIT"),
}
PLAIN_ROOT = "eeb01db3006982e811d3fb69587c9720e091ad3eaf3007046042832f671f9ff0"
SALTED_ROOT = "68bed32ea5cd315a4c4d18a8f20524171ec1ace587b99111b22053888bba34bc"
SALT = bytes(range(32))


def write_ledger(
    folder: Path, *, dropped: Iterable[bytes] = (), salt: bytes | None = None, n: int = 0
) -> Path:
    """The ledger of the vectors, of dropped documents, and of ``n`` numbered ones."""
    with LedgerWriter(folder, salted=salt is not None, run_rows=100) as writer:
        kept = {**DOCUMENTS, **{numbered(i): ("s3", "MIT") for i in range(n)}}
        for data, (source, licence) in kept.items():
            key = document_key(data, salt)
            writer.add("kept", LedgerRow(key, len(data), licence, source, "train"))
            writer.add("intake", IntakeRow(key, len(data), f"kept:{key}", source))
        for data in dropped:
            row = IntakeRow(document_key(data, salt), len(data), "dropped:quality", "s1")
            writer.add("intake", row)
        writer.finish()
    return folder


def numbered(number: int) -> bytes:
    """One of the numbered documents."""
    return b"document %d" % number
