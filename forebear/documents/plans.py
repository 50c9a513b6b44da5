"""Plans of documents: which facts stand where, and the body that they make when filled.

A plan names facts and labels, never a value. What a plan names is shown also when it is unknown.

Source: compliance page, sections 8 and 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebear.documents import body
from forebear.documents.values import Facts, Missing, Value, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from forebear.documents.locale import Locale

SCHEMAS = "https://github.com/forebear-ml/forebear/schemas"


@dataclass(frozen=True, slots=True)
class Lines:
    """One line per fact; the label is ``fact.<id>`` of the catalogue."""

    facts: tuple[str, ...]
    compute: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of facts.

    Attributes:
        fact: id of the table.
        cells: shown, in order; labels ``column.<fact>.<cell>`` or ``column.<cell>``.
        key: caption ``table.<key>``; the fact's id where it is empty.
        compute: withheld when compute and energy are not published.
        skip: rows whose cell of this name does not apply are left out.
        records: each row as lines of its own, headed by its first cell, for many cells.
        only: rows to keep, by a cell and its accepted values.
        score: cell that says so when it was measured without an interval.
    """

    fact: str
    cells: tuple[str, ...]
    key: str = ""
    compute: bool = False
    skip: str = ""
    records: bool = False
    only: tuple[str, tuple[str, ...]] | None = None
    score: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence of ours: ``text.<key>`` of the catalogue."""

    key: str


@dataclass(frozen=True, slots=True)
class Made:
    """Blocks that a function makes; ``shows`` names the facts that it uses."""

    make: Callable[[Facts, Locale], Iterable[body.Block]]
    shows: tuple[str, ...] = ()
    compute: bool = False


Plan = Lines | Table | Text | Made


@dataclass(frozen=True, slots=True)
class Section:
    """Plan of a section: heading ``section.<key>``, number as shown, parts of the OECD profile."""

    key: str
    plans: tuple[Plan, ...]
    number: str = ""
    level: int = 2
    oecd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """Plan of a document.

    Attributes:
        id: ``D1`` to ``D13``.
        name: of its files, without ending, below the documents' folder.
        key: title ``title.<key>``; schema of the same name.
        intro: sentences ``text.<key>``.
        public: withholds compute and energy when they are not to be published.
    """

    id: str
    name: str
    key: str
    sections: tuple[Section, ...]
    intro: tuple[str, ...] = ()
    public: bool = True


def fill(document: Document, facts: Facts, locale: Locale, **words: object) -> body.Body:
    """The document with the values put in.

    Args:
        document: its plan.
        facts: what may be shown.
        locale: language of the labels.
        words: put into the sentences of the introduction.
    """
    name = facts.values.get("model.name", unknown("no name is given"))
    return body.Body(
        schema_=f"{SCHEMAS}/{document.key}.json",
        id=document.id,
        title=f"{locale.text(f'title.{document.key}')}: {name.value or locale.text('unnamed')}",
        language=locale.language,
        draft=facts.draft,
        n_missing=len(facts.missing),
        intro=tuple(locale.text(f"text.{key}", **words) for key in document.intro),
        sections=tuple(
            body.Section(
                number=section.number,
                level=section.level,
                heading=locale.text(f"section.{section.key}"),
                oecd=section.oecd,
                blocks=tuple(fill_plans(section.plans, facts, locale, public=document.public)),
            )
            for section in document.sections
        ),
        footer=footer_of(facts),
    )


def footer_of(facts: Facts) -> body.Footer:
    """What every document says about itself."""

    def value(fact: str) -> Value:
        return facts.values.get(fact, unknown("not recorded"))

    return body.Footer(
        name=value("model.name"),
        version=value("model.version"),
        digest=value("model.digest"),
        document_time=facts.document_time,
        evidence_root=facts.evidence_root,
        facts_sha256=facts.sha256(),
        declarations_sha256=facts.declarations_sha256,
        legal_file=getattr(facts, "legal_version", None),
        approvals=tuple(
            body.Approved(role=one.role, name=one.name, time=one.time, status=one.status)
            for one in getattr(facts, "approvals", ())
        ),
    )


def fill_plans(
    plans: Sequence[Plan], facts: Facts, locale: Locale, *, public: bool
) -> list[body.Block]:
    """The blocks of the plans; parts that are withheld give one sentence."""
    missing = {entry.field: entry for entry in facts.missing}
    blocks: list[body.Block] = []
    for plan in plans:
        if public and not isinstance(plan, Text) and plan.compute and is_withheld(facts):
            sentence = body.TextBlock(text=locale.text("text.withheld"))
            if sentence not in blocks:
                blocks.append(sentence)
        elif isinstance(plan, Text):
            blocks.append(body.TextBlock(text=locale.text(f"text.{plan.key}")))
        elif isinstance(plan, Lines):
            lines = tuple(line(fact, facts, locale) for fact in plan.facts)
            # two lists in a row would be one to whoever reads Markdown
            last = blocks[-1] if blocks else None
            if isinstance(last, body.LinesBlock):
                lines = (*last.lines, *lines)
                blocks.pop()
            blocks.append(body.LinesBlock(lines=lines))
        elif isinstance(plan, Made):
            blocks.extend(plan.make(facts, locale))
        else:
            blocks.append(_table(plan, facts, missing, locale))
    return blocks


def is_withheld(facts: Facts) -> bool:
    """Whether the provider declared that compute, time and energy are not published."""
    choice = facts.values.get("publish.compute_energy")
    return choice is not None and choice.value is False


def line(fact: str, facts: Facts, locale: Locale) -> body.Line:
    """One fact as a line; unknown when nothing is recorded."""
    supplier = next((entry.supplier for entry in facts.missing if entry.field == fact), None)
    return body.Line(
        fact=fact,
        label=locale.text(f"fact.{fact}"),
        value=facts.values.get(fact, unknown(locale.text("reason.not_recorded"))),
        missing=supplier,
    )


def _table(plan: Table, facts: Facts, missing: dict[str, Missing], locale: Locale) -> body.Block:
    caption = locale.text(f"table.{plan.key or plan.fact}")
    entry = missing.get(plan.fact)
    rows = [row for row in facts.tables.get(plan.fact, ()) if _is_kept(row.cells, plan)]
    if not rows and entry is None:
        empty = locale.first(f"empty.{plan.key or plan.fact}", "empty")
        return body.TextBlock(text=f"{caption}: {empty}")
    absent = unknown(locale.text("reason.not_recorded"))
    labels = tuple(
        locale.first(f"column.{plan.fact}.{cell}", f"column.{cell}") for cell in plan.cells
    )
    cells = tuple(tuple(row.cells.get(cell, absent) for cell in plan.cells) for row in rows)
    supplier = None if entry is None else entry.supplier
    if not plan.records:
        return body.TableBlock(
            fact=plan.fact, caption=caption, columns=labels, rows=cells, missing=supplier,
            unsure=plan.cells.index(plan.score) if plan.score else None,
        )  # fmt: skip
    records = tuple(
        body.Record(
            heading=_heading(row.cells.get(plan.cells[0], absent), row.key, locale),
            lines=tuple(
                body.Line(fact=f"{plan.fact}[{row.key}].{cell}", label=label, value=value)
                for cell, label, value in zip(plan.cells, labels, values, strict=True)
            ),
        )
        for row, values in zip(rows, cells, strict=True)
    )
    return body.RecordsBlock(fact=plan.fact, caption=caption, records=records, missing=supplier)


def _heading(value: Value, key: str, locale: Locale) -> str:
    return key if value.value is None else locale.word("name", str(value.value))


def _is_kept(cells: dict[str, Value], plan: Table) -> bool:
    if plan.skip and plan.skip in cells and cells[plan.skip].kind == "not_applicable":
        return False
    if plan.only is None:
        return True
    cell, accepted = plan.only
    return cell in cells and str(cells[cell].value) in accepted


def facts_of(document: Document) -> set[str]:
    """Ids of the facts and tables that a document shows."""
    shown: set[str] = set()
    for section in document.sections:
        for plan in section.plans:
            if isinstance(plan, Lines):
                shown.update(plan.facts)
            elif isinstance(plan, Table):
                shown.add(plan.fact)
            elif isinstance(plan, Made):
                shown.update(plan.shows)
    return shown
