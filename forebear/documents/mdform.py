"""The Model Documentation Form (D6): one copy for each kind of recipient, from one matrix.

The matrix is data: which recipient sees which row, exactly, rounded or as a range. What a recipient
is not to see is not in that recipient's files at all.

Source: compliance page, section 8, D6; Code of Practice, transparency chapter.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from forebear.documents import body, figures
from forebear.documents.annexes import mark_of
from forebear.documents.legal import load_legal
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import SCHEMAS, Table, fill_plans, footer_of, line
from forebear.documents.strictyaml import parse_mapping
from forebear.documents.values import Facts, Value, not_applicable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

from forebear.documents.locale import Locale

ID = "D6"
RECIPIENTS = {
    "aio": "restricted/model-documentation-form.aio",
    "nca": "restricted/model-documentation-form.nca",
    "dp": "model-documentation-form.dp",
}
HIDDEN = "none"
_CELLS = {
    "data.sets": ("id", "role", "origin", "modality", "languages"),
    "use.channels": ("channel", "access", "url"),
    "use.software": ("name", "version"),
    "model.ancestors": ("name", "relation", "revision"),
    "data.filters": ("filter", "dropped"),
    "train.stages": ("name", "method", "steps", "tokens"),
}
_IN_FULL = {"data.sets": ("id", "publisher", "source_url", "licence", "collected_from",
                          "collected_to", "documents", "known_bias")}  # fmt: skip


@cache
def matrix() -> tuple[Mapping[str, Any], ...]:
    """Rows of the form in order."""
    file = resources.files("forebear") / "data" / "legal" / "mdf.yaml"
    rows = parse_mapping(file.read_bytes(), where="mdf.yaml")["rows"]
    return tuple(rows)


def _shows() -> set[str]:
    return {fact for row in matrix() for fact in row["facts"]}


SHOWS = {ID: _shows()}


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """Three copies, each in Markdown, HTML and JSON."""
    locale = load_locale(language)
    files: dict[str, bytes] = {}
    for recipient, name in RECIPIENTS.items():
        files.update(files_of(form_for(recipient, facts, locale), name))
    return files


def form_for(recipient: str, facts: Facts, locale: Locale) -> body.Body:
    """The copy of one recipient: ``aio``, ``nca`` or ``dp``."""
    name = facts.values["model.name"].value or locale.text("unnamed")
    sections: dict[str, list[body.Block]] = {}
    for row in matrix():
        form = row[recipient]
        if form != HIDDEN:
            blocks = sections.setdefault(row["section"], [])
            for block in _blocks(row, form, recipient, facts, locale):
                _add(blocks, block)
    return body.Body(
        schema_=f"{SCHEMAS}/model-documentation-form.json",
        id=ID,
        title=f"{locale.text('title.model-documentation-form')}: {name}",
        language=locale.language,
        draft=facts.draft,
        n_missing=len(facts.missing),
        intro=(
            locale.text(f"text.d6.{recipient}"),
            locale.text("text.annex.status", status=mark_of(facts, ID, locale)),
        ),
        sections=tuple(
            body.Section(heading=locale.text(f"d6.section.{key}"), blocks=tuple(blocks))
            for key, blocks in sections.items()
        ),
        footer=_footer(facts, recipient),
    )


def _footer(facts: Facts, recipient: str) -> body.Footer:
    footer = footer_of(facts)
    if recipient != "dp":
        return footer
    # authenticity is for the authorities; the downstream copy names the model alone
    hidden = not_applicable("see the release")
    return footer.model_copy(update={"digest": hidden})


def _add(blocks: list[body.Block], block: body.Block) -> None:
    """Lines that follow lines stand in one list with them."""
    if isinstance(block, body.LinesBlock) and blocks and isinstance(blocks[-1], body.LinesBlock):
        blocks[-1] = body.LinesBlock(lines=(*blocks[-1].lines, *block.lines))
    else:
        blocks.append(block)


def _blocks(
    row: Mapping[str, Any], form: str, recipient: str, facts: Facts, locale: Locale
) -> Iterator[body.Block]:
    for fact in row["facts"]:
        if fact in facts.tables or fact in _CELLS:
            cells = _CELLS.get(fact, ())
            if row["item"] in ("obtained", "scope") and fact in _IN_FULL:
                cells = _IN_FULL[fact]
            if recipient != "aio":
                cells = tuple(cell for cell in cells if cell not in ("documents", "tokens"))
            yield from fill_plans(
                [Table(fact, cells, skip="flop" if fact == "train.stages" else "")],
                facts,
                locale,
                public=False,
            )
        else:
            made = line(fact, facts, locale)
            label = locale.first(f"d6.item.{fact}.{form}", f"fact.{fact}")
            value = shaped(made.value, fact, form, facts)
            yield body.LinesBlock(lines=(made.model_copy(update={"label": label, "value": value}),))


def shaped(value: Value, fact: str, form: str, facts: Facts) -> Value:
    """A value as a recipient may see it."""
    if form == "mwh" and value.kind == "unknown":
        withheld = facts.values.get("train.energy_withheld.reason")
        if withheld is not None and withheld.value:
            return not_applicable(str(withheld.value))
    number = value.value
    if form == "exact" or not isinstance(number, (int, float)) or isinstance(number, bool):
        return value
    changes: dict[str, tuple[str, Any, str | None]] = {
        "two_figures": ("two significant figures", figures.two_figures, value.unit),
        "magnitude": ("order of magnitude", figures.magnitude, value.unit),
        "size_range": ("range of the form",
                       load_legal().tiers["model_size"].name, None),
        "time_range": ("range of the form",
                       lambda n: load_legal().tiers["training_time"].name(
                           n / figures.SECONDS_PER_DAY), None),
        "days": ("days, two significant figures",
                 lambda n: figures.two_figures(n / figures.SECONDS_PER_DAY), "days"),
        "mwh": ("MWh, two significant figures",
                lambda n: figures.two_figures(n / figures.KWH_PER_MWH), "MWh"),
    }  # fmt: skip
    method, change, unit = changes[form]
    return figures.derived(value, (fact,), method, change, unit=unit)
