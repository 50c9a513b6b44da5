"""Answers for one document from a ledger's rows, with proof: never seen, dropped, or kept.

Opens a ledger folder (``root.json`` with ``kept.jsonl`` and ``intake.jsonl`` beside it) read-only.
Refuses rows whose root is not the one in ``root.json``. Exact bytes only: that a copy with other
white space is there is a hint, and said to be one.

Rests on: provenance page, section 9.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from forebear.errors import FormatError, RecordError, UsageError
from forebear.formats import strictjson
from forebear.ledger.build import IntakeRow, document_key
from forebear.ledger.check import Anchor, check_proof
from forebear.ledger.proof import Claim, Descriptor, Proof, parse_descriptor
from forebear.ledger.rowfile import ROOT_FILE, TREES, Index, RowFile, Tree, open_regular, scan
from forebear.ledger.words import kept_as

_MAX_ROOT_BYTES = 1 << 20


@dataclass
class Ledger:
    """An open ledger folder; use as a context manager.

    Attributes:
        folder: where it lies.
        descriptor: what its ``root.json`` says.
    """

    folder: Path
    descriptor: Descriptor
    rows: dict[Tree, RowFile]

    def claim(self, tree: Tree, key: str) -> Claim:
        """That ``key`` is in the tree, or the two leaves that enclose it."""
        rows = self.rows[tree]
        index, found = rows.find(key)
        size = rows.index.leaves
        if found:
            return Claim(tree, "included", key, size, (rows.leaf(index),))
        return Claim(tree, "absent", key, size, (rows.leaf(index - 1), rows.leaf(index)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for rows in self.rows.values():
            rows.close()


def read_root(folder: Path) -> Descriptor:
    """The descriptor of a ledger folder.

    Raises:
        EnvironmentFailure: there is no ``root.json``, or it is no regular file.
        FormatError: it is none.
    """
    file = folder / ROOT_FILE
    with open_regular(file) as stream:
        return parse_descriptor(stream.read(_MAX_ROOT_BYTES), where=str(file))


def open_ledger(folder: Path) -> Ledger:
    """The ledger in ``folder``, by its indexes where there are some, else read whole.

    Raises:
        EnvironmentFailure: a file is missing.
        FormatError: a file is malformed.
        RecordError: the rows do not have the root or the counts of ``root.json``.
    """
    descriptor = read_root(folder)
    opened: dict[Tree, RowFile] = {}
    try:
        for tree in TREES:
            index = _index(folder, tree, descriptor)
            opened[tree] = RowFile(folder / f"{tree}.jsonl", tree, index)
    except BaseException:
        for rows in opened.values():
            rows.close()
        raise
    return Ledger(folder, descriptor, opened)


def _index(folder: Path, tree: Tree, descriptor: Descriptor) -> Index:
    """The index of the rows; it leads to the root that the ledger tells."""
    file, rows = folder / f"{tree}.index", folder / f"{tree}.jsonl"
    if file.is_file():
        with open_regular(file) as stream:
            index = Index.from_bytes(stream.read(), where=str(file))
    else:
        index = scan(rows, tree)
    if index.describe() != descriptor.value[tree]:
        raise RecordError(
            f"the rows do not have the root and the counts of {ROOT_FILE}",
            str(rows),
            f"restore the file as it was written; an edited {tree}.index can be deleted",
        )
    return index


def key_in(ledger: Ledger, document: bytes, salt: bytes | None) -> str:
    """Key of a document in this ledger.

    Raises:
        UsageError: the ledger is salted and no salt was given, or the other way round.
    """
    require_salt(ledger.descriptor, salt)
    return document_key(document, salt)


def require_salt(descriptor: Descriptor, salt: bytes | None) -> None:
    """Refuses a salt that is wanted and not there, or there and not wanted.

    Raises:
        UsageError: so it is.
    """
    if descriptor.salted and salt is None:
        raise UsageError("the keys of this ledger are salted", fix="give the salt with --salt-file")
    if salt is not None and not descriptor.salted:
        raise UsageError("the keys of this ledger are not salted", fix="leave --salt-file away")


def prove(ledger: Ledger, document: bytes, salt: bytes | None = None) -> Proof:
    """What the ledger says of these exact bytes, with proof.

    Raises:
        FormatError: the rows are broken.
        UsageError: as :func:`key_in`.
    """
    return prove_key(ledger, key_in(ledger, document, salt))


def prove_key(ledger: Ledger, key: str) -> Proof:
    """As :func:`prove`, for a key.

    Raises:
        RecordError: rows or index are broken, so that the proof does not hold.
    """
    intake, kept = (ledger.claim(tree, key) for tree in TREES)
    claims = [intake, kept]
    row = intake.leaves[0].row
    if intake.kind == "included" and isinstance(row, IntakeRow):
        became = kept_as(row)
        if became is not None and became != key:
            claims.append(ledger.claim("kept", became))
    proof = Proof(key, ledger.descriptor, tuple(claims))
    report = check_proof(strictjson.dumps(proof.to_json()), Anchor.of(ledger.descriptor))
    faults = [claim for claim in report.claims if claim.status != "proved"]
    if faults:
        raise RecordError(
            f"the ledger cannot prove what it says: {faults[0].says}: {faults[0].why}",
            str(ledger.folder),
            "restore its files as they were written; an .index file can be deleted",
        )
    return proof


def hints(ledger: Ledger, document: bytes, salt: bytes | None = None) -> list[str]:
    """Forms of the document that the ledger has though not these bytes: hints, never proof."""
    found = []
    for what, form in _forms(document).items():
        key = key_in(ledger, form, salt)
        trees = [tree for tree in TREES if ledger.rows[tree].find(key)[1]]
        if form != document and trees:
            found.append(f"{what} is in the {' and '.join(trees)} tree, with key {key}")
    return found


def _forms(document: bytes) -> dict[str, bytes]:
    """The document as curation would write it, and with or without its last line end."""
    forms = {
        "the same text without its last line end": document.removesuffix(b"\n"),
        "the same text with a line end more": document + b"\n",
    }
    try:
        text = unicodedata.normalize("NFC", document.decode())
    except UnicodeDecodeError:
        return forms
    plain = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return {**forms, "the same text in NFC without white space at its ends": plain.encode()}


def read_salt(file: Path) -> bytes:
    """The 32 secret bytes in a file, raw or as 64 hex digits.

    Raises:
        EnvironmentFailure: it cannot be read.
        FormatError: it holds something else.
    """
    with open_regular(file) as stream:
        data = stream.read(1024)
    if len(data) == 32:  # provenance page, section 9: salt32
        return data
    try:
        salt = bytes.fromhex(data.decode("ascii").strip())
    except ValueError:
        salt = b""
    if len(salt) != 32:
        raise FormatError("must hold 32 bytes, raw or as 64 hex digits", str(file))
    return salt
