"""The strict reader of what people declare."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.documents.build import build_documents
from forebear.documents.check import check_documents
from forebear.documents.declarations import parse_declarations
from forebear.documents.fields import FIELDS
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
    assert all(value.kind == "declared" for value in declarations.values.values())


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


def test_all_faults_are_told_at_once() -> None:
    text = BY + (
        "provider: {country: Germany, size: huge, legal_nam: X}\n"
        "copyright: {complaint_days: soon, contact: 'javascript:alert(1)'}\n"
        "use: {intended: one}\n"
    )
    with pytest.raises(ConfigError) as caught:
        _parse(text)
    what = caught.value.what
    for named in (
        "provider.country", "provider.size", "provider.legal_nam", "copyright.complaint_days",
        "copyright.contact", "use.intended",
    ):  # fmt: skip
        assert named in what
    assert "meant provider.legal_name?" in what
    assert caught.value.exit_code == 2


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


def test_check_lists_every_missing_field_sorted(project: Project) -> None:
    """Compliance page, 13.2 and 13.4: a code, the field, the documents that show it."""
    text = (CARDS / "declarations.example.yaml").read_text(encoding="utf-8")
    project.declare(text.replace("  aup: https://example.org/acceptable-use\n", ""))
    findings = check_documents(build_documents(project.inputs())[0])
    errors = [finding for finding in findings if finding.severity == "error"]
    assert [(f.code, f.field, f.documents) for f in errors] == [("C101", "use.aup", ("D1",))]
    assert str(errors[0]).startswith("C101 error use.aup [D1]: ")
    assert {finding.code for finding in findings} == {"C101", "W210"}
