"""The hub card: metadata that the hub's own library reads back, and nothing in it invented."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import ValidationError

from forebear.documents.consistency import MAX_METRICS, hub_card_faults
from forebear.documents.hubcard import FILE, front_matter, render
from forebear.documents.validators import validate, validate_hub_card
from forebear.documents.values import Row, unknown
from tests.unit.documents import bills

if TYPE_CHECKING:
    from pathlib import Path

    from forebear.documents.values import Facts

_LONGEST = 200_000  # characters, by the hub
BASE = bills.TABLES["model.ancestors"][0]


def _written(facts: Facts) -> dict[str, Any]:
    """The front matter as it stands in the file."""
    text = render(facts)[FILE].decode()
    assert text.startswith("---\n")
    matter: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return matter


def test_the_hub_s_library_reads_back_every_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import ModelCard

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = tmp_path / "README.md"
    file.write_bytes(render(bills.facts())[FILE])
    data = ModelCard.load(file).data
    assert (data.license, data.base_model) == ("apache-2.0", "Example/Base-135M")
    assert (data.pipeline_tag, data.datasets) == ("text-generation", ["icd"])
    read = [(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results]
    assert read == [("mc4", "accuracy", 0.7), ("bbq", "bias", 0.4)]
    arguments = data.eval_results[0].metric_args
    assert arguments["n"] == 200
    assert arguments["interval_low"] == pytest.approx(0.65)
    assert arguments["method"] == "wilson"


def test_a_complete_card_has_no_fault() -> None:
    facts = bills.facts()
    files = render(facts)
    assert validate(files, facts).faults == ()
    assert validate_hub_card(files[FILE]) == []
    assert len(files[FILE].decode()) < _LONGEST


def test_the_front_matter_is_plain_yaml_without_anchors() -> None:
    text = render(bills.facts())[FILE].decode().split("---\n")[1]
    assert not re.search(r"[&*]id\d", text)
    assert "null" not in text
    assert _written(bills.facts()) == front_matter(bills.facts())


@pytest.mark.parametrize(
    ("fact", "key"),
    [("model.licence", "license"), ("model.languages", "language")],
)
def test_what_is_unknown_is_left_out(fact: str, key: str) -> None:
    assert key in front_matter(bills.facts())
    assert key not in front_matter(bills.facts(values={fact: unknown("not declared")}))


@pytest.mark.parametrize(
    ("licence", "shown"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("GPL-3.0-only", {"license": "gpl-3.0"}),
        ("llama4", {"license": "llama4"}),
        (
            "LicenseRef-Mine",
            {
                "license": "other",
                "license_name": "licenseref-mine",
                "license_link": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        ),
    ],
)
def test_a_licence_goes_by_the_hub_s_identifier_or_by_name_and_link(
    licence: str, shown: dict[str, str]
) -> None:
    matter = front_matter(bills.facts(values={"model.licence": bills.declared(licence)}))
    assert {key: matter[key] for key in matter if key.startswith("licen")} == shown


def test_a_link_of_another_scheme_is_left_out() -> None:
    matter = front_matter(bills.facts(values={
        "model.licence": bills.declared("LicenseRef-Mine"),
        "model.licence_url": bills.declared("javascript:alert(1)"),
    }))  # fmt: skip
    assert "license_link" not in matter


def test_weights_of_several_models_are_named_as_a_merge() -> None:
    other = bills.row("merge:merge:other", name="Example/Other-135M", use="merge", digest="c" * 64)
    matter = front_matter(bills.facts(tables={"model.ancestors": (BASE, other)}))
    assert matter["base_model"] == ["Example/Base-135M", "Example/Other-135M"]
    assert matter["base_model_relation"] == "merge"
    own = bills.row("merge:merge:sft", name="sft", use="merge", digest="c" * 64)
    matter = front_matter(bills.facts(tables={"model.ancestors": (BASE, own)}))
    assert matter["base_model"] == "Example/Base-135M"
    assert matter["base_model_relation"] == "finetune"


def test_a_base_that_the_hub_does_not_have_is_left_out() -> None:
    local = bills.row("base", name="a model on our disk", relation="finetune")
    matter = front_matter(bills.facts(tables={"model.ancestors": (local,)}))
    assert "base_model" not in matter
    assert "has no base_model" in hub_card_faults(matter)


def test_sets_from_the_hub_go_by_its_ids_and_test_sets_are_not_named() -> None:
    rows = (
        bills.row("c:a", id="a", role="domain",
                  source_url=bills.declared("https://huggingface.co/datasets/Example/set-a")),
        bills.row("c:b", id="b", role="replay", source_url=bills.declared("https://example.org")),
        bills.row("c:t", id="t", role="eval"),
    )  # fmt: skip
    matter = front_matter(bills.facts(tables={"data.sets": rows}))
    assert matter["datasets"] == ["Example/set-a", "b"]


def test_one_score_compared_with_two_references_stands_once() -> None:
    first = bills.score("mc4", 0.7)
    again = Row(key="mc4:acc:previous", cells=first.cells)
    matter = front_matter(bills.facts(tables={"eval.results": (first, again)}))
    (result,) = matter["model-index"][0]["results"]
    assert len(result["metrics"]) == 1
    assert hub_card_faults(matter) == []


def test_the_same_pair_twice_is_a_fault() -> None:
    matter = front_matter(bills.facts())
    results = matter["model-index"][0]["results"]
    results.append(results[0])
    assert hub_card_faults(matter) == ["metric accuracy of mc4 stands twice"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.7", True, None])
def test_a_score_that_is_no_finite_number_is_a_fault(value: object) -> None:
    matter = front_matter(bills.facts())
    matter["model-index"][0]["results"][0]["metrics"][0]["value"] = value
    assert hub_card_faults(matter) == ["metric accuracy of mc4 has no finite value"]


def test_a_fact_that_is_not_finite_is_refused_when_it_is_made() -> None:
    assert bills.measured(0.7).value == 0.7
    with pytest.raises(ValidationError, match="not finite"):
        bills.measured(float("nan"))


def test_fifty_metrics_at_most_in_the_order_of_the_evaluation() -> None:
    rows = tuple(bills.score(f"task{n:03}", 0.5) for n in range(MAX_METRICS + 5))
    matter = front_matter(bills.facts(tables={"eval.results": rows}))
    names = [result["dataset"]["type"] for result in matter["model-index"][0]["results"]]
    assert names == [f"task{n:03}" for n in range(MAX_METRICS)]
    assert hub_card_faults(matter) == []


def test_a_score_without_an_interval_says_nothing_of_one() -> None:
    row = bills.row("mc4:base", task="mc4", metric="acc", n=200, candidate_score=0.7)
    matter = front_matter(bills.facts(tables={"eval.results": (row,)}))
    assert matter["model-index"][0]["results"][0]["metrics"][0]["args"] == {"n": 200}


@pytest.mark.parametrize("text", ["---", "--- # x\nlicense: mit", "</script><h1>x"])
def test_declared_text_does_not_reach_the_front_matter(text: str) -> None:
    facts = bills.facts(values={"use.summary": bills.declared(text)})
    assert _written(facts) == _written(bills.facts())
    assert "<h1" not in render(facts)[FILE].decode()


def test_a_name_cannot_add_a_key() -> None:
    row = bills.score('x"\nlicense: mit\n---\n', 0.7)
    matter = _written(bills.facts(tables={"eval.results": (row,)}))
    assert matter["license"] == "apache-2.0"
    assert len(matter["model-index"][0]["results"]) == 1


def test_withheld_compute_stands_nowhere_in_the_card() -> None:
    shown = render(bills.facts())[FILE].decode()
    assert "3.74 × 10¹³ FLOP" in shown
    withheld = bills.facts(values={"publish.compute_energy": bills.declared(value=False)})
    text = render(withheld)[FILE].decode()
    assert "FLOP" not in text
    assert "3.74 ×" not in text


def test_a_notice_that_a_licence_demands_is_shown() -> None:
    facts = bills.facts(values={"licences.notices": bills.measured(["Built with Llama"])})
    assert "Built with Llama" in render(facts)[FILE].decode()
    assert "Built with Llama" not in render(bills.facts())[FILE].decode()
