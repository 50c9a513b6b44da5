"""The parts of a document: sections of lines, tables and sentences, filled from the facts.

A section's plan names facts; :func:`fill` puts the values in. Nothing is formatted here, so JSON
and Markdown are views of the same filled sections.

Source: compliance page, sections 8 and 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebear.documents.fields import FIELDS_BY_ID
from forebear.documents.values import Facts, Missing, Value, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

WITHHELD = "The provider has chosen not to publish compute, training time and energy."


@dataclass(frozen=True, slots=True)
class Lines:
    """Plan: one line per fact, (fact id, label); the registry's label where it is empty."""

    facts: tuple[tuple[str, str], ...]
    compute: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Plan: a table of facts.

    Attributes:
        columns: (cell name, column label).
        empty: sentence that stands in place of an empty table.
        compute: withheld when compute and energy are not published.
        skip: rows whose cell of this name does not apply are left out.
    """

    fact: str
    caption: str
    columns: tuple[tuple[str, str], ...]
    empty: str
    compute: bool = False
    skip: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Plan: a sentence of ours."""

    text: str


Plan = Lines | Table | Text


@dataclass(frozen=True, slots=True)
class Section:
    """Plan of a section; ``oecd`` names what each part of the profile answers to."""

    heading: str
    plans: tuple[Plan, ...]
    oecd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A filled line."""

    fact: str
    label: str
    value: Value
    missing: Missing | None


@dataclass(frozen=True, slots=True)
class Block:
    """A filled plan: lines, or a table with caption and cells, or a sentence.

    Attributes:
        kind: ``lines``, ``table`` or ``text``.
        names: labels of the columns.
        missing: for a table of declarations that is not there.
    """

    kind: str
    lines: tuple[Line, ...] = ()
    fact: str = ""
    caption: str = ""
    names: tuple[str, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    text: str = ""
    missing: Missing | None = None

    def to_json(self) -> dict[str, Any]:
        """The block with exact values."""
        if self.kind == "text":
            return {"kind": "text", "text": self.text}
        if self.kind == "table":
            body: dict[str, Any] = {
                "kind": "table", "fact": self.fact, "caption": self.caption,
                "columns": list(self.names), "rows": [[_plain(v) for v in r] for r in self.rows],
            }  # fmt: skip
            return {**body, "missing": True} if self.missing is not None else body
        return {
            "kind": "lines",
            "lines": [
                {
                    "fact": line.fact,
                    "label": line.label,
                    "value": _plain(line.value),
                    "missing": line.missing is not None,
                }
                for line in self.lines
            ],
        }


def _plain(value: Value) -> dict[str, Any]:
    return value.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def fill(plans: Sequence[Plan], facts: Facts) -> list[Block]:
    """The plans with the values put in; withheld parts give one sentence."""
    missing = {entry.field: entry for entry in facts.missing}
    withheld = facts.values.get("publish.compute_energy", unknown("absent")).value is False
    blocks: list[Block] = []
    for plan in plans:
        if isinstance(plan, Text):
            blocks.append(Block("text", text=plan.text))
        elif plan.compute and withheld:
            sentence = Block("text", text=WITHHELD)
            if sentence not in blocks:
                blocks.append(sentence)
        elif isinstance(plan, Lines):
            blocks.append(Block("lines", lines=_lines(plan, facts, missing)))
        else:
            blocks.append(_table(plan, facts, missing))
    return blocks


def _lines(plan: Lines, facts: Facts, missing: dict[str, Missing]) -> tuple[Line, ...]:
    return tuple(
        Line(
            fact,
            label or FIELDS_BY_ID[fact].label,
            facts.values.get(fact, unknown("not recorded")),
            missing.get(fact),
        )
        for fact, label in plan.facts
    )


def _table(plan: Table, facts: Facts, missing: dict[str, Missing]) -> Block:
    rows = [
        row
        for row in facts.tables.get(plan.fact, ())
        if not plan.skip or row.cells[plan.skip].kind != "not_applicable"
    ]
    if not rows and plan.fact not in missing:
        return Block("text", text=f"{plan.caption}: {plan.empty}")
    return Block(
        "table",
        fact=plan.fact,
        caption=plan.caption,
        names=tuple(label for _, label in plan.columns),
        rows=tuple(
            tuple(row.cells.get(c, unknown("not recorded")) for c, _ in plan.columns)
            for row in rows
        ),
        missing=missing.get(plan.fact),
    )
