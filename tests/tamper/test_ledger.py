"""Rows 69 to 72: a changed ledger fails C12, an unchanged one passes, a root alone is unchecked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from forebear.evidence.names import ledger_bundle
from forebear.evidence.store import open_evidence
from forebear.formats import strictjson
from forebear.ledger.check import Anchor, check_proof
from forebear.ledger.prove import open_ledger, prove, read_root
from forebear.signing.keys import load_public
from forebear.signing.policy import TrustPolicy
from forebear.verify.checks import CHECKS
from forebear.verify.checks.c12_ledger import check_ledger
from forebear.verify.result import Check, Report, Unchecked
from forebear.verify.run import verify
from tests.support.full_release import LEDGER, FullCase, build_full_release
from tests.support.release import Simulated
from tests.tamper.case import Case, failed, status
from tests.tamper.rows_ledger import CHANGES, INTAKE, KEPT, LIES, ROOT, Change

C12 = Check("C12", "ledger of documents", check_ledger, ("C3",))
WITH_C12 = tuple(C12 if check.id == "C12" else check for check in CHECKS)


@pytest.fixture
def repo(full_built: Simulated, tmp_path: Path) -> Path:
    """A copy of the repository that the release came from."""
    copy = tmp_path / "repo"
    shutil.copytree(full_built.repo, copy)
    (copy / ".dvc").mkdir(exist_ok=True)
    return copy


def report_on(place: Path, built: Simulated) -> Report:
    policy = TrustPolicy(owner_keys=(load_public(built.owner_pub),))
    with open_evidence(place) as evidence:
        return verify(evidence, policy, checks=WITH_C12)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_ledger_fails_c12_and_c4(full_case: FullCase, change: Change) -> None:
    change(full_case.folder)
    report = report_on(full_case.folder, full_case.built)
    assert {"C4", "C12"} <= failed(report), report.to_json()
    assert report.exit_code() == 1


def test_an_unchanged_ledger_passes_in_a_release_and_in_a_repository(
    full_case: FullCase, repo: Path
) -> None:
    report = report_on(full_case.folder, full_case.built)
    assert status(report, "C12") == "passed", report.to_json()
    assert not failed(report)
    assert status(report_on(repo, full_case.built), "C12") == "passed"


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lie_that_the_owner_signed_fails_c12_alone(tmp_path: Path, lie: Change) -> None:
    built = build_full_release(tmp_path, edit={"curate": lie})
    report = report_on(built.packed, built)
    assert failed(report) - {"C14"} == {"C12"}, report.to_json()


def test_a_document_removed_from_the_data_fails_c4(full_built: Simulated, repo: Path) -> None:
    """Row 69, first half: the corpus is not shipped, so in a repository."""
    assert "C4" not in failed(report_on(repo, full_built))
    file = next((repo / "data/curate/corpus").glob("*.jsonl"))
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[1:]))
    assert "C4" in failed(report_on(repo, full_built))


def test_rows_that_are_not_here_leave_the_root_and_c12_unchecked(repo: Path) -> None:
    (repo / KEPT).unlink()
    with open_evidence(repo) as evidence:
        verdict = check_ledger(evidence, TrustPolicy())
    assert isinstance(verdict, Unchecked)
    assert "root only" in verdict.reason
    shutil.rmtree(repo / LEDGER)
    with open_evidence(repo) as evidence:
        verdict = check_ledger(evidence, TrustPolicy())
    assert isinstance(verdict, Unchecked)
    assert "root only" in verdict.reason


def test_row_71_other_roots_in_the_owners_statement_fail_c12(full_case: FullCase) -> None:
    """Subject and signature hold; only the digest in the link tells that the roots are others."""
    case = Case(full_case.folder, full_case.built)

    def other_root(statement: dict[str, Any]) -> None:
        statement["predicate"]["kept"]["root"] = "0" * 64

    case.change_payload(ledger_bundle(ROOT), other_root, signer=full_case.built.owner)
    report = report_on(full_case.folder, full_case.built)
    assert "C12" in failed(report)
    for name in (KEPT, INTAKE, ROOT):
        (full_case.folder / name).unlink()
    assert "C12" in failed(report_on(full_case.folder, full_case.built))


def test_the_owners_statement_is_named_where_the_ledger_is_not_here(full_case: FullCase) -> None:
    shutil.rmtree(full_case.folder / LEDGER)
    with open_evidence(full_case.folder) as evidence:
        verdict = check_ledger(evidence, TrustPolicy())
    assert isinstance(verdict, Unchecked)
    assert "the owner's statement tells it" in verdict.reason


def test_a_pipeline_without_a_ledger_is_unchecked(case: Case) -> None:
    assert status(report_on(case.folder, case.built), "C12") == "unchecked"


def test_a_ledger_that_is_a_link_or_a_fifo_fails_or_stays_unchecked(full_case: FullCase) -> None:
    file = full_case.folder / KEPT
    twin = file.with_name("twin")
    file.rename(twin)
    file.symlink_to(twin)
    report = report_on(full_case.folder, full_case.built)
    assert "C1" in failed(report)
    assert status(report, "C12") == "unchecked"


def test_row_72_a_proof_for_another_tree_size_is_refused(full_case: FullCase) -> None:
    folder = full_case.folder / LEDGER
    document = b"nobody wrote this"
    with open_ledger(folder) as ledger:
        value = prove(ledger, document).to_json()
    anchor = Anchor.of(read_root(folder))
    assert check_proof(strictjson.dumps(value), anchor, document=document).holds
    true = value["claims"][1]["size"]
    for size in (true - 1, true + 1, 2 * true):
        value["claims"][1]["size"] = size
        assert check_proof(strictjson.dumps(value), anchor, document=document).failed
    assert (full_case.folder / ROOT).is_file()
