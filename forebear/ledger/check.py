"""Holds a proof against roots that the checker knows from elsewhere; needs no rows, no network.

Pure: bytes in, report out. The anchor is a whole ``root.json`` (roots and sizes) or bare roots. A
root does not bind the size of its tree, so the *place* of a leaf is only as true as the size. That
a leaf is there, and that two are neighbours, holds under whatever size the proof names: turns left
and right from the root fix both (tested by exhausting small trees).

Rests on: RFC 9162, section 2.1.3.2; provenance page, section 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, Self

from forebear.errors import FormatError
from forebear.formats import merkle, strictjson
from forebear.ledger.build import FIRST_LEAF, LAST_LEAF, IntakeRow, document_key, leaf_data
from forebear.ledger.proof import Claim, Descriptor, Proof, parse_proof
from forebear.ledger.rowfile import Leaf
from forebear.ledger.words import answer, kept_as, verdict

Status = Literal["proved", "failed", "unchecked"]


@dataclass(frozen=True, slots=True)
class Anchor:
    """Roots that the checker trusts.

    Attributes:
        sizes: number of leaves by root; None where only the root is known.
        descriptor: the whole ``root.json``, when that is what is known.
    """

    sizes: Mapping[str, int | None] = field(default_factory=dict)
    descriptor: Descriptor | None = None

    @classmethod
    def of(cls, descriptor: Descriptor) -> Self:
        """The anchor that a trusted ``root.json`` gives."""
        return cls(descriptor=descriptor)


@dataclass(frozen=True, slots=True)
class Checked:
    """One claim and what became of it; ``why`` is empty where it is proved."""

    says: str
    status: Status
    why: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All claims of one proof.

    Attributes:
        claims: in the proof's order.
        verdict: ``kept``, ``dropped`` or ``never seen``; ``unproved`` unless everything holds.
        key: of the document.
    """

    claims: tuple[Checked, ...]
    verdict: str
    key: str = ""

    @property
    def holds(self) -> bool:
        """Every claim is proved."""
        return bool(self.claims) and all(claim.status == "proved" for claim in self.claims)

    @property
    def failed(self) -> bool:
        """A claim does not hold."""
        return any(claim.status == "failed" for claim in self.claims)


def descriptor_digest(proof: Proof) -> str:
    """SHA-256 of the ``root.json`` that the proof says it is about."""
    return sha256(strictjson.dumps(dict(proof.descriptor.value))).hexdigest()


def check_proof(
    data: bytes,
    anchor: Anchor,
    *,
    document: bytes | None = None,
    salt: bytes | None = None,
    where: str = "proof",
) -> Report:
    """What of the proof holds under the anchor.

    Args:
        data: the proof file.
        anchor: roots that the caller knows to be right.
        document: when given, the proof must be about these bytes.
        salt: of the ledger, needed with ``document`` when it is salted.
        where: name of the file, for messages.
    """
    try:
        proof = parse_proof(data, where=where)
    except FormatError as error:
        return Report((Checked(f"{error.where}: the proof", "failed", error.what),), "unproved")
    claims = [
        Checked(says, *_judge(claim, proof, anchor))
        for says, claim in zip(answer(proof), proof.claims, strict=True)
    ]
    fault = _story_fault(proof)
    if fault:
        claims.append(Checked("the claims tell one story", "failed", fault))
    if document is not None:
        claims.append(_about(proof, document, salt))
    report = Report(tuple(claims), "unproved", proof.key)
    return Report(report.claims, verdict(proof), proof.key) if report.holds else report


def _about(proof: Proof, document: bytes, salt: bytes | None) -> Checked:
    says = "the proof is about the document given"
    if proof.descriptor.salted and salt is None:
        return Checked(says, "unchecked", "the keys of this ledger are salted, and no salt is here")
    if document_key(document, salt if proof.descriptor.salted else None) != proof.key:
        return Checked(says, "failed", "its key is another one: these are not the bytes")
    return Checked(says, "proved")


def _story_fault(proof: Proof) -> str:
    """Why the claims do not answer for the document; empty when they do."""
    if [(claim.tree, claim.key) for claim in proof.claims[:2]] != [
        ("intake", proof.key),
        ("kept", proof.key),
    ]:
        return "the first two must be about the document, in intake and in kept"
    row = proof.claims[0].leaves[0].row
    included = proof.claims[0].kind == "included"
    became = kept_as(row) if included and isinstance(row, IntakeRow) else None
    wanted = [became] if became not in {None, proof.key} else []
    if [claim.key for claim in proof.claims[2:]] != wanted:
        return "the others must be about what the document became, and nothing else"
    if became is not None and proof.claims[-1].kind != "included":
        return "it is said to be kept, but what it became is not in kept"
    return ""


def _judge(claim: Claim, proof: Proof, anchor: Anchor) -> tuple[Status, str]:
    if anchor.descriptor is not None:
        if dict(anchor.descriptor.value) != dict(proof.descriptor.value):
            return "failed", "the proof is about another ledger: its root.json is not this one"
        root, size = anchor.descriptor.root(claim.tree), anchor.descriptor.leaves(claim.tree)
    else:
        root = proof.descriptor.root(claim.tree)
        if root not in anchor.sizes:
            return _not_anchored(claim, proof, anchor)
        known = anchor.sizes[root]
        size = claim.size if known is None else known
    if claim.size != size:
        return "failed", f"is a proof for a tree of {claim.size} leaves; this one has {size}"
    fault = _fault(claim, root, size)
    return ("failed", fault) if fault else ("proved", "")


def _not_anchored(claim: Claim, proof: Proof, anchor: Anchor) -> tuple[Status, str]:
    roots = {proof.descriptor.root(one.tree) for one in proof.claims}
    if roots.isdisjoint(anchor.sizes):
        return "failed", "stands under another root than the one given"
    return "unchecked", f"the root of the {claim.tree} tree was not given"


def _fault(claim: Claim, root: str, size: int) -> str:
    """What is wrong with a claim under a root; empty when nothing is."""
    for leaf in claim.leaves:
        data = _leaf_data(leaf, size)
        if data is None:
            return "a leaf without a row stands elsewhere than at the ends"
        hashes = [bytes.fromhex(text) for text in leaf.hashes]
        if not merkle.verify_inclusion(
            merkle.leaf_hash(data), leaf.index, size, hashes, bytes.fromhex(root)
        ):
            return "the hashes do not lead to the root: leaf, place or proof was changed"
    if claim.kind == "included":
        row = claim.leaves[0].row
        return "" if row is not None and row.key == claim.key else "the leaf has another key"
    left, right = claim.leaves
    if right.index != left.index + 1:
        return "the two leaves are no neighbours"
    low = left.row.key if left.row is not None else ""
    high = right.row.key if right.row is not None else "g"
    return "" if low < claim.key < high else "the two leaves do not enclose the key"


def _leaf_data(leaf: Leaf, size: int) -> bytes | None:
    if leaf.row is not None:
        return leaf_data(leaf.row)
    return {0: FIRST_LEAF, size - 1: LAST_LEAF}.get(leaf.index)
