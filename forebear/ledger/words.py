"""What a proof claims, in words; true only as far as the proof holds.

Rests on: provenance page, section 9.
"""

from __future__ import annotations

from forebear.ledger.build import IntakeRow, LedgerRow
from forebear.ledger.proof import Claim, Proof


def kept_as(row: IntakeRow) -> str | None:
    """Key of what was kept of a document that was read; None when it was dropped."""
    word, _, what = row.fate.partition(":")
    return what if word == "kept" else None


def answer(proof: Proof) -> list[str]:
    """What the claims say, in words; true only as far as the proof holds."""
    return [_words(proof, claim) for claim in proof.claims]


def verdict(proof: Proof) -> str:
    """``kept``, ``dropped`` or ``never seen``, as the first two claims say."""
    intake, kept = proof.claims[0], proof.claims[1]
    row = intake.leaves[0].row
    if kept.kind == "included":
        return "kept"
    if intake.kind == "included" and isinstance(row, IntakeRow):
        return "kept" if kept_as(row) else "dropped"
    return "never seen"


def _words(proof: Proof, claim: Claim) -> str:
    about = "the document" if claim.key == proof.key else f"what it became, {claim.key:.12}…,"
    if claim.kind == "absent":
        if claim.tree == "intake":
            return f"{about} is not among the documents read: never seen in this form"
        return f"{about} is not among the texts trained on"
    row = claim.leaves[0].row
    times = f", {row.copies} times" if row is not None and row.copies > 1 else ""
    if isinstance(row, LedgerRow):
        return (
            f"{about} is among the texts kept for training{times}: "
            f"source {row.source}, licence {row.license}, split {row.split}"
        )
    if not isinstance(row, IntakeRow):
        return f"{about} is a leaf that holds no document"
    became = kept_as(row)
    if became is None:
        what = row.fate.partition(":")[2]
        return f"{about} was read from source {row.source}{times} and dropped by filter {what!r}"
    return f"{about} was read from source {row.source}{times} and kept as {became}"
