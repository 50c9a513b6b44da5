"""Annex XI (D3) and Annex XII (D4), in the numbering of the Act.

Where the modifier may have become a provider, Annex XI shows each point twice: for this
modification, and for the original model as its publisher reports it.

Source: compliance page, section 8, D3 and D4; Regulation (EU) 2024/1689, Annexes XI and XII.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents import body, tables
from forebear.documents.legal import load_legal
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import Document, Lines, Made, Section, Table, Text, fill
from forebear.documents.values import not_applicable, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebear.documents.locale import Locale
    from forebear.documents.values import Facts, Value

ID = "D3"
_OWED = ("owed", "owed_if_unknown", "voluntary", "not_owed")

# what the publisher reports of the original, for the facts of this model
_ORIGINAL = {
    "model.architecture": "model.base.architecture",
    "model.params_total": "model.base.params_total",
    "model.params_active": "model.base.params_active",
    "model.context_length": "model.base.context_length",
    "model.licence": "model.base.licence",
    "model.licence_url": "model.base.licence_url",
    "model.languages": "model.base.languages",
    "train.flop_modification": "train.flop_base",
    "train.flop_modification_cumulative": "train.flop_base",
    "train.energy_modification": "train.energy_base",
}
_STAGES = Table(
    "train.stages",
    (
        "name", "method", "params", "steps", "tokens", "tokens_padded", "loss_first", "loss_last",
        "seed", "commit",
    ),
    key="train.stages.full",
    records=True,
    skip="flop",
)  # fmt: skip
_COMPUTE = Table(
    "train.stages",
    ("name", "flop", "flop_method", "flop_sampling", "wall", "device_seconds", "processor",
     "cores"),
    key="train.stages.compute",
    skip="flop",
)  # fmt: skip


def _if_systemic(*plans: Lines | Table | Text) -> Made:
    """Plans of Annex XI, section 2: shown where rule A4 is indicated, else not applicable."""

    def make(facts: Facts, locale: Locale) -> Iterable[body.Block]:
        from forebear.documents.plans import fill_plans

        outcome = outcome_of(facts, "A4")
        if outcome == "indicated":
            yield from fill_plans(plans, facts, locale, public=False)
            return
        reason = locale.text(f"reason.a4.{outcome}")
        value = not_applicable(reason) if outcome == "not_indicated" else unknown(reason)
        label = locale.text("label.this_point")
        yield body.LinesBlock(lines=(body.Line(fact="applicability.rules", label=label,
                                               value=value),))  # fmt: skip

    shows = {name for plan in plans for name in _names(plan)}
    return Made(make, ("applicability.rules", *sorted(shows)))


def _answer_time(facts: Facts, locale: Locale) -> Iterable[body.Block]:
    del facts
    days = load_legal().text("code.downstream_days")
    yield body.TextBlock(text=locale.text("text.d4.answer", days=days))


def _names(plan: Lines | Table | Text) -> tuple[str, ...]:
    if isinstance(plan, Lines):
        return plan.facts
    return (plan.fact,) if isinstance(plan, Table) else ()


def outcome_of(facts: Facts, rule: str) -> str:
    """``indicated``, ``not_indicated`` or ``unknown`` for a rule of the applicability."""
    row = next((r for r in facts.tables.get("applicability.rules", ()) if r.key == rule), None)
    value = None if row is None or "outcome" not in row.cells else row.cells["outcome"].value
    return value if value in ("indicated", "not_indicated") else "unknown"


XI = Document(
    "D3",
    "restricted/annex-xi",
    "annex-xi",
    (
        Section("d3.status", (
            Lines(("applicability.mark.D3", "applicability.ratio", "release.retention_until")),)),
        Section("d3.1.1", (Lines(("model.name", "model.version")),), "1.1"),
        Section("d3.a", (Lines(("use.summary", "use.intended", "use.system_types")),),
                "1.1 (a)", 3),
        Section("d3.b", (Lines(("use.aup",)),), "1.1 (b)", 3),
        Section("d3.c", (Lines(("model.release_date", "model.eu_market_date")),
                         tables.CHANNELS), "1.1 (c)", 3),
        Section("d3.d", (tables.ARCHITECTURE,), "1.1 (d)", 3),
        Section("d3.e", (tables.MODALITIES,), "1.1 (e)", 3),
        Section("d3.f", (tables.LICENCE,), "1.1 (f)", 3),
        Section("d3.1.2", (tables.ANCESTORS,), "1.2"),
        Section("d3.2a", (Lines(("use.integration", "use.hardware")), tables.SOFTWARE),
                "1.2 (a)", 3),
        Section("d3.2b", (tables.REASONS, _STAGES), "1.2 (b)", 3),
        Section("d3.2c", (
            tables.SETS_IN_FULL, tables.ROLES, tables.FILTERS, tables.GENERATORS,
            tables.DECONTAMINATION,
            Lines(("data.selection", "data.unsuitability_measures", "data.bias_measures",
                   "data.pii.method", "data.pii.removed", "data.illegal_content.method",
                   "data.optout.method", "data.latest_collection"))), "1.2 (c)", 3),
        Section("d3.2d", (_COMPUTE, Lines((
            "train.flop_modification", "train.flop_modification_cumulative", "train.flop_base",
            "train.flop_cumulative", "train.wall_seconds", "train.cpu_seconds",
            "train.device_seconds", "train.peak_memory")), Text("d3.compute")), "1.2 (d)", 3),
        Section("d3.2e", (Lines(("train.energy_modification", "train.energy_base")),),
                "1.2 (e)", 3),
        Section("d3.2", (), "2"),
        Section("d3.s1", (_if_systemic(tables.RESULTS, tables.VERDICT, tables.PAIRS,
                                       tables.WAIVERS, tables.JUDGES, tables.CONTAMINATION,
                                       tables.NOT_RUN, tables.SLICES, Lines(("limit.known",))),),
                "2.1", 3),
        Section("d3.s2", (_if_systemic(Lines(("eval.redteam.internal", "eval.redteam.external",
                                              "eval.redteam.summary")), tables.STEPS),),
                "2.2", 3),
        Section("d3.s3", (_if_systemic(tables.LINEAGE, tables.ANCESTORS),), "2.3", 3),
    ),
    intro=("annex.status", "d3.intro"),
    public=False,
)  # fmt: skip

XII = Document(
    "D4",
    "annex-xii",
    "annex-xii",
    (
        Section("d4.status", (Lines(("applicability.mark.D4",)),)),
        Section("d4.1", (Lines(("model.name", "model.version")),), "1"),
        Section("d4.a", (Lines(("use.summary", "use.intended", "use.system_types")),), "1 (a)", 3),
        Section("d4.b", (Lines(("use.aup",)),), "1 (b)", 3),
        Section("d4.c", (Lines(("model.release_date", "model.eu_market_date")),
                         tables.CHANNELS), "1 (c)", 3),
        Section("d4.d", (Lines(("use.interaction",)),), "1 (d)", 3),
        Section("d4.e", (tables.SOFTWARE,), "1 (e)", 3),
        Section("d4.f", (tables.ARCHITECTURE,), "1 (f)", 3),
        Section("d4.g", (tables.MODALITIES,), "1 (g)", 3),
        Section("d4.h", (tables.LICENCE,), "1 (h)", 3),
        Section("d4.2", (), "2"),
        Section("d4.2a", (Lines(("use.integration", "use.hardware")),), "2 (a)", 3),
        Section("d4.2b", (Lines(("model.modalities_in", "model.modalities_out", "model.max_input",
                                 "model.max_output", "model.context_length")),), "2 (b)", 3),
        Section("d4.2c", (tables.SETS, tables.SIZES, tables.FILTERS,
                          Lines(("data.selection",))), "2 (c)", 3),
        Section("d4.beyond", (
            Text("d4.beyond"),
            Lines(("limit.known",)), tables.FOUND, tables.ALLOWANCES, tables.WAIVERS,
            tables.RESULTS,
            Lines(("use.chat_template_sha256",)),
            Lines(("licences.notices",)),
            tables.DUTIES,
            Lines(("provider.contact", "oversight.incident_contact")),
            Made(_answer_time))),
    ),
    intro=("annex.status", "d4.intro"),
)  # fmt: skip


def _shown(document: Document) -> set[str]:
    from forebear.documents.plans import facts_of

    return facts_of(document)


SHOWS = {"D3": _shown(XI), "D4": _shown(XII)}


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """Both annexes, in Markdown, HTML and JSON."""
    locale = load_locale(language)
    eleven = fill(XI, facts, locale, status=mark_of(facts, "D3", locale))
    if outcome_of(facts, "A2") == "indicated":
        eleven = _beside_original(eleven, facts, locale)
    twelve = fill(XII, facts, locale, status=mark_of(facts, "D4", locale))
    return {**files_of(eleven, XI.name), **files_of(twelve, XII.name)}


def mark_of(facts: Facts, document: str, locale: Locale) -> str:
    """Whether a document is owed, in words."""
    value = facts.values.get(f"applicability.mark.{document}")
    literal = None if value is None else value.value
    return locale.text(f"mark.{literal}" if literal in _OWED else "mark.owed_if_unknown")


def _beside_original(document: body.Body, facts: Facts, locale: Locale) -> body.Body:
    """Each block of lines as a table of two columns."""
    sections = tuple(
        section.model_copy(
            update={
                "blocks": tuple(
                    part for one in section.blocks for part in _two_columns(one, facts, locale)
                )
            }
        )
        if section.number.startswith("1")
        else section
        for section in document.sections
    )
    return document.model_copy(update={"sections": sections})


def _two_columns(block: body.Block, facts: Facts, locale: Locale) -> Iterable[body.Block]:
    if not isinstance(block, body.LinesBlock):
        yield block
        return
    missing = tuple(line for line in block.lines if line.missing)
    if missing:
        yield body.LinesBlock(lines=missing)
    lines = [line for line in block.lines if not line.missing]
    if lines:
        yield body.TableBlock(
            fact=lines[0].fact,
            caption=locale.text("table.two_columns"),
            columns=tuple(
                locale.text(f"column.{name}") for name in ("point", "this_modification", "original")
            ),
            heads=tuple(line.label for line in lines),
            rows=tuple((line.value, _original(line.fact, facts, locale)) for line in lines),
        )


def _original(fact: str, facts: Facts, locale: Locale) -> Value:
    known = facts.values.get(_ORIGINAL.get(fact, ""))
    if known is not None:
        return known
    link = facts.values.get("model.base.documents_url")
    return link if link is not None else unknown(locale.text("reason.original"))
