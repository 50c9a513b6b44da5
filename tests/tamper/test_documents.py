"""C14, document by document: whoever changes a figure by hand is found, wherever it stands."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from forebear.documents.approvals import FOLDER, copies, render_approval
from forebear.documents.build import (
    FACTS,
    INDEX,
    build_documents,
    inputs_of,
    render_documents,
)
from forebear.documents.registry import PREVIOUS, entry
from forebear.documents.registry import RESTRICTED as APART
from forebear.documents.values import Approval, Facts
from forebear.evidence.store import open_evidence
from forebear.formats import strictjson
from forebear.formats.statement import PAYLOAD_TYPE
from forebear.signing.keys import load_public, load_signer
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import sign_envelope
from forebear.verify.checks.c14_documents import check_documents
from forebear.verify.documents import check_approvals, check_texts
from forebear.verify.result import Check, Failed, Finding, Passed, Verdict
from forebear.verify.run import verify
from tests.support.full_release import (
    DOCUMENTS,
    LEDGER,
    PARAMS,
    RESTRICTED,
    VERDICT,
    build_full_release,
)
from tests.support.release import Simulated

# figures as they stand in text and in data; the version stands in every document
_FIGURES = ((b"134.5 million", b"134.6 million"), (b"1-500M", b"500M-5B"), (b"1.0.0", b"1.0.1"))


def judge(place: Path, built: Simulated) -> Verdict:
    """What C14 alone says."""
    trust = TrustPolicy(owner_keys=(load_public(built.owner_pub),))
    with open_evidence(place) as evidence:
        checks = (Check("C14", "documents", check_documents),)
        (result,) = verify(evidence, trust, checks=checks).results
    return result.verdict


def findings(verdict: Verdict) -> tuple[Finding, ...]:
    """The findings of a check that failed by its own judgement."""
    assert isinstance(verdict, Failed), verdict
    assert not verdict.internal, verdict
    return verdict.findings


def reindex(repo: Path) -> None:
    """Makes the index agree with what lies there, as a careful forger would."""
    index = json.loads((repo / DOCUMENTS / INDEX).read_bytes())
    for one in index["documents"]:
        one["sha256"] = hashlib.sha256(place(repo, one["path"]).read_bytes()).hexdigest()
    (repo / DOCUMENTS / INDEX).write_bytes(strictjson.dumps(index))


def place(repo: Path, name: str) -> Path:
    """Where a document lies; those for authorities lie apart."""
    if name.startswith(APART):
        return repo / RESTRICTED / name.removeprefix(APART)
    return repo / DOCUMENTS / name


def documents_in(repo: Path) -> set[str]:
    """Names of all documents as the index has them; facts and index are none."""
    index = json.loads((repo / DOCUMENTS / INDEX).read_bytes())
    return {one["path"] for one in index["documents"]} - {FACTS, PREVIOUS}


def change_every_figure(repo: Path) -> None:
    """One figure changed by hand in each document."""
    for name in documents_in(repo):
        file = place(repo, name)
        data = file.read_bytes()
        old, new = next(pair for pair in _FIGURES if pair[0] in data)
        file.write_bytes(data.replace(old, new, 1))
    reindex(repo)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A release that nobody has touched."""
    return build_full_release(tmp_path_factory.mktemp("honest"))


def test_a_figure_changed_by_hand_is_found_in_every_document(tmp_path: Path) -> None:
    """Issue 8, shown by 3; also in files that a release does not carry."""
    built = build_full_release(tmp_path, edit={"document": change_every_figure})
    found = findings(judge(built.packed, built))
    names = documents_in(built.repo)
    said = {one.path: one.text for one in found if one.path != f"{DOCUMENTS}/{INDEX}"}
    assert set(said) == {f"{DOCUMENTS}/{name}" for name in names}
    ids = {entry(name).id for name in names}
    assert ids >= {"D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8", "D9", "D10", "D11", "D12"}
    card = said[f"{DOCUMENTS}/model-card.oecd.md"]
    assert card.startswith("model.params_total")
    assert "134.6 million" in card
    assert "by its digest" in said[f"{DOCUMENTS}/restricted/annex-xi.md"]


def test_files_for_authorities_stay_out_of_a_release_and_are_compared_by_digest(
    honest: Simulated,
) -> None:
    assert not list(honest.packed.rglob("*annex-xi.*"))
    verdict = judge(honest.packed, honest)
    assert isinstance(verdict, Passed), verdict
    assert "12 files for authorities by digest" in verdict.note


def test_an_index_that_names_another_file_than_the_stage_wrote_is_found(tmp_path: Path) -> None:
    def edit(repo: Path) -> None:
        file = place(repo, "restricted/annex-xi.md")
        file.write_bytes(file.read_bytes() + b"\n")

    built = build_full_release(tmp_path, edit={"document": edit})
    said = {one.path: one.text for one in findings(judge(built.packed, built))}
    where = f"{DOCUMENTS}/restricted/annex-xi.md"
    assert said[where] == "is not the file that the index lists"


# ── the folder alone, without signatures around it ─────────────────────────────────────────────


def _folder(built: Simulated) -> tuple[dict[str, Any], Facts, dict[str, bytes]]:
    folder = built.repo / DOCUMENTS
    files = {file.relative_to(folder).as_posix(): file.read_bytes()
             for file in folder.rglob("*") if file.is_file()}  # fmt: skip
    return json.loads(files[INDEX]), Facts.model_validate_json(files[FACTS]), files


def _texts(index: dict[str, Any], facts: Facts, files: dict[str, bytes]) -> set[tuple[str, str]]:
    return {(one.path, one.text) for one in check_texts("", index, facts, files)}


def test_a_document_left_out_and_one_made_up_are_found(honest: Simulated) -> None:
    index, facts, files = _folder(honest)
    assert _texts(index, facts, files) == set()
    files["all-is-well.md"] = files.pop("licences.md")
    index["documents"] = [one for one in index["documents"] if one["path"] != "licences.md"]
    said = _texts(index, facts, files)
    assert ("licences.md", "is missing") in said
    assert ("all-is-well.md", "is no document that the facts give") in said


def test_an_audience_changed_in_the_index_is_found(honest: Simulated) -> None:
    index, facts, files = _folder(honest)
    for one in index["documents"]:
        if one["audience"] == "authorities on request":
            one["audience"] = "public"
    assert _texts(index, facts, files) == {(INDEX, "is not the index of these documents")}


def test_changes_against_a_release_before_are_rendered_again_too(honest: Simulated) -> None:
    _, facts, _ = _folder(honest)
    older = facts.model_copy(update={"document_time": "2025-01-01T00:00:00Z"})
    values = {**facts.values, "model.version": facts.values["model.name"]}
    older = older.model_copy(update={"values": values})
    files = render_documents(facts, previous=older)
    index = json.loads(files[INDEX])
    assert b"Material changes" in files["changes.md"]
    assert _texts(index, facts, files) == set()
    files[PREVIOUS] = facts.to_bytes()
    assert any(path == "changes.md" for path, _ in _texts(index, facts, files))


@pytest.mark.parametrize("case", ["honest", "of-other-facts", "without-file", "unlisted"])
def test_an_approval_that_nobody_gave_is_found(honest: Simulated, case: str) -> None:
    _, facts, _ = _folder(honest)
    owner = load_signer(honest.repo.parent / "keys" / "owner.pem")
    about = facts.model_copy(update={"document_time": "2020-01-01T00:00:00Z"})
    payload = render_approval(
        about if case == "of-other-facts" else facts, {}, role="compliance", name="A. Person",
        decision="approve", note="", time="2026-11-25T08:00:00Z",
    )  # fmt: skip
    data = sign_envelope(owner, payload, PAYLOAD_TYPE)
    (name,) = copies([data])
    claimed = Approval(
        role="compliance", name="A. Person", decision="approve", time="2026-11-25T08:00:00Z",
        keyid=owner.keyid, file=name.removeprefix(FOLDER), status="valid",
        sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    listed = () if case == "unlisted" else (claimed,)
    files = {} if case == "without-file" else {name: data}
    found = check_approvals("", facts.model_copy(update={"approvals": listed}), files)
    assert [one.text for one in found] == {
        "honest": [],
        "of-other-facts": ["is about other facts"],
        "without-file": ["is listed, but its file is not there"],
        "unlisted": ["is no approval that the facts list"],
    }[case]


# ── the same bytes everywhere ──────────────────────────────────────────────────────────────────


def _render(repo: Path) -> dict[str, bytes]:
    argv = (
        "--links", "links", "--base", "data/base/base.json", "--ledger", f"{LEDGER}/root.json",
        "--verdict", VERDICT, "--declarations", "cards/declarations.yaml", "--trust", "trust",
    )  # fmt: skip
    params = {"seed": PARAMS["seed"], "document": PARAMS["document"]}
    return build_documents(inputs_of(argv, repo, params))[1]


def test_another_folder_clock_locale_and_time_zone_give_the_same_bytes(
    honest: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compliance page, 13.8."""
    elsewhere = tmp_path / "somewhere else" / "deep"
    shutil.copytree(honest.repo, elsewhere)
    once = _render(honest.repo)
    with monkeypatch.context() as other:
        other.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        other.setenv("LC_ALL", "C")
        other.setattr(time, "time", lambda: 4_102_444_800.0)
        other.chdir(tmp_path)
        for file in elsewhere.rglob("*"):
            os.utime(file, (0, 0))
        again = _render(elsewhere)
    time.tzset()
    assert once == again
    assert len(once) > 30
