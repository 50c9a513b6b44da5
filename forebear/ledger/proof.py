"""The proof as a document: what it claims, how it is written down and read back.

Pure: knows no files and judges nothing. ``forebear.ledger.prove`` makes proofs from rows,
``forebear.ledger.check`` holds them against a root.

Rests on: provenance page, section 9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.ledger.build import VERSION, IntakeRow, LedgerRow, Row, parse_row, row_meta
from forebear.ledger.rowfile import TREES, Leaf, Tree

SCHEMA = "forebear.ledger-proof/v1"
Kind = Literal["included", "absent"]

_HEX = re.compile(r"[0-9a-f]{64}")
_TREE_FIELDS = {"copies", "documents", "leaves", "root"}
# A tree over 2^64 leaves is 64 levels high.
_MAX_HASHES = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """That a key is in a tree, or is not.

    Attributes:
        tree: ``kept`` or ``intake``.
        kind: ``included`` (one leaf) or ``absent`` (the two that enclose the key).
        key: hex.
        size: leaves of the tree.
        leaves: with their proofs.
    """

    tree: Tree
    kind: Kind
    key: str
    size: int
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What ``root.json`` says: roots and sizes of both trees.

    Attributes:
        value: as JSON values; their canonical bytes are the file.
    """

    value: Mapping[str, Any]

    def root(self, tree: Tree) -> str:
        """Root of a tree, hex."""
        return str(self.value[tree]["root"])

    def leaves(self, tree: Tree) -> int:
        """Number of its leaves."""
        return int(self.value[tree]["leaves"])

    @property
    def salted(self) -> bool:
        """Whether keys are salted."""
        return bool(self.value.get("salted", False))


@dataclass(frozen=True, slots=True)
class Proof:
    """What one ledger says of one document.

    Attributes:
        key: of the document.
        descriptor: of the ledger.
        claims: the first is about the document in ``intake``, then in ``kept``; after that, about
            what it became.
    """

    key: str
    descriptor: Descriptor
    claims: tuple[Claim, ...]

    def to_json(self) -> dict[str, Any]:
        """The proof as JSON values; :func:`parse_proof` is the inverse."""
        return {
            "schema": SCHEMA,
            "key": self.key,
            "ledger": dict(self.descriptor.value),
            "claims": [_claim_to_json(claim) for claim in self.claims],
        }


def parse_descriptor(data: bytes, *, where: str) -> Descriptor:
    """What ``root.json`` holds.

    Raises:
        FormatError: not canonical, or not what ``descriptor`` gives.
    """
    return read_descriptor(strictjson.parse_canonical(data, where=where), where=where)


def read_descriptor(value: object, *, where: str) -> Descriptor:
    """The descriptor in JSON values. Raises FormatError."""
    if (
        not isinstance(value, dict)
        or value.keys() - {"salted"} != {"version", *TREES}
        or value["version"] != VERSION
        or value.get("salted", True) is not True
    ):
        raise FormatError(f"is no descriptor of a ledger of version {VERSION}", where)
    for tree in TREES:
        one = value[tree]
        if not isinstance(one, dict) or one.keys() != _TREE_FIELDS or not _is_hex(one["root"]):
            raise FormatError(f"tells no root of the tree {tree!r}", where)
        numbers = [one[name] for name in ("copies", "documents", "leaves")]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise FormatError(f"counts of the tree {tree!r} are no whole numbers", where)
        if one["leaves"] != one["documents"] + 2:
            raise FormatError(f"the tree {tree!r} must have two leaves more than documents", where)
    return Descriptor(value)


def parse_proof(data: bytes, *, where: str) -> Proof:
    """The proof in a file.

    Raises:
        FormatError: it is none.
    """
    value = strictjson.parse(data, where=where)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise FormatError(f"is no proof of schema {SCHEMA}", where)
    if value.keys() != {"schema", "key", "ledger", "claims"} or not _is_hex(value["key"]):
        raise FormatError("a proof has schema, key, ledger and claims", where)
    if not isinstance(value["claims"], list) or not 1 <= len(value["claims"]) <= 16:
        raise FormatError("a proof has from 1 to 16 claims", where)
    return Proof(
        value["key"],
        read_descriptor(value["ledger"], where=f"{where}: ledger"),
        tuple(
            _read_claim(claim, f"{where}: claim {number}")
            for number, claim in enumerate(value["claims"], 1)
        ),
    )


def _is_hex(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _claim_to_json(claim: Claim) -> dict[str, Any]:
    return {
        "tree": claim.tree,
        "kind": claim.kind,
        "key": claim.key,
        "size": claim.size,
        "leaves": [
            {
                "index": leaf.index,
                "hashes": list(leaf.hashes),
                "row": None if leaf.row is None else {"key": leaf.row.key, **row_meta(leaf.row)},
            }
            for leaf in claim.leaves
        ],
    }


def _read_claim(value: object, where: str) -> Claim:
    if not isinstance(value, dict) or value.keys() != {"tree", "kind", "key", "size", "leaves"}:
        raise FormatError("a claim has tree, kind, key, size and leaves", where)
    tree, kind, key, size = (value[name] for name in ("tree", "kind", "key", "size"))
    if tree not in TREES or kind not in {"included", "absent"} or not _is_hex(key):
        raise FormatError("tree, kind or key is none that there is", where)
    wanted = 1 if kind == "included" else 2
    if type(size) is not int or not isinstance(value["leaves"], list):
        raise FormatError("size must be a whole number, leaves a list", where)
    if len(value["leaves"]) != wanted:
        raise FormatError(f"a claim that a key is {kind} has {wanted} leaf proof(s)", where)
    leaves = tuple(_read_leaf(leaf, tree, where) for leaf in value["leaves"])
    return Claim(tree, cast("Kind", kind), key, size, leaves)


def _read_leaf(value: object, tree: Tree, where: str) -> Leaf:
    if not isinstance(value, dict) or value.keys() != {"index", "hashes", "row"}:
        raise FormatError("a leaf has index, hashes and row", where)
    hashes = value["hashes"]
    if type(value["index"]) is not int or not isinstance(hashes, list):
        raise FormatError("index must be a whole number, hashes a list", where)
    if len(hashes) > _MAX_HASHES or not all(map(_is_hex, hashes)):
        raise FormatError("hashes must be at most 64 texts of 64 lower-case hex digits", where)
    return Leaf(_read_row(value["row"], tree, where), value["index"], tuple(hashes))


def _read_row(value: object, tree: Tree, where: str) -> Row | None:
    if value is None:
        return None
    line = strictjson.dumps(value, where=where)
    if tree == "kept":
        return parse_row(line, LedgerRow, where=where)
    return parse_row(line, IntakeRow, where=where)
