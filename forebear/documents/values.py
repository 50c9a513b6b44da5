"""The one shape of a shown value, and ``facts.json`` as the list of all of them.

A value is computed, declared, reported, unknown or not applicable; there is no sixth kind. A
computed value without evidence, a declared one without a person and an unknown one with a value
are refused when they are made, so no document can show them.

Source: compliance page, sections 1 and 3.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, model_validator

from forebear.formats import strictjson

if TYPE_CHECKING:
    from collections.abc import Iterator

FACTS_SCHEMA = "1.0.0"

Kind = Literal["computed", "declared", "reported", "unknown", "not_applicable"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EvidenceRef(_Part):
    """One place in one signed file.

    Attributes:
        path: relative to the repository; for a link the pointer goes into its signed payload.
        sha256: digest of that file.
        pointer: RFC 6901 pointer to the value.
        link: path of the link that signs the file; the file itself when it is a link.
        link_sha256: digest of the link; None for the params of the stage that writes the
            documents, whose own link is signed after it ends.
        tree: the directory out that the link signs as a whole, when the file lies in one.
    """

    path: str
    sha256: str
    pointer: str
    link: str
    link_sha256: str | None = None
    tree: str | None = None


class Declarer(_Part):
    """The person who said it, in which role, and when (ISO date)."""

    name: str
    role: str
    date: str


class Interval(_Part):
    """Bounds of a measured value; ``level`` between 0 and 1."""

    low: float
    high: float
    level: float
    method: str


class Source(_Part):
    """Where a third party published it."""

    title: str
    url: str
    retrieved: str


class Value(_Part):
    """One shown value and what it rests on.

    Attributes:
        estimate: True when it follows from a formula over other figures, named by ``method``.
        lower_bound: a part of it is not known, so the true figure is this or larger.
        evidence: places in signed files, at least one unless ``inputs`` are given.
        inputs: ids of the facts that a derived value is made of.
        reason: why it is unknown or not applicable.
    """

    kind: Kind
    value: JsonValue = None
    unit: str | None = None
    estimate: bool = False
    lower_bound: bool = False
    method: str | None = None
    interval: Interval | None = None
    evidence: tuple[EvidenceRef, ...] = ()
    inputs: tuple[str, ...] = ()
    by: Declarer | None = None
    declarations_sha256: str | None = None
    source: Source | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _holds(self) -> Value:
        rests = {
            "computed": bool(self.evidence or self.inputs),
            "declared": self.by is not None and self.declarations_sha256 is not None,
            "reported": self.source is not None,
            "unknown": bool(self.reason),
            "not_applicable": bool(self.reason),
        }
        if not rests[self.kind]:
            raise ValueError(f"a value of kind {self.kind} does not say what it rests on")
        if self.kind in ("unknown", "not_applicable") and self.value is not None:
            raise ValueError(f"a value of kind {self.kind} has a value")
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise ValueError("is not finite")
        return self


class Row(_Part):
    """One line of a table; ``key`` is unique within it and stays the same between releases."""

    key: str
    cells: dict[str, Value]


class Missing(_Part):
    """A required declaration that is not there, or one that cannot be used.

    Attributes:
        code: ``C101`` absent, ``C102`` placeholder, ``C103`` unknown not accepted, ``C104`` of the
            wrong type or none of the choices.
        supplier: who can supply it.
        detail: what is wrong with what stands there.
    """

    code: Literal["C101", "C102", "C103", "C104"]
    field: str
    label: str
    supplier: str
    detail: str = ""


class Approval(_Part):
    """One required approval of the facts, and where it stands.

    Attributes:
        decision: ``approve`` or ``reject``; empty where there is none.
        file: of the signed statement, with its digest.
    """

    role: str
    name: str = ""
    decision: str = ""
    note: str = ""
    time: str = ""
    keyid: str = ""
    file: str = ""
    sha256: str = ""
    status: Literal["valid", "out_of_date", "rejected", "untrusted_key", "same_key", "missing"]


class EvidenceFile(_Part):
    """One file that values rest on, and the link that signs it."""

    path: str
    sha256: str
    link: str
    link_sha256: str | None = None
    tree: str | None = None


class Facts(_Part):
    """Everything that the documents show; ``facts.json``.

    Attributes:
        document_time: end time of the newest link used; no clock is read.
        evidence_root: digest over path and digest of every file used.
        legal_version: name of the file of legal constants, with its digest.
        values: by fact id.
        tables: by fact id, rows in the order shown.
        approvals: of these facts; they do not enter :meth:`sha256`.
    """

    facts_schema: str = FACTS_SCHEMA
    document_time: str
    evidence_root: str
    declarations_sha256: str | None = None
    legal_version: str = ""
    legal_sha256: str = ""
    evidence: tuple[EvidenceFile, ...]
    values: dict[str, Value]
    tables: dict[str, tuple[Row, ...]] = Field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    approvals: tuple[Approval, ...] = ()
    _digest: tuple[tuple[int, ...], str] | None = PrivateAttr(default=None)

    @property
    def draft(self) -> bool:
        """Whether a required declaration is missing."""
        return len(self.missing) > 0

    def leaves(self) -> Iterator[tuple[str, Value]]:
        """Every value with its id; ``table[row].column`` for those in tables."""
        yield from self.values.items()
        for table, rows in self.tables.items():
            for row in rows:
                for column, value in row.cells.items():
                    yield leaf_id(table, row.key, column), value

    def to_bytes(self) -> bytes:
        """The file's bytes: canonical JSON, absent fields left out."""
        return strictjson.dumps(self.model_dump(mode="json", exclude_none=True))

    def sha256(self) -> str:
        """Digest of the canonical JSON without approvals and without the final newline."""
        # kept, since every document asks for it; a copy with other parts has a digest of its own
        parts = tuple(id(getattr(self, name)) for name in type(self).model_fields
                      if name != "approvals")  # fmt: skip
        if self._digest is None or self._digest[0] != parts:
            body = self.model_dump(mode="json", exclude_none=True, exclude={"approvals"})
            self._digest = parts, hashlib.sha256(strictjson.canonical(body)).hexdigest()
        return self._digest[1]


Values = dict[str, Value]
Tables = dict[str, tuple[Row, ...]]


def leaf_id(table: str, key: str, column: str) -> str:
    """Id of one cell."""
    return f"{table}[{key}].{column}"


def unknown(reason: str) -> Value:
    """A value that nobody recorded, and why."""
    return Value(kind="unknown", reason=reason)


def not_applicable(reason: str) -> Value:
    """A value that cannot exist here, and the rule that makes it so."""
    return Value(kind="not_applicable", reason=reason)
