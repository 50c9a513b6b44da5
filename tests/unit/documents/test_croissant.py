"""Croissant files: no warning by the reference validator, and our own check where it is silent."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from forebear.documents.croissant import CONTEXT, file_name, render
from forebear.documents.croissant_check import REQUIRED, RESPONSIBLE, lacking
from forebear.documents.validators import validate, validate_croissant
from forebear.documents.values import Row
from tests.unit.documents import bills

if TYPE_CHECKING:
    from pathlib import Path

    from forebear.documents.values import Facts

NAME = "croissant/curate-icd.json"


def _document(facts: Facts | None = None, name: str = NAME) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(render(facts or bills.facts())[name])
    return body


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _set(**cells: Any) -> dict[str, tuple[Row, ...]]:
    """The first set with these cells; a cell of None is taken out."""
    known = dict(bills.TABLES["data.sets"][0].cells)
    known.update({k: bills.row("x", **{k: v}).cells[k] for k, v in cells.items() if v is not None})
    kept = {k: v for k, v in known.items() if k not in cells or cells[k] is not None}
    return {"data.sets": (Row(key="curate:icd", cells=kept),)}


def test_a_complete_set_passes_the_reference_validator_without_warnings() -> None:
    facts = bills.facts(without=())
    data = render(facts)[NAME]
    assert validate_croissant(data) == []
    assert validate({NAME: data}, facts).faults == ()


def test_ten_records_can_be_loaded_by_the_reference_library(tmp_path: Path) -> None:
    import mlcroissant

    facts = bills.facts(tables={"data.files": bills.write_corpus(tmp_path)})
    file = tmp_path / "icd.json"  # addresses are relative to the release
    file.write_bytes(render(facts)[NAME])
    records = mlcroissant.Dataset(jsonld=file).records("records/icd")
    loaded = list(itertools.islice(iter(records), 10))
    assert len(loaded) == 10
    texts = [record["records/icd/text"].decode() for record in loaded]
    assert texts == [record["text"] for record in bills.CORPUS[:10]]


def test_a_changed_corpus_is_refused_by_the_reference_library(tmp_path: Path) -> None:
    import mlcroissant

    facts = bills.facts(tables={"data.files": bills.write_corpus(tmp_path)})
    (tmp_path / "data" / "corpus" / "icd.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    file = tmp_path / "icd.json"
    file.write_bytes(render(facts)[NAME])
    records = mlcroissant.Dataset(jsonld=file).records("records/icd")
    with pytest.raises(mlcroissant.GenerationError) as refused:
        list(records)
    assert "hash" in str(refused.value.__cause__).lower()


@pytest.mark.parametrize("field", [*REQUIRED, *RESPONSIBLE])
def test_a_file_without_a_field_that_we_require_fails_our_check(field: str) -> None:
    document = _document()
    assert lacking(document) == []
    del document[field]
    assert field in lacking(document)


@pytest.mark.parametrize("field", ["license", "creator", "version"])
def test_the_reference_validator_refuses_no_file_for_lacking_these(field: str) -> None:
    """Hence our own check: it warns at most."""
    import mlcroissant

    document = _document()
    del document[field]
    mlcroissant.Dataset(jsonld=document)
    assert lacking(document) == [field]


def test_a_context_without_a_standard_key_is_warned_of() -> None:
    document = _document()
    assert document["@context"] == CONTEXT
    document["@context"] = {k: v for k, v in CONTEXT.items() if k != "equivalentProperty"}
    assert any("equivalentProperty" in text for text in validate_croissant(_bytes(document)))


@pytest.mark.parametrize("field", ["contentSize", "sha256", "encodingFormat", "contentUrl"])
def test_a_file_object_lacks_nothing(field: str) -> None:
    document = _document()
    del document["distribution"][0][field]
    assert lacking(document) == [f"distribution.{field}"]


def test_a_record_set_has_key_id_text_source_and_licence() -> None:
    document = _document()
    (records,) = document["recordSet"]
    assert [field["name"] for field in records["field"]] == ["id", "text", "source", "licence"]
    assert records["key"] == {"@id": "records/icd/id"}
    del records["key"]
    assert lacking(document) == ["recordSet.key"]


def test_what_the_records_do_not_hold_stands_as_a_constant(tmp_path: Path) -> None:
    import mlcroissant

    bills.write_corpus(tmp_path)
    rows = (bills.row("icd", set="curate:icd", path="data/corpus/icd.jsonl", size_bytes=9,
                      sha256="8" * 64, fields=["id", "text"]),)  # fmt: skip
    document = _document(bills.facts(tables={"data.files": rows}))
    fields = {field["name"]: field for field in document["recordSet"][0]["field"]}
    assert fields["source"]["value"] == "icd"
    assert fields["licence"]["value"] == "LicenseRef-PD-US"
    assert lacking(document) == []
    assert validate_croissant(_bytes(document)) == []
    assert mlcroissant.Dataset(jsonld=document).metadata.record_sets[0].fields


def test_a_set_that_may_not_be_passed_on_lists_its_source_and_no_file() -> None:
    facts = bills.facts(tables=_set(redistribution="digests_only", sha256="8" * 64))
    document = _document(facts)
    (file,) = document["distribution"]
    assert file["contentUrl"] == "https://example.org/icd"
    assert "recordSet" not in document
    assert "data/corpus" not in json.dumps(document)
    assert "digests alone" in document["description"]
    assert "c" * 64 in document["description"]


def test_a_set_with_a_version_of_its_own_keeps_it_and_others_take_the_release_s() -> None:
    assert _document()["version"] == "1.5.0"
    document = _document(bills.facts(tables=_set(version="stdlib")))
    assert document["version"] == "1.2.0"
    assert lacking(document) == []


def test_nothing_is_invented_for_what_nobody_told() -> None:
    document = _document(bills.facts(tables=_set(
        licence=None, publisher=None, source_url=None, languages=None, known_bias=None,
    )))  # fmt: skip
    for field in ("license", "creator", "url", "inLanguage"):
        assert field not in document
    assert document["rai:dataBiases"] == ["unknown"]
    assert lacking(document) == ["creator", "inLanguage", "license", "url"]


@pytest.mark.parametrize(
    ("licence", "shown"),
    [
        ("MIT", "https://spdx.org/licenses/MIT.html"),
        ("LicenseRef-PD-US", "LicenseRef-PD-US"),
        ("Terms of Example", "Terms of Example"),
    ],
)
def test_a_licence_of_the_list_is_shown_by_its_address(licence: str, shown: str) -> None:
    assert _document(bills.facts(tables=_set(licence=licence)))["license"] == shown


def test_a_generator_of_synthetic_text_stands_among_the_origins() -> None:
    rows = (bills.row("g", set="curate:icd", model="Example Teacher"),)
    origins = _document(bills.facts(tables={"data.generators": rows}))["prov:wasDerivedFrom"]
    assert origins == [
        {"@id": "https://example.org/icd"},
        {"@id": "urn:forebear:generator:Example%20Teacher"},
    ]


def test_addresses_are_those_of_the_web_only() -> None:
    facts = bills.facts(tables=_set(source_url="javascript:alert(1)", licence_url="file:///etc"))
    document = _document(facts)
    assert "url" not in document
    assert "javascript:" not in json.dumps(document)


def test_keys_become_names_of_files_and_two_keys_never_one() -> None:
    assert file_name("curate:../icd") == "croissant/curate-..-icd.json"
    rows = tuple(bills.row(key, id=key) for key in ("a:b", "a/b"))
    assert sorted(render(bills.facts(tables={"data.sets": rows}))) == [
        "croissant/a-b-1.json", "croissant/a-b.json",
    ]  # fmt: skip


def test_a_set_that_is_only_measured_on_needs_its_digest_and_source_alone() -> None:
    rows = (bills.row("t", set="exam", path="data/benchmarks/exam.jsonl", sha256="8" * 64),)
    facts = bills.facts(
        tables={
            "data.files": rows,
            "data.sets": (
                bills.row("curate:exam", id="exam", role="eval", licence="MIT", publisher="Some",
                          collected_from="2024-05", languages=["en"],
                          source_url=bills.declared("https://example.org/exam")),
            ),
        }
    )  # fmt: skip
    name = "croissant/curate-exam.json"
    document = _document(facts, name)
    assert lacking(document, trained=False) == []
    assert lacking(document) == ["distribution.contentSize", "recordSet"]
    assert validate({name: _bytes(document)}, facts).faults == ()
    del document["distribution"][0]["sha256"]
    assert lacking(document, trained=False) == ["distribution.sha256"]
