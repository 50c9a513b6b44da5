"""The public summary of training content: tiers, boxes, domains, generators, its own keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from forebear.documents import summary
from forebear.documents.domains import n_domains
from forebear.documents.values import unknown
from tests.unit.documents.made import computed, data_set, declared, facts, row

if TYPE_CHECKING:
    from forebear.documents.values import Facts

_YES = "☒ yes ☐ no"
_NO = "☐ yes ☒ no"
_NONE = "☐ yes ☐ no"


def _keys(made: Facts) -> dict[str, Any]:
    keys: dict[str, Any] = yaml.safe_load(summary.render(made)["training-content-summary.yaml"])
    return keys


def _text(made: Facts) -> str:
    return summary.render(made)["training-content-summary.md"].decode()


@pytest.mark.parametrize(
    ("tokens", "tier"),
    [
        (999_999_999, "Less than 1 billion tokens"),
        (1_000_000_000, "1 billion to 10 trillion tokens"),
        (10_000_000_000_000, "More than 10 trillion tokens"),
    ],
)
def test_a_size_on_a_boundary_takes_the_upper_range(tokens: int, tier: str) -> None:
    """Compliance page, 13.15; the number always stands beside the range."""
    keys = _keys(facts(tables={"data.sets": [data_set("one", tokens=tokens)]}))
    (modality,) = keys["general_information"]["modalities"]
    assert modality["size_range"] == tier
    assert modality["custom_size_value"] == tokens
    assert modality["custom_size_unit"] == "tokens"


def test_held_out_sets_do_not_count_as_training_data() -> None:
    sets = [data_set("train", tokens=1000), data_set("held", tokens=10**12, role="test")]
    keys = _keys(facts(tables={"data.sets": sets}))
    assert keys["general_information"]["modalities"][0]["custom_size_value"] == 1000
    public = keys["data_sources"]["publicly_available_datasets"]
    assert [one["identifier_or_name"] for one in public["large_datasets"]] == ["train"]


def test_a_set_is_large_above_three_percent_of_the_public_sets() -> None:
    sets = [data_set("big", tokens=967), data_set("at", tokens=30), data_set("tiny", tokens=3)]
    public = _keys(facts(tables={"data.sets": sets}))["data_sources"]["publicly_available_datasets"]
    assert [one["identifier_or_name"] for one in public["large_datasets"]] == ["big"]
    assert public["other_datasets_general_description"] == "at; tiny"


def test_a_set_that_nobody_measured_is_named_like_a_large_one() -> None:
    sets = [data_set("big"), data_set("dark")]
    sets[1] = sets[1].model_copy(update={"cells": {**sets[1].cells, "tokens": unknown("lost")}})
    public = _keys(facts(tables={"data.sets": sets}))["data_sources"]["publicly_available_datasets"]
    assert [one["identifier_or_name"] for one in public["large_datasets"]] == ["big", "dark"]


@pytest.mark.parametrize(
    ("distinct", "size", "listed"),
    [
        (250, "large", 25), (250, "mid", 25), (250, "sme", 13), (40_000, "sme", 1000),
        (1, "large", 1), (1, "sme", 1), (0, "sme", 0),
    ],
)  # fmt: skip
def test_so_many_domains_are_listed(distinct: int, size: str, listed: int) -> None:
    """Compliance page, 13.15."""
    assert n_domains(distinct, size) == listed


def test_domains_are_ranked_by_bytes_kept_and_ties_by_name() -> None:
    sizes = {"b.example": 10, "a.example": 10, "c.example": 80}
    sizes |= {f"small{number}.example": 0 for number in range(17)}
    domains = [
        row(f"crawl:{name}", set=computed("crawl"), domain=computed(name), bytes=computed(size),
            documents=computed(1))
        for name, size in sizes.items()
    ]  # fmt: skip
    made = facts(
        {"data.answers.crawled": computed(value=True)},
        {"data.sets": [data_set("crawl", origin="crawled")], "data.domains": domains},
    )
    files = summary.render(made)
    lines = files["top-domains.csv"].decode().splitlines()
    assert lines == [
        "domain,bytes,documents,share", "c.example,80,1,0.800000", "a.example,10,1,0.100000",
    ]  # fmt: skip
    crawled = _keys(made)["data_sources"]["crawled_data"]
    assert crawled["top_domains_file"] == "top-domains.csv"
    assert (crawled["collection_period_start"], crawled["collection_period_end"]) == (
        "01/2024", "03/2025",
    )  # fmt: skip


def test_without_a_crawl_there_is_no_list_and_no_further_question() -> None:
    made = facts(tables={"data.sets": [data_set("one")]})
    assert "top-domains.csv" not in summary.render(made)
    assert _keys(made)["data_sources"]["crawled_data"] == {"crawlers_used": False}
    assert _NO in _text(made)


def test_an_unanswered_question_ticks_no_box_and_has_no_key() -> None:
    """Compliance page, 13.16."""
    asked = {"data.answers.user_model": unknown("not declared")}
    made = facts(asked, {"data.sets": [data_set("one")]})
    user = _keys(made)["data_sources"]["user_data"]
    assert user == {"other_product_interaction_data_used": False}
    line = next(line for line in _text(made).splitlines() if "interaction with the model" in line)
    assert _NONE in line
    answered = facts({"data.answers.user_model": computed(value=True)},
                     {"data.sets": [data_set("one")]})  # fmt: skip
    line = next(li for li in _text(answered).splitlines() if "interaction with the model" in li)
    assert _YES in line


def _generated(**cells: Any) -> Facts:
    known = {
        "set": "answers", "model": "teacher-x", "revision": "2026-01-01", "provider": "Teachers",
        "terms": "their terms", "own": False,
    }  # fmt: skip
    generator = row("distill", **{n: computed(one) for n, one in (known | cells).items()})
    return facts(
        {"data.answers.synthetic": computed(value=True)},
        {"data.sets": [data_set("one")], "data.generators": [generator]},
    )


def test_a_teacher_on_the_market_is_named_with_version_and_terms() -> None:
    synthetic = _keys(_generated())["data_sources"]["synthetic_data"]
    assert synthetic["generating_models"] == [
        {"name": "teacher-x", "version": "2026-01-01", "provider": "Teachers",
         "summary_link": "no link known", "terms": "their terms"}
    ]  # fmt: skip
    assert "other_generating_models_description" not in synthetic


def test_an_own_checkpoint_is_described_among_the_other_models() -> None:
    synthetic = _keys(_generated(model="sft", own=True))["data_sources"]["synthetic_data"]
    assert synthetic["generating_models"] == []
    assert "sft" in synthetic["other_generating_models_description"]


def test_yaml_and_json_hold_the_same_keys_and_the_json_its_schema() -> None:
    made = facts(tables={"data.sets": [data_set("one")]})
    files = summary.render(made)
    body = json.loads(files["training-content-summary.json"])
    keys = _keys(made)
    assert {name: body[name] for name in keys} == keys
    assert set(keys) == {
        "version", "last_update", "previous_versions", "general_information", "data_sources",
        "data_processing_aspects",
    }  # fmt: skip
    assert body["$schema"].endswith("/training-content-summary.json")


def test_dates_have_the_form_of_the_template() -> None:
    made = facts({"model.eu_market_date": declared("2026-12-01")})
    keys = _keys(made)
    assert keys["last_update"] == "25/11/2026"
    general = keys["general_information"]
    assert general["latest_data_collection_date"] == "03/2025"
    placed = general["model_identification"]["date_of_placement_on_union_market"]
    assert placed == "01/12/2026"
    absent = _keys(facts())["general_information"]["model_identification"]
    assert absent["date_of_placement_on_union_market"] == "Not placed on the Union market"


def test_what_rests_on_a_statement_is_marked_as_one() -> None:
    text = _text(facts({"model.eu_market_date": declared("2026-12-01")}))
    line = next(line for line in text.splitlines() if "01/12/2026" in line)
    assert "○" in line


def test_a_missing_statement_is_shown_as_missing_and_has_no_key() -> None:
    made = facts(missing=["provider.contact"])
    assert "**MISSING: Provider name and contact details" in _text(made)
    assert _keys(made)["general_information"]["provider_identification"] == {}
