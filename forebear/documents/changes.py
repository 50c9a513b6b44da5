"""Changes against the release before (D12).

Source: compliance page, sections 8 (D12) and 11.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from forebear.documents import body
from forebear.documents.compare import AREAS, Change, compare_facts, suggested_bump
from forebear.documents.fields import DECLARED
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import SCHEMAS, footer_of, is_withheld, line
from forebear.documents.values import Facts, Source, Value, not_applicable, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.documents.locale import Locale

ID = "D12"
NAME = "changes"
SHOWS = {ID: {"release.changes", "release.previous", "model.version"}}
# where figures of compute, time and energy stand; the ratio of the rules names some
_COMPUTE = ("compute", "law")
_CELL = re.compile(r"(?P<table>[^\[]+)\[(?P<key>.*)\](?:\.(?P<cell>[^.]+))?")


def render(facts: Facts, language: str = "en", previous: Facts | None = None) -> dict[str, bytes]:
    """What changed, in Markdown, HTML and JSON; a first release says that it is one."""
    locale = load_locale(language)
    changes = () if previous is None else compare_facts(previous, facts)
    if is_withheld(facts):
        changes = tuple(change for change in changes if change.area not in _COMPUTE)
    sections = [_notes(facts, locale)]
    intro = [locale.text("text.d12.first" if previous is None else "text.d12.intro")]
    if previous is not None:
        sections += _sections(changes, previous, locale)
        bump = suggested_bump(changes)
        intro.append(locale.text("text.d12.bump", bump=locale.text(f"bump.{bump}"),
                                 old=previous.values["model.version"].value or "?",
                                 new=facts.values["model.version"].value or "?"))  # fmt: skip
        if any(change.material and change.area == "data" for change in changes):
            intro.append(locale.text("text.d12.duty"))
    name = facts.values["model.name"].value or locale.text("unnamed")
    document = body.Body(
        schema_=f"{SCHEMAS}/changes.json",
        id=ID,
        title=f"{locale.text('title.changes')}: {name}",
        language=language,
        draft=facts.draft,
        n_missing=len(facts.missing),
        intro=tuple(intro),
        sections=tuple(sections),
        footer=footer_of(facts),
    )
    return files_of(document, NAME)


def _notes(facts: Facts, locale: Locale) -> body.Section:
    lines = [line(name, facts, locale) for name in ("release.changes", "release.previous")]
    return body.Section(
        heading=locale.text("section.d12.notes"), blocks=(body.LinesBlock(lines=tuple(lines)),)
    )


def _sections(changes: Sequence[Change], previous: Facts, locale: Locale) -> list[body.Section]:
    source = Source(
        title=locale.text("d12.source"),
        url=f"sha256:{previous.sha256()}",
        retrieved=previous.document_time,
    )
    shown = [change for change in changes if change.kind != "evidence"]
    sections = [
        _section(f"section.d12.{key}", chosen, source, locale)
        for key, chosen in (
            ("material", [c for c in shown if c.material]),
            ("others", [c for c in shown if not c.material]),
        )
    ]
    count = sum(change.kind == "evidence" for change in changes)
    text = body.TextBlock(text=locale.text("text.d12.evidence", count=count))
    heading = locale.text("section.d12.evidence")
    return [*sections, body.Section(heading=heading, blocks=(text,))]


def _section(
    heading: str, changes: Sequence[Change], source: Source, locale: Locale
) -> body.Section:
    blocks: list[body.Block] = []
    for area in AREAS:
        rows = [change for change in changes if change.area == area]
        if rows:
            blocks.append(
                body.TableBlock(
                    fact=area,
                    caption=locale.text(f"area.{area}"),
                    columns=tuple(
                        locale.text(f"column.{name}") for name in ("what", "before", "now", "note")
                    ),
                    heads=tuple(name_of(change.fact, locale) for change in rows),
                    rows=tuple(_cells(change, source, locale) for change in rows),
                )
            )
    if not blocks:
        blocks.append(body.TextBlock(text=locale.text("text.d12.nothing")))
    return body.Section(heading=locale.text(heading), blocks=tuple(blocks))


def _cells(change: Change, source: Source, locale: Locale) -> tuple[Value, ...]:
    absent = not_applicable(locale.text("d12.absent"))
    note = locale.text(f"change.{change.kind}")
    if change.overlap is not None:
        note += "; " + locale.text("overlap.yes" if change.overlap else "overlap.no")
    said = Value(kind="computed", value=note, method="comparison", inputs=(change.fact,))
    if change.cells is not None:
        row = change.row or unknown(locale.text("d12.row"))
        old, new = (row, absent) if change.kind == "removed" else (absent, row)
        return _before(old, source), new, said
    old = absent if change.old is None else change.old
    return _before(old, source), change.new or absent, said


def _before(value: Value, source: Source) -> Value:
    """A value of the release before: reported by that release's facts."""
    if value.value is None:
        return value
    return Value(kind="reported", value=value.value, unit=value.unit, estimate=value.estimate,
                 interval=value.interval, source=source)  # fmt: skip


def name_of(fact: str, locale: Locale) -> str:
    """A fact, a row or a cell in words."""
    if fact.startswith(DECLARED) and f"table.{fact.partition('[')[0]}" not in locale.labels:
        return locale.text("as_declared", name=name_of(fact.removeprefix(DECLARED), locale))
    match = _CELL.fullmatch(fact)
    if match is None:
        return locale.labels.get(f"fact.{fact}") or fact.replace(".", " ").replace("_", " ")
    table, key, cell = match["table"], match["key"], match["cell"]
    row = " / ".join(locale.word("name", part) for part in key.split(":"))
    words = [locale.labels.get(f"table.{table}", table), row]
    if cell:
        words.append(locale.labels.get(f"column.{table}.{cell}")
                     or locale.labels.get(f"column.{cell}", cell.replace("_", " ")))  # fmt: skip
    return ", ".join(words)
