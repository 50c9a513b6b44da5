"""The public summary of training content (D5), in the keys of the template's own headings.

The summary covers what the stages of this pipeline trained on; the original model's content is its
publisher's to summarise. A yes/no that nobody answered ticks no box and gives no key.

Source: compliance page, section 8, D5; template of the AI Office, C(2025) 5235.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents import body, figures
from forebear.documents.annexes import mark_of
from forebear.documents.domains import FILE, render_domains, top_domains
from forebear.documents.form import Form
from forebear.documents.legal import load_legal
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import SCHEMAS, footer_of
from forebear.documents.sources import put_sources, tokens_of, training_sets
from forebear.documents.strictyaml import dump_mapping
from forebear.documents.values import Facts, Row, Value, leaf_id, not_applicable, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

ID = "D5"
NAME = "training-content-summary"
SHOWS = {
    "D5": {
        "provider.legal_name", "provider.contact", "provider.eu_representative", "provider.size",
        "provider.code_signatory.copyright", "model.name", "model.version", "model.ancestors",
        "model.eu_market_date", "data.sets", "data.tokens", "data.latest_collection",
        "data.continuous", "data.languages", "data.domains", "data.generators",
        "data.answers.public", "data.answers.licensed", "data.answers.third_party",
        "data.answers.crawled", "data.answers.user_model", "data.answers.user_other",
        "data.answers.synthetic", "data.answers.other", "data.optout.method",
        "data.illegal_content.method", "copyright.protocols", "data.selection",
    }
}  # fmt: skip


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """The summary in four forms, and the list of domains where there was a crawl."""
    locale = load_locale(language)
    form = Form(facts, locale, "d5")
    domains = top_domains(facts)
    _general(form, facts)
    put_sources(form, facts, domains)
    _processing(form, facts)
    name = facts.values["model.name"].value or locale.text("unnamed")
    document = body.Body(
        schema_=f"{SCHEMAS}/training-content-summary.json",
        id=ID,
        title=f"{locale.text('title.training-content-summary')}: {name}",
        language=language,
        draft=facts.draft,
        n_missing=len(facts.missing),
        intro=(
            locale.text("text.annex.status", status=mark_of(facts, ID, locale)),
            locale.text("text.d5.scope"),
        ),
        sections=form.sections(),
        footer=footer_of(facts),
    )
    keys = form.keys()
    files = files_of(document, NAME, **keys)
    files[f"{NAME}.yaml"] = dump_mapping(keys).encode()
    if domains:
        files[FILE] = render_domains(domains)
    return files


# ── 1 general information ──────────────────────────────────────────────────────────────────────


def _general(form: Form, facts: Facts) -> None:
    form.start("", "head")
    form.put("version", "model.version")
    form.put("last_update", value=Value(
        kind="computed", value=figures.day(facts.document_time), method="day of the newest stage",
        inputs=("model.version",)))  # fmt: skip
    previous = facts.values.get("release.previous")
    first = not_applicable("this is the first release")
    form.put("previous_versions", value=previous or first, as_list=True)
    form.start("general_information/provider_identification", "provider")
    form.put("provider_name_and_contact", value=figures.joined(
        [(name, figures.fact(facts, name)) for name in ("provider.legal_name", "provider.contact")],
        "name and contact", ", "), of=("provider.legal_name", "provider.contact"))  # fmt: skip
    form.put("authorised_representative_name_and_contact", "provider.eu_representative")
    form.start("general_information/model_identification", "model")
    names = [(name, figures.fact(facts, name)) for name in ("model.name", "model.version")]
    form.put("versioned_model_names", value=figures.joined(names, "name and version", " "),
             as_list=True)  # fmt: skip
    form.put("model_dependencies", value=_dependencies(facts))
    form.put("date_of_placement_on_union_market", value=_placement(facts),
             of=("model.eu_market_date",))  # fmt: skip
    form.start("general_information", "general")
    form.records("modalities", _modalities(facts))
    form.put("latest_data_collection_date", value=figures.derived(
        figures.fact(facts, "data.latest_collection"), ("data.latest_collection",),
        "month and year", figures.month))  # fmt: skip
    form.put("continuously_trained_on_new_data", "data.continuous", boxes=True)
    form.put("linguistic_characteristics", value=_languages(facts))


def _dependencies(facts: Facts) -> Value:
    base = next((r for r in facts.tables.get("model.ancestors", ()) if r.key == "base"), None)
    if base is None:
        return not_applicable("the model was not made from another")
    name = figures.cell(base, "name")
    link = facts.values.get("model.base.summary_url")
    said = str(link.value) if link is not None and link.value else "no link known"
    inputs = [leaf_id("model.ancestors", "base", "name")]
    inputs += ["model.base.summary_url"] if link is not None else []
    method = "name, with the link to its own summary"
    return figures.derived(
        name, inputs, method, lambda one: f"{one} (summary of its training content: {said})"
    )


def _placement(facts: Facts) -> Value:
    def change(text: str) -> str:
        return "Not placed on the Union market" if text == "not_placed" else figures.day(text)

    name = "model.eu_market_date"
    return figures.derived(figures.fact(facts, name), (name,), "day, month and year", change)


def _modalities(facts: Facts) -> list[tuple[str, dict[str, Value]]]:
    found: dict[str, list[Row]] = {}
    for row in training_sets(facts):
        found.setdefault(str(figures.cell(row, "modality").value or "text"), []).append(row)
    return [(name, _modality(facts, name, rows)) for name, rows in found.items()]


def _modality(facts: Facts, name: str, rows: Sequence[Row]) -> dict[str, Value]:
    size = tokens_of(rows)
    if size.kind == "unknown" and name == "text" and "data.tokens" in facts.values:
        size = figures.derived(facts.values["data.tokens"], ("data.tokens",), "all training sets",
                              lambda n: n, unit="tokens")  # fmt: skip
    kinds = [(leaf_id("data.sets", row.key, "content_types"), figures.cell(row, "content_types"))
             for row in rows]  # fmt: skip
    ids = [leaf_id("data.sets", row.key, "modality") for row in rows]
    return {
        "modality": Value(kind="computed", value=name.capitalize(), inputs=tuple(ids),
                          method="modality of the sets"),
        "size_range": figures.derived(size, size.inputs, "range of the template",
                                     load_legal().tiers[name].name),
        "custom_size_value": size,
        "custom_size_unit": figures.derived(size, size.inputs, "unit", lambda _: "tokens"),
        "types_of_content": figures.joined(kinds, "types of content of the sets"),
    }  # fmt: skip


def _languages(facts: Facts) -> Value:
    rows = facts.tables.get("data.languages", ())
    if not rows:
        return unknown("languages were not counted")
    parts = [f"{row.cells['language'].value}: {figures.cell(row, 'documents').value} documents"
             for row in rows if "language" in row.cells]  # fmt: skip
    inputs = tuple(leaf_id("data.languages", row.key, "documents") for row in rows)
    return Value(kind="computed", value="; ".join(parts), method="documents by language",
                 inputs=inputs)  # fmt: skip


# ── 3 data processing ──────────────────────────────────────────────────────────────────────────


def _processing(form: Form, facts: Facts) -> None:
    form.start("data_processing_aspects/tdm_reservation_respect", "reservations")
    form.put("is_code_of_practice_signatory", value=_signatory(facts), boxes=True,
             of=("provider.code_signatory.copyright",))  # fmt: skip
    measures = ("data.optout.method", "copyright.protocols")
    form.put("measures_description", value=figures.joined(
        [(name, figures.fact(facts, name)) for name in measures], "measures and protocols"),
        of=measures)  # fmt: skip
    form.start("data_processing_aspects/illegal_content_removal", "illegal")
    form.put("measures_description", "data.illegal_content.method")
    form.start("data_processing_aspects", "processing")
    form.put("other_information", "data.selection")


def _signatory(facts: Facts) -> Value:
    name = "provider.code_signatory.copyright"
    value = figures.fact(facts, name)
    if value.value not in ("yes", "no"):
        return unknown(value.reason or "declared as unknown")
    return figures.derived(value, (name,), "yes or no", lambda text: text == "yes")
