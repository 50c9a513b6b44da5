"""The CycloneDX bill: accepted by its strict validator, and what that lets pass refused by us."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebear.documents.consistency import cyclonedx_faults
from forebear.documents.cyclonedx import FILE, render
from forebear.documents.validators import validate, validate_cyclonedx
from forebear.documents.values import Facts, not_applicable, unknown
from tests.unit.documents import bills

LOCAL = {"model", "model/base", "model/sft"}


def _bill(facts: Facts | None = None) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(render(facts or bills.facts())[FILE])
    return body


def _named(bill: dict[str, Any], ref: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in bill["components"] if c["bom-ref"] == ref)
    return found


def _properties(component: dict[str, Any]) -> list[tuple[str, str]]:
    return [(p["name"], p["value"]) for p in component.get("properties", [])]


def _empty() -> Facts:
    return Facts(
        document_time="2026-11-24T10:06:50Z", evidence_root="9" * 64, declarations_sha256=None,
        evidence=(), values={}, tables={},
    )  # fmt: skip


def test_the_bill_passes_the_strict_validator_and_our_own_check() -> None:
    facts = bills.facts()
    found = validate(render(facts), facts)
    assert found.faults == ()
    assert found.unchecked == ()


def test_a_release_of_which_nothing_is_known_still_gives_a_valid_bill() -> None:
    data = render(_empty())[FILE]
    assert validate_cyclonedx(data) == []
    faults = cyclonedx_faults(json.loads(data))
    assert set(faults) == {
        "model has no datasets", "model has no modelArchitecture",
        "model is local and has no SHA-256",
    }  # fmt: skip


def test_a_reference_used_twice_passes_the_validator_and_fails_our_check() -> None:
    bill = _bill()
    bill["components"].append({**_named(bill, "library/torch@2.13.0"), "name": "another"})
    assert validate_cyclonedx(json.dumps(bill).encode()) == []
    assert cyclonedx_faults(bill) == ["bom-ref library/torch@2.13.0 stands twice"]


def test_a_dependency_on_nothing_passes_the_validator_and_fails_our_check() -> None:
    bill = _bill()
    entry = next(e for e in bill["dependencies"] if e["ref"] == "model")
    entry["dependsOn"].append("model/of-dreams")
    assert validate_cyclonedx(json.dumps(bill).encode()) == []
    assert cyclonedx_faults(bill) == ["model depends on model/of-dreams, which is nowhere"]


@pytest.mark.parametrize("name", ["version", "licenses"])
def test_a_component_without_version_or_licence_fails_our_check(name: str) -> None:
    bill = _bill()
    del _named(bill, "data/curate:icd")[name]
    assert cyclonedx_faults(bill) == [f"data/curate:icd has no {name}"]


def test_a_component_without_an_entry_in_dependencies_fails_our_check() -> None:
    bill = _bill()
    bill["dependencies"] = [e for e in bill["dependencies"] if e["ref"] != "model/sft"]
    assert "model/sft has no entry in dependencies" in cyclonedx_faults(bill)


def test_every_local_model_has_digest_task_architecture_and_data_sets() -> None:
    bill = _bill()
    for ref in LOCAL:
        model = _named(bill, ref)
        assert model["hashes"][0]["alg"] == "SHA-256"
        parameters = model["modelCard"]["modelParameters"]
        assert parameters["task"] == "text-generation"
        assert parameters["modelArchitecture"] == "LlamaForCausalLM"
        assert parameters["datasets"]
        assert ("forebear:digest", "unavailable (remote)") not in _properties(model)
    assert _named(bill, "model/sft")["modelCard"]["modelParameters"]["datasets"] == [
        {"ref": "data/curate:icd"}
    ]


def test_a_remote_teacher_says_that_it_has_no_digest() -> None:
    teacher = _named(_bill(), "teacher/teacher:distill")
    assert "hashes" not in teacher
    assert ("forebear:digest", "unavailable (remote)") in _properties(teacher)
    assert teacher["supplier"]["name"] == "Example AI Inc."


def test_a_checkpoint_that_taught_is_not_listed_again_as_a_teacher() -> None:
    names = [c["bom-ref"] for c in _bill()["components"]]
    assert "model/sft" in names
    assert not [name for name in names if "teacher:own" in name]


def test_what_only_tests_is_no_training_data_but_a_dependency() -> None:
    bill = _bill()
    assert _named(bill, "model")["modelCard"]["modelParameters"]["datasets"] == [
        {"ref": "data/curate:icd"}
    ]
    needs = {e["ref"]: e.get("dependsOn", []) for e in bill["dependencies"]}
    assert {"data/curate:exam", "model/base", "model/sft"} <= set(needs["model"])
    assert "model" in needs["release"]


def test_unknown_energy_gives_no_entry_and_says_so() -> None:
    card = _named(_bill(), "model")["modelCard"]
    assert "environmentalConsiderations" not in card["considerations"]
    assert {"name": "forebear:energy", "value": "unknown"} in card["properties"]


def test_known_energy_stands_with_its_activity_and_its_evidence() -> None:
    stages = (bills.row("sft", name="sft", method="lora", energy=0.25, co2e_kg=50.0,
                        energy_method="measured"),)  # fmt: skip
    facts = bills.facts(tables={"train.stages": stages})
    card = _named(_bill(facts), "model")["modelCard"]
    (entry,) = card["considerations"]["environmentalConsiderations"]["energyConsumptions"]
    assert entry["activity"] == "fine-tuning"
    assert entry["activityEnergyCost"] == {"unit": "kWh", "value": 0.25}
    assert entry["co2CostEquivalent"] == {"unit": "tCO2eq", "value": 0.05}
    assert entry["energyProviders"][0]["energySource"] == "unknown"
    names = [p["name"] for p in card["properties"]]
    assert "forebear:evidence:energy:sft" in names
    assert "forebear:energy" not in names
    assert validate_cyclonedx(render(facts)[FILE]) == []


def test_withheld_compute_and_energy_stand_nowhere() -> None:
    stages = (bills.row("sft", name="sft", energy=0.25, energy_method="measured"),)
    facts = bills.facts(
        values={"publish.compute_energy": bills.declared(value=False)},
        tables={"train.stages": stages},
    )
    text = render(facts)[FILE].decode()
    assert "37417770745344" not in text
    assert "FLOP" not in text
    assert "0.25" not in text
    assert "37417770745344" in render(bills.facts())[FILE].decode()


def test_every_score_has_the_place_that_it_comes_from_beside_it() -> None:
    card = _named(_bill(), "model")["modelCard"]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    assert [(m["slice"], m["type"], m["value"]) for m in metrics] == [
        ("mc4", "accuracy", "0.7"), ("bbq", "bias", "0.4"),
    ]  # fmt: skip
    assert metrics[0]["confidenceInterval"]["lowerBound"].startswith("0.64")
    beside = dict(_properties(card))
    assert beside["forebear:evidence:mc4:accuracy"] == f"sha256:{'e' * 64}#/mc4/acc"
    assert beside["forebear:declared:use.users"] == "Head of Compliance"


def test_a_figure_made_of_others_names_the_places_of_all_of_them() -> None:
    whole = bills.measured(None).model_copy(
        update={"value": 7.0, "evidence": (), "inputs": ("a.one", "a.two"), "method": "sum"}
    )
    facts = bills.facts(values={
        "a.one": bills.measured(3.0, "/one"), "a.two": bills.measured(4.0, "/two"),
        "train.flop_modification": whole,
    })  # fmt: skip
    lines = _properties(_named(_bill(facts), "model")["modelCard"])
    places = [text for name, text in lines if name == "forebear:evidence:train.flop_modification"]
    assert places == [f"sha256:{'e' * 64}#/one", f"sha256:{'e' * 64}#/two"]
    assert ("forebear:method:train.flop_modification", "sum") in lines


@pytest.mark.parametrize(
    ("licence", "shown"),
    [
        ("apache-2.0", {"license": {"id": "Apache-2.0"}}),
        ("LicenseRef-Mine", {"expression": "LicenseRef-Mine"}),
        ("MIT OR Apache-2.0", {"expression": "MIT OR Apache-2.0"}),
        ("llama4", {"license": {"name": "llama4"}}),
        ("Terms of Example", {"license": {"name": "Terms of Example"}}),
    ],
)
def test_licences_stand_in_the_form_that_fits_them(licence: str, shown: dict[str, Any]) -> None:
    facts = bills.facts(values={"model.licence": bills.declared(licence)},
                        without=("model.licence_url",))  # fmt: skip
    assert _named(_bill(facts), "model")["licenses"] == [shown]
    assert validate_cyclonedx(render(facts)[FILE]) == []


def test_an_unknown_licence_is_said_to_be_unknown() -> None:
    facts = bills.facts(values={"model.licence": unknown("not declared")})
    model = _named(_bill(facts), "model")
    assert model["licenses"] == [{"license": {"name": "NOASSERTION"}}]
    assert ("forebear:licence", "unknown") in _properties(model)


def test_a_part_without_a_version_takes_a_digest_and_no_placeholder() -> None:
    rows = (bills.row("curate:icd", id="icd", role="domain", version="latest", sha256="8" * 64),)
    bill = _bill(bills.facts(tables={"data.sets": rows}, without=("data.files",)))
    assert _named(bill, "data/curate:icd")["version"] == "sha256-888888888888"
    rows = (bills.row("curate:icd", id="icd", role="domain"),)
    bill = _bill(bills.facts(tables={"data.sets": rows}, without=("data.files",)))
    assert _named(bill, "data/curate:icd")["version"] == "sha256-eeeeeeeeeeee"


def test_the_serial_number_follows_from_the_evidence() -> None:
    facts = bills.facts()
    assert render(facts) == render(facts)
    other = facts.model_copy(update={"evidence_root": "8" * 64})
    assert _bill(facts)["serialNumber"] == _bill(facts)["serialNumber"]
    assert _bill(facts)["serialNumber"] != _bill(other)["serialNumber"]


def test_links_are_named_as_attestations_with_their_digests() -> None:
    references = _bill()["metadata"]["component"]["externalReferences"]
    attested = {r["url"]: r["hashes"][0]["content"] for r in references
                if r["type"] == "attestation"}  # fmt: skip
    assert attested == bills.LINKS


def test_no_vulnerability_is_invented_and_declared_ones_name_their_part() -> None:
    assert "vulnerabilities" not in _bill()
    rows = (
        bills.row("0", id=bills.declared("CVE-2026-0001"), component=bills.declared("torch"),
                  state=bills.declared("not_affected"),
                  justification=bills.declared("code_not_reachable")),
        bills.row("1", id=bills.declared("CVE-2026-0002"), component=bills.declared("nowhere"),
                  state=bills.declared("surely fine")),
    )  # fmt: skip
    facts = bills.facts(tables={"security.vex": rows})
    first, second = _bill(facts)["vulnerabilities"]
    assert first["affects"] == [{"ref": "library/torch@2.13.0"}]
    assert first["analysis"] == {"state": "not_affected", "justification": "code_not_reachable"}
    assert second["affects"] == [{"ref": "release"}]
    assert second["analysis"] == {}
    assert validate_cyclonedx(render(facts)[FILE]) == []
    assert cyclonedx_faults(_bill(facts)) == []


def test_an_address_that_is_no_web_address_becomes_no_link() -> None:
    facts = bills.facts(values={
        "model.licence_url": bills.declared("javascript:alert(1)"),
        "provider.contact": bills.declared("javascript:alert(1)//"),
    })  # fmt: skip
    assert "javascript:" not in render(facts)[FILE].decode()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("https://example.org/a?b=c#d", "https://example.org/a?b=c#d"),
        ("https://example.org/a|b[c]{d}^e", "https://example.org/a%7Cb%5Bc%5D%7Bd%7D%5Ee"),
        ("https://example.org/ü/100%", "https://example.org/%C3%BC/100%25"),
        ("https://example.org/a#b#c", "https://example.org/a#b%23c"),
        ("https://", None),
        ("https://[::1]/x", None),
        ("ftp://example.org/", None),
    ],
)
def test_an_address_is_written_as_the_format_takes_it(told: str, shown: str | None) -> None:
    facts = bills.facts(values={"model.licence_url": bills.declared(told)})
    licence = _named(_bill(facts), "model")["licenses"][0]["license"]
    assert licence.get("url") == shown
    assert validate_cyclonedx(render(facts)[FILE]) == []


def test_declared_text_stays_a_text() -> None:
    text = '</script><h1>x", "type": "library\n---'
    facts = bills.facts(values={"use.users": bills.declared([text])})
    users = _named(_bill(facts), "model")["modelCard"]["considerations"]["users"]
    assert users == ['</script><h1>x", "type": "library ---']
    assert cyclonedx_faults(_bill(facts)) == []


def test_losses_against_the_reference_are_told_as_tradeoffs() -> None:
    rows = (bills.score("mc4", 0.7, delta=-0.1), bills.score("mmlu", 0.3, delta=0.1))
    card = _named(_bill(bills.facts(tables={"eval.results": rows})), "model")["modelCard"]
    told = card["considerations"]["performanceTradeoffs"]
    assert [text for text in told if text.startswith("mc4:accuracy: -0.1")]
    assert not [text for text in told if text.startswith("mmlu")]


def test_a_suite_that_only_the_evaluation_names_is_listed_with_digest_and_licence() -> None:
    rows = (
        bills.row("gsm8k:base", task="gsm8k", metric="acc", candidate_score=0.1, licence="MIT",
                  data_sha256="5" * 64),
        bills.row("exam:base", task="Exam", metric="acc", candidate_score=0.1),
    )  # fmt: skip
    bill = _bill(bills.facts(tables={"eval.results": rows}))
    suite = _named(bill, "data/eval:gsm8k")
    assert suite["licenses"] == [{"license": {"id": "MIT"}}]
    assert (suite["version"], suite["hashes"][0]["content"]) == ("sha256-" + "5" * 12, "5" * 64)
    assert "data/eval:Exam" not in [c["bom-ref"] for c in bill["components"]]  # a set already


def test_a_set_that_a_stage_made_has_the_licences_of_what_it_was_made_of() -> None:
    made = not_applicable("made by the stage distill")
    rows = (
        *bills.TABLES["data.sets"],
        bills.row("curate:replay", id="replay", role="replay", licence="PSF-2.0"),
        bills.row("distill:t", id="t", role="distillation", publisher=made, licence=made),
    )
    part = _named(_bill(bills.facts(tables={"data.sets": rows})), "data/distill:t")
    assert part["licenses"] == [{"expression": "LicenseRef-PD-US AND PSF-2.0"}]
    assert part["supplier"]["name"] == "Example Health Software GmbH"
    assert ("forebear:made-of", "curate:icd") in _properties(part)
    unlicensed = (*rows, bills.row("curate:x", id="x", role="domain"))
    part = _named(_bill(bills.facts(tables={"data.sets": unlicensed})), "data/distill:t")
    assert part["licenses"] == [{"license": {"name": "NOASSERTION"}}]


def test_a_library_has_an_address_and_the_licence_that_its_package_tells() -> None:
    rows = (
        bills.row("lm-eval", name="lm_eval", version="0.4.13"),
        bills.row("torch", name="torch", version="2.13.0+cpu"),
        bills.row("odd", name="odd", version="1.0"),
    )
    bill = _bill(bills.facts(tables={"use.software": rows}))
    known = _named(bill, "library/lm-eval@0.4.13")
    assert known["purl"] == "pkg:pypi/lm-eval@0.4.13"
    assert known["licenses"] == [{"license": {"id": "MIT"}}]
    assert ("forebear:reported:licence", "metadata of the package, version 0.4.13") in _properties(
        known
    )
    assert _named(bill, "library/torch@2.13.0+cpu")["purl"] == "pkg:pypi/torch@2.13.0%2Bcpu"
    assert ("forebear:licence", "unknown") in _properties(_named(bill, "library/odd@1.0"))


def test_merge_parents_stand_as_checkpoints_where_no_table_lists_them() -> None:
    rows = (
        bills.TABLES["model.ancestors"][0],
        bills.row("merge:merge:left", name="left", use="merge", digest="1" * 64),
        bills.row("merge:merge:again", name="again", use="merge", digest="1" * 64),
    )
    facts = bills.facts(tables={"model.ancestors": rows},
                        without=("model.checkpoints", "model.parents"))  # fmt: skip
    bill = _bill(facts)
    names = [c["bom-ref"] for c in bill["components"] if c["bom-ref"].startswith("model/")]
    assert names == ["model/base", "model/merge:merge:left"]
    assert cyclonedx_faults(bill) == []


def test_a_figure_of_which_a_part_is_unknown_is_shown_as_a_lower_bound() -> None:
    value = bills.measured(3, unit="FLOP", lower_bound=True)
    facts = bills.facts(values={"train.flop_cumulative": value})
    lines = _properties(_named(_bill(facts), "model")["modelCard"])
    assert ("forebear:train.flop_cumulative", "≥ 3 FLOP") in lines


def test_a_checkpoint_has_not_learnt_from_what_was_made_after_it() -> None:
    made = not_applicable("made by the stage distill")
    checkpoints = (
        bills.row("sft", stage="sft", digest="1" * 64, parents=["base"]),
        bills.row("distill", stage="distill", digest="2" * 64, parents=["sft"]),
        bills.row("prefer", stage="prefer", digest="3" * 64, parents=["distill"]),
    )
    rows = (
        bills.TABLES["data.sets"][0],
        bills.row("distill:t", id="t", role="distillation", publisher=made, licence=made),
    )
    bill = _bill(bills.facts(tables={"model.checkpoints": checkpoints, "data.sets": rows}))
    used = {
        stage: [one["ref"] for one in
                _named(bill, f"model/{stage}")["modelCard"]["modelParameters"]["datasets"]]
        for stage in ("sft", "distill", "prefer")
    }  # fmt: skip
    both = ["data/curate:icd", "data/distill:t"]
    assert used == {"sft": ["data/curate:icd"], "distill": both, "prefer": both}


def test_a_judge_is_listed_as_a_model_and_written_rules_as_a_program() -> None:
    rows = (
        bills.row("mt[local]", name="mt[local]", kind="local", model="Example/Judge-7B",
                  digest="4" * 64),
        bills.row("mt[hosted]", name="mt[hosted]", kind="openai", model="judge-large",
                  provider="Example AI Inc.", accessed="2026-11-20"),
        bills.row("mt[rules]", name="rules", kind="rules", digest="5" * 64),
    )  # fmt: skip
    facts = bills.facts(tables={"eval.judges": rows})
    bill = _bill(facts)
    local, hosted, rules = (_named(bill, f"judge/mt%5B{name}%5D")
                            for name in ("local", "hosted", "rules"))  # fmt: skip
    assert (local["name"], local["hashes"][0]["content"]) == ("Example/Judge-7B", "4" * 64)
    assert hosted["version"] == "2026-11-20"
    assert ("forebear:digest", "unavailable (remote)") in _properties(hosted)
    assert (rules["type"], "modelCard" in rules) == ("application", False)
    assert local["modelCard"]["modelParameters"]["modelArchitecture"] == "unknown"
    assert validate(render(facts), facts).faults == ()
