"""Where the training data came from: part 2 of the summary of training content.

Source: compliance page, section 8, D5 (template 2.1 to 2.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents import figures
from forebear.documents.domains import FILE, Domain, wanted_share
from forebear.documents.legal import load_legal
from forebear.documents.values import Facts, Row, Value, leaf_id, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forebear.documents.form import Form

_HELD_OUT = ("validation", "test", "golden", "evaluation", "eval")


def training_sets(facts: Facts) -> list[Row]:
    """The data sets that the model was trained on; held-out sets are none of them."""
    return [
        row
        for row in facts.tables.get("data.sets", ())
        if figures.cell(row, "role").value not in _HELD_OUT
    ]


def tokens_of(rows: Iterable[Row]) -> Value:
    """Tokens of sets, each distinct document once."""
    return figures.total(
        {leaf_id("data.sets", row.key, "tokens"): figures.cell(row, "tokens") for row in rows},
        "tokens",
    )


def put_sources(form: Form, facts: Facts, domains: Sequence[Domain]) -> None:
    """Part 2 of the summary."""
    _public(form, facts)
    private = "data_sources/private_third_party_datasets"
    form.start(f"{private}/licensed", "licensed")
    if form.answer("has_licensing_agreements", "data.answers.licensed"):
        form.put("modalities_covered", value=_covered(facts, "licensed"), as_list=True)
    form.start(f"{private}/other_third_party", "third_party")
    if form.answer("obtained", "data.answers.third_party"):
        form.put("modalities_covered", value=_covered(facts, "third_party_private"), as_list=True)
        form.put("general_description", value=_described(facts, "third_party_private"))
    _crawled(form, facts, domains)
    form.start("data_sources/user_data", "user")
    used = [
        form.answer("model_interaction_data_used", "data.answers.user_model"),
        form.answer("other_product_interaction_data_used", "data.answers.user_other"),
    ]
    if any(used):
        origins = ("user_model", "user_other")
        form.put("services_or_products_description", value=_described(facts, *origins))
        form.put("modalities_covered", value=_covered(facts, *origins), as_list=True)
    _synthetic(form, facts)
    form.start("data_sources/other_sources", "other")
    if form.answer("used", "data.answers.other"):
        form.put("description", value=_described(facts, "other", "own"))


def _public(form: Form, facts: Facts) -> None:
    form.start("data_sources/publicly_available_datasets", "public")
    if not form.answer("used", "data.answers.public"):
        return
    large, small = _by_size(facts)
    form.put("modalities_covered", value=_covered(facts, "public"), as_list=True)
    form.records("large_datasets", [(row.key, _large(row)) for row in large])
    if small:
        form.put("other_datasets_general_description", value=_names(small))


def _by_size(facts: Facts) -> tuple[list[Row], list[Row]]:
    """Public sets above the share of all public sets of their modality, and the others.

    A set whose size nobody counted is named one by one: leaving it out would hide a large one.
    """
    rows = [r for r in training_sets(facts) if figures.cell(r, "origin").value == "public"]
    share = load_legal().number("summary.large_share")
    sums: dict[Any, float] = {}
    for row in rows:
        tokens = figures.cell(row, "tokens").value
        modality = figures.cell(row, "modality").value
        sums[modality] = sums.get(modality, 0) + (tokens if isinstance(tokens, (int, float)) else 0)
    large: list[Row] = []
    small: list[Row] = []
    for row in rows:
        tokens = figures.cell(row, "tokens").value
        whole = sums[figures.cell(row, "modality").value]
        is_small = isinstance(tokens, (int, float)) and not tokens > share * whole
        (small if is_small else large).append(row)
    return large, small


def _large(row: Row) -> dict[str, Value]:
    def at(name: str) -> str:
        return leaf_id("data.sets", row.key, name)

    described = [(at(n), figures.cell(row, n)) for n in ("content_types", "publisher", "licence")]
    return {
        "identifier_or_name": figures.cell(row, "id"),
        "link": figures.cell(row, "source_url"),
        "description": figures.joined(described, "types of content, publisher and licence"),
        "collection_start_date": _month_of(row, "collected_from"),
        "collection_end_date": _month_of(row, "collected_to"),
    }


def _month_of(row: Row, name: str) -> Value:
    return figures.derived(figures.cell(row, name), (leaf_id("data.sets", row.key, name),),
                          "month and year", figures.month)  # fmt: skip


def _names(rows: Sequence[Row]) -> Value:
    ids = tuple(leaf_id("data.sets", row.key, "id") for row in rows)
    text = "; ".join(str(figures.cell(row, "id").value) for row in rows)
    return Value(kind="computed", value=text, method="names of the sets", inputs=ids)


def _of_origin(facts: Facts, *origins: str) -> list[Row]:
    return [r for r in training_sets(facts) if figures.cell(r, "origin").value in origins]


def _covered(facts: Facts, *origins: str) -> Value:
    rows = _of_origin(facts, *origins)
    if not rows:
        return unknown("no data set of this kind is recorded")
    known = [r for r in rows if figures.cell(r, "modality").value is not None]
    if not known:
        made = figures.fact(facts, "model.modalities_out")
        return figures.derived(
            made, ("model.modalities_out",), "what the generator writes",
            lambda kinds: [str(kind).capitalize() for kind in kinds],
        )  # fmt: skip
    names = sorted({str(figures.cell(row, "modality").value).capitalize() for row in known})
    ids = tuple(leaf_id("data.sets", row.key, "modality") for row in known)
    return Value(kind="computed", value=list(names), method="modalities of the sets", inputs=ids)


def _described(facts: Facts, *origins: str) -> Value:
    rows = _of_origin(facts, *origins)
    parts = [(leaf_id("data.sets", r.key, n), figures.cell(r, n))
             for r in rows for n in ("id", "content_types")]  # fmt: skip
    if not parts:
        return unknown("no data set of this kind is recorded")
    return figures.joined(parts, "names and types of content")


def _crawled(form: Form, facts: Facts, domains: Sequence[Domain]) -> None:
    form.start("data_sources/crawled_data", "crawled")
    if not form.answer("crawlers_used", "data.answers.crawled"):
        return
    rows = _of_origin(facts, "crawled")

    def gathered(name: str) -> Value:
        parts = [(leaf_id("data.sets", r.key, name), figures.cell(r, name)) for r in rows]
        return figures.joined(parts, "of the crawled sets") if parts else unknown("not recorded")

    form.put("crawler_names", value=gathered("crawler_name"), as_list=True)
    form.put("crawler_purposes", value=gathered("crawler_purpose"))
    form.put("crawler_behaviour_description", value=gathered("crawler_behaviour"))
    for key, name, pick in (
        ("collection_period_start", "collected_from", min),
        ("collection_period_end", "collected_to", max),
    ):
        known = [(leaf_id("data.sets", r.key, name), figures.cell(r, name)) for r in rows]
        months = [str(v.value) for _, v in known if v.value]
        form.put(key, value=unknown("not recorded") if not months else Value(
            kind="computed", value=figures.month(pick(months)), method="month and year",
            inputs=tuple(n for n, _ in known)))  # fmt: skip
    form.put("content_and_sources_description", value=gathered("content_types"))
    form.put("modalities_covered", value=_covered(facts, "crawled"), as_list=True)
    if not domains:
        form.put("top_domains_summary", value=unknown("no list of domains is recorded"))
        return
    inputs = tuple(leaf_id("data.domains", one.row, "bytes") for one in domains[:1])
    size = str(figures.fact(facts, "provider.size").value)
    rule = form.locale.text(f"d5.rule.{'sme' if size == 'sme' else 'large'}", **wanted_share(size))
    form.put("top_domains_summary", value=Value(
        kind="computed", value=form.locale.text("d5.domains", count=len(domains), rule=rule),
        method="largest domains by size of the text kept", inputs=inputs))  # fmt: skip
    form.put("top_domains_file", value=Value(
        kind="computed", value=FILE, method="written beside", inputs=inputs))  # fmt: skip


def _synthetic(form: Form, facts: Facts) -> None:
    form.start("data_sources/synthetic_data", "synthetic")
    if not form.answer("used", "data.answers.synthetic"):
        return
    rows = facts.tables.get("data.generators", ())
    modalities = _covered(facts, "synthetic")
    form.put("modalities_covered", value=modalities, as_list=True)
    own = [row for row in rows if figures.cell(row, "own").value is True]
    market = [row for row in rows if row not in own]
    form.records("generating_models", [(row.key, _generator(row)) for row in market])
    if own:
        ids = tuple(leaf_id("data.generators", row.key, "model") for row in own)
        names = sorted({str(figures.cell(row, "model").value) for row in own})
        text = form.locale.text("d5.own_checkpoints", names="; ".join(names))
        form.put("other_generating_models_description", value=Value(
            kind="computed", value=text, method="checkpoints of this pipeline",
            inputs=ids))  # fmt: skip


def _generator(row: Row) -> dict[str, Value]:
    link = figures.cell(row, "summary_url")
    if link.value is None:
        at = leaf_id("data.generators", row.key, "model")
        link = Value(kind="computed", value="no link known", method="none is recorded",
                     inputs=(at,))  # fmt: skip
    return {
        "name": figures.cell(row, "model"),
        "version": figures.cell(row, "revision"),
        "provider": figures.cell(row, "provider"),
        "summary_link": link,
        "terms": figures.cell(row, "terms"),
    }
