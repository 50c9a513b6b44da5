"""The strict reader of what people declare."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.documents.build import collect
from forebear.documents.declarations import declared_in, parse_declarations
from forebear.documents.fields import FIELDS
from forebear.documents.values import unknown
from forebear.errors import ConfigError

if TYPE_CHECKING:
    from tests.unit.documents.fixture import Project

CARDS = Path(__file__).parents[3] / "cards"
BY = "declared_by: {name: N, role: R, date: 2026-11-24}\n"


def _parse(text: str):
    return parse_declarations(text.encode(), where="d.yaml")


def _code(text: str, field: str) -> str | None:
    return {entry.field: entry.code for entry in _parse(BY + text).missing}.get(field)


def test_no_file_leaves_every_required_field_missing() -> None:
    declarations = parse_declarations(None, where="d.yaml")
    required = sorted(field.id for field in FIELDS if field.required)
    assert [entry.field for entry in declarations.missing] == required


def test_the_example_is_complete_and_says_so() -> None:
    text = (CARDS / "declarations.example.yaml").read_text(encoding="utf-8")
    declarations = _parse(text)
    assert declarations.missing == ()
    assert text.startswith("# EXAMPLE")
    for field in FIELDS:
        if field.required and field.kind != "rows" and not field.unknown_ok:
            assert declarations.values[field.fact].kind == "declared", field.id


def test_the_repositorys_own_file_holds_and_guides_every_field() -> None:
    text = (CARDS / "declarations.yaml").read_text(encoding="utf-8")
    declarations = _parse(text)
    assert declarations.values["model.eu_market_date"].value == "not_placed"
    guidance = " ".join(text.replace("#", " ").split())
    for field in FIELDS:
        assert f"{field.label}: {field.hint}." in guidance, field.id
        assert f"{field.id.rpartition('.')[2]}:" in text


def test_scalars_follow_yaml_1_2() -> None:
    declarations = _parse(BY + "provider: {country: NO}\nmodel: {release_date: 2026-11-24}\n")
    assert declarations.values["provider.country"].value == "NO"
    assert declarations.values["model.release_date"].value == "2026-11-24"


@pytest.mark.parametrize("text", ["TODO", "tbd", "...", "''", "xxx"])
def test_placeholders_count_as_missing(text: str) -> None:
    assert _code(f"use: {{summary: {text}}}\n", "use.summary") == "C102"


def test_the_guidance_text_counts_as_missing() -> None:
    hint = next(field.hint for field in FIELDS if field.id == "train.objective")
    assert _code(f"train: {{objective: {hint}}}\n", "train.objective") == "C102"


def test_unknown_is_refused_where_it_is_no_answer() -> None:
    assert _code("use: {summary: unknown}\n", "use.summary") == "C103"


def test_unknown_is_accepted_where_it_is_an_answer() -> None:
    assert _code("use: {criticality: unknown}\n", "use.criticality") is None


def test_what_is_optional_may_be_unknown() -> None:
    declarations = _parse(BY + "eval: {inference_benchmark: {flop: unknown}}\n")
    assert "eval.inference_benchmark.flop" not in {one.field for one in declarations.missing}
    assert declarations.values["eval.inference_benchmark.flop"].reason == "declared as unknown"


def test_all_faults_of_the_form_are_told_at_once() -> None:
    text = BY + "provider: {legal_nam: X}\nuse: [x]\nlimits: {known: [x]}\n"
    with pytest.raises(ConfigError) as caught:
        _parse(text)
    what = caught.value.what
    for named in ("provider.legal_nam", "use: must be a mapping", "limits"):
        assert named in what
    assert "meant provider.legal_name?" in what
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("provider: {country: Germany}", "provider.country", "two capitals"),
        ("provider: {size: huge}", "provider.size", "must be one of sme, mid, large"),
        ("copyright: {complaint_days: soon}", "copyright.complaint_days", "whole number"),
        ("copyright: {contact: 'javascript:alert(1)'}", "copyright.contact", "address"),
        ("use: {intended: one}", "use.intended", "list of texts"),
        ("model: {release_date: 2026-13-01}", "model.release_date", "date YYYY-MM-DD"),
        ("model: {eu_market_date: soon}", "model.eu_market_date", "or not_placed"),
        ("provider: {mau: -1}", "provider.mau", "whole number"),
        ("data: {sets: [{id: a, orign: public}]}", "data.sets", "meant origin?"),
        ("data: {sets: [{id: a}, {id: a}]}", "data.sets", "source_url"),
        ("risk: {items: x}", "risk.items", "list of mappings"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_and_left_out(text: str, field: str, says: str) -> None:
    declarations = _parse(BY + text + "\n")
    found = {entry.field: entry for entry in declarations.missing}[field]
    assert found.code == "C104"
    assert says in found.detail
    assert declarations.values.get(field, unknown("table")).kind == "unknown"


def test_a_text_may_be_given_for_each_language() -> None:
    value = _parse(BY + "use: {summary: {en: A model, de: Ein Modell}}\n").values["use.summary"]
    assert value.value == {"en": "A model", "de": "Ein Modell"}
    assert _code("use: {summary: {English language: A model}}\n", "use.summary") == "C104"


def test_rows_are_known_by_their_key_column() -> None:
    rows = "[{name: gpt, provider: P, on_market: 'yes', summary_url: none}]"
    table = _parse(BY + f"train: {{generators: {rows}}}\n").tables["train.generators"]
    assert [row.key for row in table] == ["gpt"]
    assert "terms" not in table[0].cells


def test_statements_can_be_taken_back_out_of_the_facts(project: Project) -> None:
    """What C14 rebuilds with is what was declared."""
    text = (CARDS / "declarations.yaml").read_text(encoding="utf-8")
    project.declare(text)
    facts = collect(project.inputs()).facts
    assert declared_in(facts) == parse_declarations(text.encode(), where="d.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "use: {summary: x}\n",  # nobody declares it
        BY + "use: {summary: a, summary: b}\n",
        BY + "use: &a {summary: x}\n",
        "a: &a [x]\nb: [*a, *a]\n",
        BY + "use: [x]\n",
        "- x\n",
        "use: {summary: !!python/object/apply:os.system [x]}\n",
        "{" * 3000,
        BY + "use: {? [a] : b}\n",
        "declared_by: {name: N, role: R, date: yesterday}\nuse: {summary: x}\n",
    ],
)
def test_files_that_do_not_hold_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _parse(text)
    assert caught.value.where == "d.yaml"


def test_a_nearer_declarer_is_shown() -> None:
    text = BY + "use:\n  declared_by: {name: M, role: S, date: 2026-11-25}\n  summary: x\n"
    by = _parse(text).values["use.summary"].by
    assert by is not None
    assert by.name == "M"


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_end_in_a_value_or_our_error(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse_declarations(data, where="d.yaml")
