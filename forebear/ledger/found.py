"""What an impact finds: ledgers, stages and checkpoints that met a document, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

How = Literal["saw", "inherits", "may", "measured", "untouched"]
# Stronger first: of several ways in which a stage met the document the strongest is told.
_STRENGTH: tuple[How, ...] = ("saw", "inherits", "may", "measured", "untouched")


def weakness(how: How) -> int:
    """0 for the strongest way of meeting a document; of several the strongest is told."""
    return _STRENGTH.index(how)


@dataclass(frozen=True, slots=True)
class Held:
    """A ledger that holds the document, or does not.

    Attributes:
        stage: whose product the ledger is.
        root: path of its ``root.json``.
        says: what the ledger says of the document, in words.
        texts: keys of kept texts that are the document or were made from it.
    """

    stage: str
    root: str
    says: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Met:
    """How a stage met the document, and how that is known."""

    stage: str
    how: How
    why: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of a stage that met the document.

    Attributes:
        path: of the out; for an intermediate one, its folder inside the out, when known.
        tree: tree digest.
        how: ``saw``, ``inherits``, ``may``; ``untouched`` for one kept before the document came.
        why: how that is known.
    """

    stage: str
    path: str
    tree: str
    how: How
    why: str


@dataclass
class Impact:
    """The whole answer.

    Attributes:
        ledgers: every ledger that the links name.
        met: stages downstream of the ledgers that hold the document, in the order found.
        checkpoints: theirs, final and intermediate.
        unknown: what could not be looked at, in words.
    """

    ledgers: list[Held] = field(default_factory=list)
    met: list[Met] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def retrain(self) -> list[str]:
        """Stages whose outs saw, inherit or may have seen the document."""
        return [one.stage for one in self.met if one.how in {"saw", "inherits", "may"}]
