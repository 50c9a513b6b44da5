"""Findings of ``forebear document --check``: each code with its effect, and a twin without it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from forebear.documents.build import collect
from forebear.documents.check import check_documents
from forebear.documents.legal import LegalFile
from forebear.documents.values import Approval
from tests.unit.documents.fixture import COMPARISON, FILES, GATE, SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebear.documents.check import DocumentFinding
    from tests.unit.documents.fixture import Project

EXAMPLE = (Path(__file__).parents[3] / "cards" / "declarations.example.yaml").read_text("utf-8")


def _example() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.load(EXAMPLE, Loader=yaml.BaseLoader)  # noqa: S506  # texts only
    return tree


def _declare(project: Project, change: Callable[[dict[str, Any]], Any]) -> None:
    tree = _example()
    change(tree)
    project.declare(_as_typed(tree))


def _as_typed(tree: dict[str, Any]) -> str:
    """The tree as YAML whose ``true``, ``false`` and numbers are what they look like."""
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    for word in ("true", "false"):
        text = text.replace(f"'{word}'", word)
    return text.replace("complaint_days: '14'", "complaint_days: 14")


def _found(project: Project, **more: Any) -> list[DocumentFinding]:
    return check_documents(collect(project.inputs()).facts, **more)


def _codes(project: Project, **more: Any) -> dict[str, list[str]]:
    codes: dict[str, list[str]] = {}
    for one in _found(project, **more):
        codes.setdefault(one.code, []).append(one.field)
    return codes


def test_the_example_has_no_error_but_what_the_fixture_cannot_know(project: Project) -> None:
    project.declare(EXAMPLE)
    assert {one.code for one in _found(project) if one.severity == "error"} == set()
    assert set(_codes(project)) - {"C160"} == {"W210", "W403"}


def test_a_missing_field_is_named_with_its_documents(project: Project) -> None:
    """Compliance page, 13.2."""
    _declare(project, lambda tree: tree["use"].pop("out_of_scope"))
    found = [one for one in _found(project) if one.severity == "error"]
    assert [(one.code, one.field) for one in found] == [("C101", "use.out_of_scope")]
    assert {"D1", "D2"} <= set(found[0].documents)
    assert str(found[0]).startswith("C101 error use.out_of_scope [D1, D2")


@pytest.mark.parametrize(("text", "code"), [("TBD", "C102"), ("unknown", "C103"), ([], "C101")])
def test_what_stands_for_no_statement_has_its_code(project: Project, text: Any, code: str) -> None:
    """Compliance page, 13.3."""
    _declare(project, lambda tree: tree["use"].update(summary=text))
    assert _codes(project)[code] == ["use.summary"]


def test_a_wrong_choice_is_c104(project: Project) -> None:
    _declare(project, lambda tree: tree["provider"].update(size="huge"))
    found = next(one for one in _found(project) if one.code == "C104")
    assert "must be one of sme, mid, large (got 'huge')" in found.message


def test_twelve_missing_fields_are_told_in_one_run_and_sorted(project: Project) -> None:
    """Compliance page, 13.4."""

    def drop(tree: dict[str, Any]) -> None:
        for name in ("owner", "contact", "lawful_access", "protocols", "review_date"):
            tree["copyright"].pop(name)
        for name in ("summary", "intended", "users", "aup"):
            tree["use"].pop(name)
        for name in ("measures", "monitoring", "output_marking"):
            tree["oversight"].pop(name)

    _declare(project, drop)
    fields = _codes(project)["C101"]
    assert len(fields) == 12
    assert fields == sorted(fields)


# ── contradictions, data ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"params_total": 1}, "declared 1, the evidence says 134515008"),
        ({"context_length": 4096}, "declared 4096, the evidence says 8192"),
        ({"base_licence": "MIT"}, "declared 'MIT', the evidence says 'Apache-2.0'"),
        ({"languages": ["en", "de"]}, "de is declared"),
    ],
)
def test_a_statement_against_the_evidence_is_shown_with_both(
    project: Project, declared: dict[str, Any], says: str
) -> None:
    """Compliance page, 13.21."""
    project.declare(EXAMPLE)
    assert "C110" not in _codes(project)
    _declare(project, lambda tree: tree["model"].update(declared))
    text = (project.root / "cards/declarations.yaml").read_text("utf-8")
    for number in ("1", "4096"):
        text = text.replace(f": '{number}'\n", f": {number}\n")
    project.declare(text)
    assert says in next(one for one in _found(project) if one.code == "C110").message


def test_an_answer_against_the_origins_is_a_contradiction(project: Project) -> None:
    _declare(project, lambda tree: tree["data"]["answers"].update(synthetic="false"))
    assert _codes(project)["C110"] == ["data.answers.synthetic"]


def test_a_set_that_nobody_declares_or_reads_is_told(project: Project) -> None:
    def swap(tree: dict[str, Any]) -> None:
        tree["data"]["sets"][1]["id"] = "another"

    _declare(project, swap)
    assert _codes(project)["C131"] == ["data.sets[another]", "data.sets[curate:pydoc-topics]"]


def test_a_set_without_a_period_is_told(project: Project) -> None:
    project.sources[1] = {k: one for k, one in SOURCES[1].items() if k != "collected_to"}
    project.sign("curate")
    project.declare(EXAMPLE)
    found = next(one for one in _found(project) if one.code == "C130")
    assert found.field == "data.sets[curate:pydoc-topics]"
    assert found.message == "without collected_to"


def test_crawled_data_need_their_domains(project: Project) -> None:
    def crawl(tree: dict[str, Any]) -> None:
        tree["data"]["sets"][1]["origin"] = "crawled"

    _declare(project, crawl)
    assert _codes(project)["C132"] == ["data.sets[curate:pydoc-topics]"]

    def listed(tree: dict[str, Any]) -> None:
        crawl(tree)
        tree["data"]["domains"] = [{"set": "pydoc-topics", "domain": "example.org",
                                    "bytes": "1", "documents": "1"}]  # fmt: skip

    _declare(project, listed)
    text = (project.root / "cards/declarations.yaml").read_text("utf-8")
    project.declare(
        text.replace("bytes: '1'", "bytes: 1").replace("documents: '1'", "documents: 1")
    )
    assert "C132" not in _codes(project)


def test_synthetic_data_need_their_generator(project: Project) -> None:
    def made(tree: dict[str, Any]) -> None:
        tree["data"]["sets"][1]["origin"] = "synthetic"

    _declare(project, made)
    assert _codes(project)["C133"] == ["data.sets[curate:pydoc-topics]"]

    def named(tree: dict[str, Any]) -> None:
        made(tree)
        tree["train"]["generators"] = [{"name": "writer", "provider": "P", "on_market": "yes",
                                        "summary_url": "none"}]  # fmt: skip

    _declare(project, named)
    assert "C133" not in _codes(project)


def test_a_short_description_is_a_warning(project: Project) -> None:
    _declare(project, lambda tree: tree["data"]["sets"][0].update(content_types="codes only"))
    assert _codes(project)["W302"] == ["data.sets[curate:icd10cm]"]


# ── licences, approvals ────────────────────────────────────────────────────────────────────────


def _base(project: Project, **more: Any) -> None:
    project.write("data/base/base.json", {**FILES["data/base/base.json"], **more})
    project.sign("base")


def test_a_llama_base_in_the_union_is_a_conflict(project: Project) -> None:
    """Compliance page, 13.18."""
    _base(project, licence="llama4")
    _declare(project, lambda tree: tree["model"].update(licence="llama4", base_licence="llama4"))
    assert "C140" in _codes(project)
    assert "C142" in _codes(project)

    def abroad(tree: dict[str, Any]) -> None:
        tree["model"].update(licence="llama4", base_licence="llama4")
        tree["provider"].update(country="US")

    _declare(project, abroad)
    codes = _codes(project)
    assert "C140" not in codes
    assert any("naming" in field for field in codes["C142"])
    project.params["document"] = {**project.params["document"], "name": "Llama-acme-icd"}
    assert not any("naming" in field for field in _codes(project).get("C142", []))


def test_a_cap_on_users_asks_for_their_number(project: Project) -> None:
    _base(project, licence="llama3.1")

    def llama(tree: dict[str, Any]) -> None:
        tree["model"].update(licence="llama3.1", base_licence="llama3.1")

    _declare(project, llama)
    assert {"provider.mau", "provider.mau_month"} <= set(_codes(project)["C101"])
    assert collect(project.inputs()).facts.draft


def test_a_licence_that_is_not_listed_needs_a_review(project: Project) -> None:
    _base(project, licence="Foo-1.0")
    _declare(project, lambda tree: tree["model"].update(base_licence="Foo-1.0"))
    assert _codes(project)["C141"] == ["licences.items[base:original model]"]

    def reviewed(tree: dict[str, Any]) -> None:
        tree["model"].update(base_licence="Foo-1.0")
        tree["licences"] = {"reviews": [{
            "item": "Foo-1.0", "conclusion": "may be used", "lifts": "yes", "by": "A. Lawyer",
            "role": "counsel", "date": "2026-11-01",
        }]}  # fmt: skip

    _declare(project, reviewed)
    assert "C141" not in _codes(project)
    reason = collect(project.inputs()).facts.tables["licences.items"][0].cells["reason"].value
    assert "conclusion of A. Lawyer" in str(reason)


def test_an_approval_that_does_not_hold_is_told(project: Project) -> None:
    project.declare(EXAMPLE)
    facts = collect(project.inputs()).facts
    stale = Approval(role="compliance", name="N", decision="approve", status="out_of_date")
    found = check_documents(facts.model_copy(update={"approvals": (stale,)}))
    told = [one for one in found if one.code == "C160"]
    assert [(one.severity, one.field) for one in told] == [("error", "approvals[compliance:0]")]
    valid = stale.model_copy(update={"status": "valid"})
    found = check_documents(facts.model_copy(update={"approvals": (valid,)}))
    assert "C160" not in {one.code for one in found}


# ── warnings ───────────────────────────────────────────────────────────────────────────────────


def test_a_score_without_an_interval_is_a_warning(project: Project) -> None:
    """Compliance page, 13.25."""
    tasks = [{**one, "scores": {**one["scores"], "candidate": {"value": 0.7, "n": 200}}}
             for one in COMPARISON["tasks"]]  # fmt: skip
    project.write("data/eval/verdict/comparison.json", {**COMPARISON, "tasks": tasks})
    project.sign("eval")
    project.declare(EXAMPLE)
    assert len(_codes(project)["W201"]) == 2


def test_a_judge_of_the_models_own_family_is_flagged(project: Project) -> None:
    """Compliance page, 13.25."""
    judge = {
        "kind": "local", "model": "judge-7b", "digest": "4" * 64, "identity": {},
        "lineage": {"judge": ["HuggingFaceTB/SmolLM2-135M-Instruct"], "candidate": []},
        "may_gate": {"compare": False, "classify": False},
        "figures": {"kappa": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}},
    }  # fmt: skip
    stranger = {**judge, "lineage": {"judge": ["acme/other"], "candidate": []}, "digest": None,
                "model": None}  # fmt: skip
    project.write("data/measure/final/calibration.json",
                  {"judges": {"kin": judge, "stranger": stranger}})  # fmt: skip
    project.products["measure@final"] = (
        "data/measure/final/run.json", "data/measure/final/summary.json",
        "data/measure/final/calibration.json",
    )  # fmt: skip
    project.sign("measure@final")
    project.declare(EXAMPLE)
    rows = {row.key: row.cells for row in collect(project.inputs()).facts.tables["eval.judges"]}
    assert rows["kin"]["self_judging"].value is True
    assert rows["stranger"]["self_judging"].value is False
    assert rows["kin"]["kappa"].value == 0.5
    assert _codes(project)["W202"] == ["eval.judges[stranger]"]


def test_a_role_that_the_ratio_contradicts_is_a_warning(project: Project) -> None:
    trained = FILES["data/cpt/metrics.json"]
    project.write("data/cpt/metrics.json", {**trained, "flop": 9e22})
    project.sign("cpt")
    _base(project, repo="acme/unknown")
    project.declare(EXAMPLE)
    assert _codes(project)["W402"] == ["provider.role"]
    assert "W404" in _codes_of_flop(project, 3.4e22)
    assert "W404" not in _codes_of_flop(project, 2e23)


def _codes_of_flop(project: Project, flop: float) -> dict[str, list[str]]:
    project.write("data/cpt/metrics.json", {**FILES["data/cpt/metrics.json"], "flop": flop})
    project.sign("cpt")
    return _codes(project)


def test_a_tuned_base_is_a_warning_and_a_limitation(project: Project) -> None:
    """Compliance page, 13.26."""
    project.declare(EXAMPLE)
    assert _codes(project)["W403"] == ["model.base.tuned"]
    keys = {row.key for row in collect(project.inputs()).facts.tables["limit.found"]}
    assert "base_is_tuned" in keys
    plain = {name: one for name, one in FILES["data/base/base.json"].items()
             if name != "instruction_tuned"}  # fmt: skip
    project.write("data/base/base.json", plain)
    project.sign("base")
    assert "W403" not in _codes(project)


def test_waivers_and_suites_that_did_not_run_are_limitations(project: Project) -> None:
    waiver = {"task": "mmlu_pro", "reference": "base", "delta": -0.2, "reason": "known",
              "approver": "A. Person", "expires": "2027-01-01"}  # fmt: skip
    project.write("data/eval/verdict/gate.json", {**GATE, "waivers": [waiver]})
    project.sign("eval")
    project.declare(EXAMPLE)
    found = {row.key: row.cells["text"].value
             for row in collect(project.inputs()).facts.tables["limit.found"]}  # fmt: skip
    assert "waiver:mmlu_pro:base" in found
    assert "not_run:humaneval" in found


def test_old_constants_and_old_documents_are_warnings(project: Project) -> None:
    """Compliance page, 13.28: 200 days."""
    project.declare(EXAMPLE)
    assert not {"W401", "W301"} & set(_codes(project))
    codes = _codes(project, today="2027-06-12")
    assert codes["W401"] == ["legal.version"]
    assert codes["W301"] == ["document.time"]
    assert "W301" not in _codes(project, today="2027-04-01")


def test_a_fresh_reading_of_the_law_is_no_warning(project: Project) -> None:
    shipped = resources.files("forebear").joinpath("data/legal/eu-2026-11.yaml").read_bytes()
    text = shipped.decode().replace("verified_on: 2026-11-24", "verified_on: 2027-06-01")
    law = LegalFile(text.encode(), where="other.yaml")
    project.declare(EXAMPLE)
    assert "W401" not in _codes(project, law=law, today="2027-06-12")
