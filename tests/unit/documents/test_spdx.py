"""The SPDX bill: valid by the schema and by SPDX's own reader, with nothing mandatory left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebear.documents.consistency import spdx_faults
from forebear.documents.spdx import FILE, render
from forebear.documents.validators import (
    spdx_schema,
    validate,
    validate_spdx_bindings,
    validate_spdx_schema,
)
from forebear.documents.values import Facts, unknown
from tests.unit.documents import bills

PREFIX = f"urn:forebear:{'9' * 16}:"


def _document(facts: Facts | None = None) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(render(facts or bills.facts())[FILE])
    return body


def _element(document: dict[str, Any], ref: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        e for e in document["@graph"] if e.get("spdxId") == PREFIX + ref
    )  # fmt: skip
    return found


def _related(document: dict[str, Any], source: str, kind: str) -> list[str]:
    found = [
        target.removeprefix(PREFIX)
        for e in document["@graph"]
        if e["type"] == "Relationship" and e["from"] == PREFIX + source
        and e["relationshipType"] == kind
        for target in e["to"]
    ]  # fmt: skip
    return sorted(found)


def _notes(document: dict[str, Any], ref: str) -> list[str]:
    lines: list[str] = _element(document, f"{ref}:note")["statement"].split("\n")
    return lines


def test_the_bill_passes_the_schema_the_reader_and_our_own_check() -> None:
    facts = bills.facts()
    found = validate(render(facts), facts)
    assert found.faults == ()
    assert found.unchecked == ()


def test_a_release_of_which_nothing_is_known_still_gives_a_valid_bill() -> None:
    facts = Facts(
        document_time="2026-11-24T10:06:50Z", evidence_root="9" * 64, declarations_sha256=None,
        evidence=(), values={}, tables={},
    )  # fmt: skip
    assert validate(render(facts), facts).faults == ()


def test_the_bundled_schema_says_what_the_project_s_own_bindings_say() -> None:
    """78 classes, 754 properties, 129 of them mandatory: none more, none less, none different."""
    from spdx_python_model.bindings import v3_0_1 as model

    definitions = spdx_schema()["$defs"]
    classes = [e["$ref"].rsplit("/", 1)[1] for e in definitions["AnyClass"]["anyOf"]]
    n_properties = n_mandatory = 0
    for name in classes:
        properties, mandatory = _of_schema(definitions, name)
        bound = getattr(model, name)._OBJ_PY_PROPS.values()  # no public way lists them
        assert properties - {"@id", "spdxId", "type"} == {p.compact for p in bound if p.compact}
        assert mandatory == {p.compact for p in bound if p.min_count}
        n_properties += len(properties)
        n_mandatory += len(mandatory)
    assert (len(classes), n_properties, n_mandatory) == (78, 754, 129)


def _of_schema(definitions: dict[str, Any], name: str) -> tuple[set[str], set[str]]:
    """Properties and mandatory ones of a class, inherited ones included."""
    properties: set[str] = set()
    mandatory: set[str] = set()
    for part in definitions[f"{name}_props"].get("allOf", []):
        if part.get("$ref", "").endswith("_props"):
            more = _of_schema(definitions, part["$ref"].rsplit("/", 1)[1].removesuffix("_props"))
            properties |= more[0]
            mandatory |= more[1]
        properties |= set(part.get("properties", {}))
        mandatory |= set(part.get("required", []))
    return properties, mandatory


def _small() -> dict[str, Any]:
    """A document of three elements, so that the whole schema can be asked."""
    document = _document()
    kept = ("CreationInfo", "Organization", "Tool")
    return {**document, "@graph": [e for e in document["@graph"] if e["type"] in kept][:3]}


@pytest.mark.parametrize("fault", ["", "type", "field", "context", "missing"])
def test_holding_each_element_against_its_class_finds_what_the_whole_schema_finds(
    fault: str,
) -> None:
    from jsonschema import Draft202012Validator

    document = _small()
    element = next(e for e in document["@graph"] if e["type"] == "Organization")
    if fault == "type":
        element["type"] = "Company"
    elif fault == "field":
        element["revenue"] = "much"
    elif fault == "context":
        document["@context"] = "https://example.org/context.jsonld"
    elif fault == "missing":
        del element["creationInfo"]
    whole = list(Draft202012Validator(spdx_schema()).iter_errors(document))
    assert bool(whole) is bool(fault)
    assert bool(validate_spdx_schema(document)) is bool(fault)


@pytest.mark.parametrize(
    ("ref", "field"),
    [
        ("model", "suppliedBy"),
        ("model", "releaseTime"),
        ("model", "software_downloadLocation"),
        ("model", "ai_useSensitivePersonalInformation"),
        ("data/curate:icd", "originatedBy"),
        ("data/curate:icd", "builtTime"),
        ("data/curate:icd", "dataset_hasSensitivePersonalInformation"),
    ],
)
def test_a_field_that_the_profile_demands_may_not_be_left_out(ref: str, field: str) -> None:
    document = _document()
    del _element(document, ref)[field]
    assert spdx_faults(document) == [f"{PREFIX}{ref} has no {field}"]


def test_a_mandatory_property_that_is_missing_is_refused_by_the_bindings() -> None:
    document = _document()
    del _element(document, "data/curate:icd")["dataset_datasetType"]
    assert "dataset_datasetType" in validate_spdx_bindings(json.dumps(document).encode())[0]
    assert validate_spdx_bindings(json.dumps(_document()).encode()) == []


def test_a_reference_to_nothing_is_found() -> None:
    document = _document()
    _element(document, "model:trainedOn")["to"].append(PREFIX + "data/of-dreams")
    assert spdx_faults(document) == [
        f"{PREFIX}model:trainedOn refers to {PREFIX}data/of-dreams, which is nowhere"
    ]


@pytest.mark.parametrize(
    ("told", "shown"), [(None, "noAssertion"), ("unknown", "noAssertion"), ("yes", "yes"),
                        ("no", "no")],
)  # fmt: skip
def test_sensitive_information_is_never_denied_without_a_word(told: str | None, shown: str) -> None:
    cells = {} if told is None else {"sensitive": bills.declared(told)}
    rows = (bills.row("curate:icd", id="icd", role="domain", **cells),)
    document = _document(bills.facts(tables={"data.sets": rows}))
    assert _element(document, "model")["ai_useSensitivePersonalInformation"] == shown
    assert _element(document, "data/curate:icd")["dataset_hasSensitivePersonalInformation"] == shown


def test_one_set_without_a_word_keeps_the_model_from_denying_it() -> None:
    rows = (
        bills.row("curate:icd", id="icd", role="domain", sensitive=bills.declared("no")),
        bills.row("curate:other", id="other", role="domain"),
    )
    document = _document(bills.facts(tables={"data.sets": rows}))
    assert _element(document, "model")["ai_useSensitivePersonalInformation"] == "noAssertion"


def test_what_is_unknown_says_so_in_the_mandatory_fields() -> None:
    facts = bills.facts(values={
        "provider.legal_name": unknown("not declared"),
        "model.release_date": unknown("not declared"),
        "model.licence": unknown("not declared"),
    })  # fmt: skip
    document = _document(facts)
    model = _element(document, "model")
    assert model["software_downloadLocation"] == "NOASSERTION"
    assert _element(document, "agent/NOASSERTION")["name"] == "NOASSERTION"
    assert model["suppliedBy"] == PREFIX + "agent/NOASSERTION"
    assert model["releaseTime"] == facts.document_time
    notes = _notes(document, "model")
    assert "forebear:release-time=unknown; the document's time" in notes
    assert "forebear:licence=unknown" in notes
    assert _related(document, "model", "hasDeclaredLicense") == [
        "expandedlicensing_NoAssertionLicense"
    ]
    assert "forebear:release-time=unknown; the document's time" not in _notes(_document(), "model")


def test_relationships_tell_training_testing_ancestry_and_evidence() -> None:
    document = _document()
    assert _related(document, "model", "trainedOn") == ["data/curate:icd"]
    assert _related(document, "model", "testedOn") == [
        "data/curate:exam", "data/eval:bbq", "data/eval:mc4",
    ]  # fmt: skip
    assert _related(document, "model/base", "ancestorOf") == ["model/sft"]
    assert _related(document, "model/sft", "ancestorOf") == ["model"]
    assert _related(document, "model/base", "trainedOn") == ["data/undisclosed:base"]
    assert _related(document, "model", "hasEvidence") == [
        f"evidence/{link}" for link in sorted(bills.LINKS)
    ]


def test_energy_stands_only_where_it_was_measured() -> None:
    assert "ai_energyConsumption" not in _element(_document(), "model")
    assert "forebear:energy=unknown" in _notes(_document(), "model")
    stages = (
        bills.row("cpt", name="cpt", energy=1.5, energy_method="measured"),
        bills.row("sft", name="sft", energy=0.25, energy_method="measured"),
    )
    facts = bills.facts(tables={"train.stages": stages})
    used = _element(_document(facts), "model")["ai_energyConsumption"]
    assert used["ai_trainingEnergyConsumption"][0]["ai_energyQuantity"] == 1.5
    assert used["ai_finetuningEnergyConsumption"][0]["ai_energyUnit"] == "kilowattHour"
    assert validate_spdx_bindings(render(facts)[FILE]) == []
    withheld = bills.facts(values={"publish.compute_energy": bills.declared(value=False)},
                           tables={"train.stages": stages})  # fmt: skip
    text = render(withheld)[FILE].decode()
    assert "ai_energyConsumption" not in text
    assert "37417770745344" not in text


def test_a_licence_that_the_list_lacks_is_named_and_has_a_text() -> None:
    document = _document()
    expression = _element(document, "licence/LicenseRef-PD-US")
    assert expression["simplelicensing_licenseExpression"] == "LicenseRef-PD-US"
    (entry,) = expression["simplelicensing_customIdToUri"]
    assert entry["value"] == PREFIX + "licence-text/LicenseRef-PD-US"
    named = _related(document, "teacher/teacher:distill", "hasDeclaredLicense")
    assert named == ["licence/LicenseRef-Example-API-terms"]
    text = _element(document, "licence-text/LicenseRef-Example-API-terms")
    assert text["simplelicensing_licenseText"].startswith("Example API terms")


def test_every_score_has_the_place_that_it_comes_from_beside_it() -> None:
    document = _document()
    metrics = _element(document, "model")["ai_metric"]
    assert {(m["key"], m["value"]) for m in metrics} == {
        ("mc4:accuracy", "0.7"), ("bbq:bias", "0.4"),
    }  # fmt: skip
    notes = _notes(document, "model")
    assert f"forebear:evidence:mc4:accuracy=sha256:{'e' * 64}#/mc4/acc" in notes
    assert "forebear:declared:use.intended=Head of Compliance" in notes
    places = _notes(document, "data/curate:icd")
    assert f"forebear:evidence:documents=sha256:{'e' * 64}#/curate:icd/documents" in places
    assert "forebear:declared:known_bias=Head of Compliance" in places


def test_hyperparameters_are_those_that_the_stages_recorded() -> None:
    entries = _element(_document(), "model")["ai_hyperparameter"]
    pairs = {entry["key"]: entry["value"] for entry in entries}
    assert pairs["sft.lr"] == "0.0005"
    assert pairs["sft.method"] == "lora"
    assert pairs["sft.steps"] == "40"
    assert not [name for name in pairs if name.startswith("curate.")]  # it made no weights


def test_the_files_of_a_set_stand_with_their_digests_and_shared_ones_once() -> None:
    rows = tuple(
        bills.row(name, set=name, path="data/corpus/all.jsonl", sha256="8" * 64)
        for name in ("curate:icd", "exam")
    )
    document = _document(bills.facts(tables={"data.files": rows}))
    file = "file/data%2Fcorpus%2Fall.jsonl"
    assert _related(document, "data/curate:icd", "contains") == [file]
    assert _related(document, "data/curate:exam", "contains") == [file]
    assert _element(document, file)["verifiedUsing"][0]["hashValue"] == "8" * 64
    assert spdx_faults(document) == []


def test_what_filters_dropped_is_told_of_the_sets_of_their_stage() -> None:
    part = _element(_document(), "data/curate:icd")
    assert part["dataset_dataPreprocessing"] == ["quality: dropped 3"]
    alone = _document(bills.facts(without=("data.filters",)))
    assert _element(alone, "data/curate:icd")["dataset_dataPreprocessing"] == ["NOASSERTION"]


@pytest.mark.parametrize(
    ("told", "shown"),
    [("none", "no"), ("low", "yes"), ("high", "yes"), ("unknown", "noAssertion")],
)
def test_autonomy_is_told_as_it_was_declared(told: str, shown: str) -> None:
    document = _document(bills.facts(values={"use.autonomy": bills.declared(told)}))
    assert _element(document, "model")["ai_autonomyType"] == shown


def test_a_judge_of_written_rules_is_a_program_and_another_a_model() -> None:
    rows = (
        bills.row("local", name="local", kind="local", model="Example/Judge", digest="4" * 64),
        bills.row("rules", name="rules", kind="rules", digest="5" * 64),
    )
    document = _document(bills.facts(tables={"eval.judges": rows}))
    assert _element(document, "judge/local")["type"] == "ai_AIPackage"
    rules = _element(document, "judge/rules")
    assert (rules["type"], rules["software_primaryPurpose"]) == ("software_Package", "application")
    assert spdx_faults(document) == []


def test_declared_text_adds_no_element() -> None:
    text = '"},{"type":"Person","spdxId":"urn:x:y"'
    facts = bills.facts(values={"use.summary": bills.declared(text)})
    assert len(_document(facts)["@graph"]) == len(_document()["@graph"])
    assert _element(_document(facts), "model")["summary"] == text


def test_equal_facts_give_equal_bytes() -> None:
    assert render(bills.facts()) == render(bills.facts())
