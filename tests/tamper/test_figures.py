"""Rows 73 to 77 and their twins: what only a look into the files can find."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forebear.evidence.store import open_evidence
from forebear.gate.waiver import FOLDER
from forebear.release.attest import Terms, attest
from forebear.release.owner import KeyOwner
from forebear.signing.keys import load_public
from forebear.signing.policy import TrustPolicy
from forebear.verify.checks.c13_gate import check_gate
from forebear.verify.checks.c14_documents import check_documents
from forebear.verify.result import Check, Failed, Finding, Passed, Report, Unchecked
from forebear.verify.run import verify
from tests.support import full_release
from tests.support.full_release import (
    CHECKPOINT,
    DOCUMENTS,
    SHIP,
    VERDICT,
    FullCase,
    add_waiver,
    build_full_release,
    build_full_repository,
    edit_json,
)
from tests.support.release import Simulated
from tests.tamper.case import failed, status
from tests.tamper.rows_figures import (
    CARD,
    GATE,
    LIES,
    SEARCHED,
    STRICT,
    WAIVED,
    Lie,
    against_previous,
    facts_edit,
    searched,
)

CHECKS = (Check("C13", "gate", check_gate), Check("C14", "documents", check_documents))
SIGNED = datetime(2026, 1, 12, tzinfo=UTC)
VALID = datetime(2026, 2, 10, 23, tzinfo=UTC)
EXPIRED = datetime(2026, 2, 11, 1, tzinfo=UTC)


def look(place: Path, built: Simulated, **policy: Any) -> Report:
    trust = TrustPolicy(owner_keys=(load_public(built.owner_pub),), **policy)
    with open_evidence(place) as evidence:
        return verify(evidence, trust, checks=CHECKS)


def findings(report: Report, check: str) -> tuple[Finding, ...]:
    (verdict,) = [result.verdict for result in report.results if result.id == check]
    assert isinstance(verdict, Failed), verdict
    assert not verdict.internal, verdict
    return verdict.findings


def note(report: Report, check: str) -> str:
    (verdict,) = [result.verdict for result in report.results if result.id == check]
    assert isinstance(verdict, Passed), verdict
    return verdict.note


def reason(report: Report, check: str) -> str:
    (verdict,) = [result.verdict for result in report.results if result.id == check]
    assert isinstance(verdict, Unchecked), verdict
    return verdict.reason


def shipped_without(*paths: str) -> dict[str, tuple[str, ...]]:
    return {stage: tuple(out for out in outs if out not in paths) for stage, outs in SHIP.items()}


def one_way(texts: Iterable[str], said: str) -> bool:
    return any(said in text for text in texts)


# ── the honest release ─────────────────────────────────────────────────────────────────────────


def test_an_honest_release_passes_every_check(full_case: FullCase) -> None:
    report = full_case.verify()
    assert not failed(report), report.to_json()
    assert report.exit_code() == 0
    done = full_case.stock()
    assert done.returncode == 0, done.stderr


def test_an_honest_release_passes_c13_and_c14(full_case: FullCase) -> None:
    started = time.process_time()
    report = look(full_case.folder, full_case.built)
    assert time.process_time() - started < 8  # some 40 documents are made again
    assert "240 results of 2 runs" in note(report, "C13")
    assert "files as the facts give them" in note(report, "C14")


def test_a_repository_passes_too(full_built: Simulated, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(full_built.repo, repo)
    (repo / ".dvc").mkdir()
    report = look(repo, full_built)
    assert (status(report, "C13"), status(report, "C14")) == ("passed", "passed")


# ── a deceived owner ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.id)
def test_a_lie_that_the_owner_signed_is_found(lie: Lie, tmp_path: Path) -> None:
    built = build_full_release(tmp_path, edit=lie.edit, params=lie.params)
    report = look(built.packed, built)
    assert failed(report) == {lie.check}, report.to_json()
    found = findings(report, lie.check)
    assert lie.where in {finding.path for finding in found}, found
    assert one_way((finding.text for finding in found), lie.says), found


def test_a_verdict_after_a_clean_search_passes_c13(tmp_path: Path) -> None:
    edit = {"eval": searched()}
    built = build_full_release(tmp_path, edit=edit, params={"eval": SEARCHED})
    assert note(look(built.packed, built), "C13").startswith("PASS decided again")


def test_the_run_of_a_previous_release_is_known_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"first_release": False, "required": {}, "margins": {"mc4": 0.1}}
    decided = against_previous(changes)
    monkeypatch.setattr(full_release, "write_verdict", lambda repo, _section: decided(repo))
    built = build_full_release(tmp_path, params={"eval": changes})
    assert note(look(built.packed, built), "C13").startswith("PASS decided again")


def test_only_the_named_check_sees_the_lie(tmp_path: Path) -> None:
    lie = next(lie for lie in LIES if lie.id.startswith("74a"))
    built = build_full_release(tmp_path, edit=lie.edit)
    report = FullCase(built.packed, built).verify()
    assert failed(report) <= {"C13"}, report.to_json()


# ── in a packed release ────────────────────────────────────────────────────────────────────────


def test_row_73_another_checkpoint_was_measured(full_case: FullCase) -> None:
    def change(link: dict[str, Any]) -> None:
        link["materials"][f"tree:{CHECKPOINT}"]["sha256"] = "0" * 64

    full_case.resign("measure@final", change)
    report = look(full_case.folder, full_case.built)
    assert one_way((f.text for f in findings(report, "C13")), "did not read")


def test_row_73_results_swapped_on_disk(full_case: FullCase) -> None:
    ours, theirs = (full_case.folder / "data/measure" / name for name in ("final", "base"))
    shutil.copy(theirs / "items/mc4.jsonl.gz", ours / "items/mc4.jsonl.gz")
    report = full_case.verify()
    assert "C4" in failed(report)
    report = look(full_case.folder, full_case.built)
    assert findings(report, "C13")[0].path == "data/measure/final/items/mc4.jsonl.gz"


def test_row_74_verdict_edited_and_signed_again_by_the_recorder(full_case: FullCase) -> None:
    full_case.change_json(GATE, lambda gate: gate["pairs"][0].update(b=0, c=120))
    digest = _digest(full_case.folder / GATE)
    full_case.resign("eval", lambda link: link["products"][GATE].update(sha256=digest))
    full_case.renew_sums()
    report = look(full_case.folder, full_case.built)
    assert one_way((f.text for f in findings(report, "C13")), "another verdict")


def test_row_76_card_edited_on_disk(full_case: FullCase) -> None:
    file = full_case.folder / DOCUMENTS / CARD
    file.write_text(file.read_text().replace("134.5 million", "1"))
    report = look(full_case.folder, full_case.built)
    assert findings(report, "C14")[0].path == f"{DOCUMENTS}/{CARD}"
    assert "C4" in failed(full_case.verify())


def test_row_77_document_edited_consistently_without_a_new_release(full_case: FullCase) -> None:
    file = full_case.folder / DOCUMENTS / CARD
    before = _digest(file)
    file.write_text(file.read_text().replace("134.5 million", "1"))
    listed = full_case.folder / f"manifests/{DOCUMENTS}.sha256"
    listed.write_text(listed.read_text().replace(before, _digest(file)))
    full_case.renew_sums()
    report = full_case.verify()
    assert {"C4", "C11"} <= failed(report), report.to_json()


def test_row_77_declaration_edited_in_a_repository(full_built: Simulated, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(full_built.repo, repo)
    (repo / ".dvc").mkdir()
    file = repo / "cards/declarations.yaml"
    file.write_text(f"{file.read_text()}# edited\n")
    report = look(repo, full_built)
    assert findings(report, "C14")[0].path == "cards/declarations.yaml"


def test_a_statement_of_people_reworded_fails_where_the_declarations_lie(tmp_path: Path) -> None:
    def change(facts: dict[str, Any]) -> None:
        facts["values"]["use.summary"]["value"] = "Diagnoses patients."

    built = build_full_release(tmp_path, edit={"document": facts_edit(change)})
    (built.repo / ".dvc").mkdir()
    report = look(built.repo, built)
    assert "use.summary" in findings(report, "C14")[0].text


# ── waivers ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def waived(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return build_full_release(
        tmp_path_factory.mktemp("waived"), edit=WAIVED, params={"eval": STRICT}, now=SIGNED
    )


def test_a_valid_waiver_passes_and_is_named(waived: Simulated) -> None:
    report = look(waived.packed, waived, now=VALID)
    said = note(report, "C13")
    assert said.startswith("PASS_WITH_WAIVERS")
    assert "mc4 waived by A. Person until 2026-02-10" in said
    assert status(report, "C14") == "passed"
    card = (waived.packed / DOCUMENTS / CARD).read_text(encoding="utf-8")
    assert "Waived by" in card
    assert "a second release follows within the month" in card


def test_row_75_an_expired_waiver_fails_c13(waived: Simulated) -> None:
    found = findings(look(waived.packed, waived, now=EXPIRED), "C13")
    assert [finding.text for finding in found] == ["expired on 2026-02-10"]
    assert found[0].path == f"{GATE}: waiver mc4.dsse"


def test_row_75_a_waiver_counts_only_from_a_trusted_owner(waived: Simulated) -> None:
    keyid = load_public(waived.owner_pub).keyid
    report = look(waived.packed, waived, now=VALID, revoked_keyids=frozenset({keyid}))
    assert one_way((f.text for f in findings(report, "C13")), "not signed by a trusted owner")


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"tree": "a" * 64}, "for the checkpoint aaaa"),
        ({"verdict_sha256": "b" * 64}, "another verdict"),
        ({"reference": "previous"}, "does not compare"),
        ({"delta": 0.25}, "another difference"),
        ({"metric": "f1"}, "does not compare mc4 by f1"),
        ({}, ""),
    ],
)
def test_row_75_a_waiver_of_something_else_fails_c13(
    waived: Simulated, tmp_path: Path, terms: dict[str, Any], said: str
) -> None:
    case = _with_waiver(waived, tmp_path, **terms)
    report = look(case.folder, waived, now=VALID)
    if said:
        assert one_way((f.text for f in findings(report, "C13")), said), report.to_json()
    else:
        assert status(report, "C13") == "passed", report.to_json()


def test_row_75_a_waiver_of_the_recorder_fails_c13(waived: Simulated, tmp_path: Path) -> None:
    case = _with_waiver(waived, tmp_path, signer=waived.recorder)
    found = findings(look(case.folder, waived, now=VALID), "C13")
    assert one_way((f.text for f in found), "not signed by a trusted owner")


def _with_waiver(built: Simulated, folder: Path, **terms: Any) -> FullCase:
    """The waived release with another waiver in it, signed over by recorder and owner."""
    shutil.copytree(built.packed, folder / "packed")
    shutil.copytree(built.repo.parent / "keys", folder / "keys")
    shutil.copytree(built.packed / VERDICT, folder / "repo" / VERDICT)
    add_waiver(folder / "repo", **terms)
    shutil.copytree(folder / "repo" / VERDICT, folder / "packed" / VERDICT, dirs_exist_ok=True)
    case = FullCase(folder / "packed", built)
    _accept(case)
    return case


def _accept(case: FullCase) -> None:
    """Owner and recorder sign the verdict that lies here, both deceived or both bribed."""
    gate_digest = _digest(case.folder / GATE)
    waiver = f"{VERDICT}/{FOLDER}/mc4.dsse"

    def link(value: dict[str, Any]) -> None:
        value["products"][GATE]["sha256"] = gate_digest
        value["products"][waiver] = {"sha256": _digest(case.folder / waiver)}

    def statement(value: dict[str, Any]) -> None:
        value["predicate"]["configuration"][0]["digest"]["sha256"] = gate_digest

    case.resign("eval", link)
    case.change_payload("attestations/gate.sigstore.json", statement, signer=case.built.owner)


# ── what stays unchecked ───────────────────────────────────────────────────────────────────────


def test_a_smoke_run_never_passes_c13(tmp_path: Path) -> None:
    built = build_full_release(
        tmp_path, params={"eval": {"profile": "smoke"}}, terms=Terms(allow_smoke=True)
    )
    assert "a smoke run decides nothing" in reason(look(built.packed, built), "C13")


def test_a_smoke_run_of_another_checkpoint_still_fails(tmp_path: Path) -> None:
    edit = {"measure@base": edit_json("data/measure/base/run.json", _other)}
    built = build_full_release(
        tmp_path, params={"eval": {"profile": "smoke"}}, terms=Terms(allow_smoke=True), edit=edit
    )
    assert "C13" in failed(look(built.packed, built))


def test_results_that_are_not_shipped_leave_c13_unchecked(tmp_path: Path) -> None:
    built = build_full_release(tmp_path, ship=shipped_without("data/measure/base"))
    said = reason(look(built.packed, built), "C13")
    assert "data/measure/base/run.json (sha256 " in said


def test_a_verdict_that_is_not_shipped_leaves_c13_unchecked(tmp_path: Path) -> None:
    built = build_full_release(tmp_path, ship=shipped_without(VERDICT))
    report = look(built.packed, built)
    assert GATE in reason(report, "C13")
    assert "figures by digest only" in reason(report, "C14")


def test_figures_whose_evidence_is_not_shipped_are_counted(tmp_path: Path) -> None:
    built = build_full_release(tmp_path, ship=shipped_without("data/sft/metrics.json"))
    said = reason(look(built.packed, built), "C14")
    assert "data/sft/metrics.json" in said
    assert "figures equal the evidence they cite" in said


def test_a_lie_is_found_though_other_evidence_is_not_shipped(tmp_path: Path) -> None:
    lie = next(lie for lie in LIES if lie.id.startswith("76d"))
    built = build_full_release(
        tmp_path, ship=shipped_without("data/sft/metrics.json"), edit=lie.edit
    )
    assert "C14" in failed(look(built.packed, built))


def test_documents_of_other_code_are_compared_by_value_only(tmp_path: Path) -> None:
    path = f"{DOCUMENTS}/documents.json"
    edit = edit_json(path, lambda index: index.update(generator_sha256="0" * 64))
    built = build_full_release(tmp_path, edit={"document": edit})
    assert "other code" in reason(look(built.packed, built), "C14")


def test_a_release_without_gate_or_documents_leaves_both_unchecked(tmp_path: Path) -> None:
    built = build_full_repository(tmp_path, ship={"merge": (CHECKPOINT,)})
    owner = KeyOwner(built.owner, built.owner_file)
    attest(
        built.repo, built.pipeline, owner, recorders=[built.recorder.public],
        gate=None, documents=None, release="release", terms=Terms(documents="none"),
    )  # fmt: skip
    built.record("attest")
    report = look(built.pack(), built)
    assert reason(report, "C13") == "this release has no gate"
    assert "is not here" in reason(report, "C14")  # they exist, but no part of them is shipped


def _other(run: dict[str, Any]) -> None:
    run["model"]["tree_sha256"] = "c" * 64


def _digest(file: Path) -> str:
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()
