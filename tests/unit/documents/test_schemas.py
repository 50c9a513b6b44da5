"""Schemas and labels: committed, complete, and what the documents hold to."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from forebear.documents.fields import FIELDS
from forebear.documents.locale import load_locale
from forebear.documents.registry import documents_with, entry, render_all
from forebear.documents.schemas import NAMES, make_schema, schema
from forebear.errors import UsageError
from tests.unit.documents.made import computed, data_set, declared, facts, row, score

FOLDER = Path(str(resources.files("forebear") / "data"))
MADE = facts(
    {
        "train.flop_modification": computed(10**13, unit="FLOP", estimate=True),
        "applicability.ratio": computed("Modification 1.00 × 10¹³ FLOP."),
    },
    {
        "data.sets": [data_set("one")],
        "eval.results": [row("mc4:base", task=computed("mc4"), candidate_score=score(.5, .4, .6))],
        "risk.items": [row("0", name=declared("A"), likelihood=declared("low"))],
        "model.ancestors": [row("base", name=computed("a/b"), relation=computed("finetune"))],
    },
    missing=["use.summary"],
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_schema_is_what_the_models_give(name: str) -> None:
    """Compliance page, 12: on drift, write the file again with ``make_schema``."""
    assert schema(name) == make_schema(name)
    jsonschema.Draft202012Validator.check_schema(json.loads(schema(name)))


def test_a_schema_that_does_not_exist_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no schema"):
        schema("nothing")


def test_every_json_document_holds_to_its_schema() -> None:
    names = set()
    for name, data in render_all(MADE, previous=MADE).items():
        if entry(name).schema:
            validator = jsonschema.Draft202012Validator(json.loads(schema(entry(name).schema)))
            faults = [error.message for error in validator.iter_errors(json.loads(data))]
            assert not faults, (name, faults[:3])
            names.add(entry(name).schema)
    assert names == set(NAMES) - {"facts", "documents"}
    facts_schema = jsonschema.Draft202012Validator(json.loads(schema("facts")))
    assert not list(facts_schema.iter_errors(json.loads(MADE.to_bytes())))


def test_a_document_with_a_key_of_its_own_breaks_its_schema() -> None:
    body = json.loads(render_all(MADE)["licences.json"])
    body["verdict"] = "fine"
    validator = jsonschema.Draft202012Validator(json.loads(schema("licences")))
    assert list(validator.iter_errors(body))


def test_every_declared_field_has_a_label() -> None:
    labels = load_locale("en").labels
    for field in FIELDS:
        assert labels.get(f"fact.{field.id}"), field.id


def test_a_language_that_lacks_a_label_is_refused_whole() -> None:
    """Compliance page, 11."""
    with pytest.raises(UsageError, match="lacks the label") as caught:
        load_locale("de")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="no language tag"):
        load_locale("../en")


def test_every_file_has_an_audience_and_authority_files_lie_apart() -> None:
    for name in render_all(MADE):
        found = entry(name)
        assert found.audience
        if found.audience == "authorities on request":
            assert name.startswith("restricted/")
        if found.audience == "public":
            assert not name.startswith("restricted/")


def test_what_shows_a_fact_is_known() -> None:
    """Compliance page, 13.2: the finding names D1 and D2."""
    assert {"D1", "D2"} <= set(documents_with("use.out_of_scope"))
    assert "D7" in documents_with("copyright.owner")
    assert documents_with("nothing.at.all") == ()


def test_no_document_holds_a_verdict() -> None:
    """Compliance page, 13.29."""
    for name, data in render_all(MADE, previous=MADE).items():
        text = data.decode().lower()
        for word in ("compliant", "conforms to the ai act", "certified", "is exempt"):
            assert word not in text, (name, word)


def test_public_documents_withhold_compute_when_it_is_declared_so() -> None:
    """Compliance page, 13.17; Annex XI keeps it, for it is given to authorities alone."""
    withheld = MADE.model_copy(
        update={"values": {**MADE.values, "publish.compute_energy": declared(value=False)}}
    )
    older = withheld.model_copy(
        update={"values": {**withheld.values, "train.flop_modification": computed(7 * 10**12)}}
    )
    for name, data in render_all(withheld, previous=older).items():
        if entry(name).audience in ("public", "downstream providers"):
            assert "FLOP" not in data.decode(), name
            assert str(10**13) not in data.decode(), name
            assert str(7 * 10**12) not in data.decode(), name
    assert "FLOP" in render_all(withheld)["restricted/annex-xi.md"].decode()
    assert "FLOP" in render_all(MADE)["model-card.oecd.md"].decode()
