"""Beside the rows: what must pass, and two graphs that a release of ours could never tell."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from forebear.cli.attach import command as attach_command
from forebear.errors import FormatError, UsageError
from forebear.evidence.claims import Claim, Claims, parse_claim
from forebear.evidence.store import open_evidence
from forebear.formats.statement import APPROVAL, SLSA_PROVENANCE, Statement, parse_bundle
from forebear.release.later import approve, attach
from forebear.release.owner import sign_bundle
from forebear.signing.keys import Signer, create_key, load_public, load_signer
from forebear.signing.policy import TrustPolicy
from forebear.verify.checks.c10_statements import check_statements
from forebear.verify.result import Check, Failed, Passed
from forebear.verify.run import verify
from tests.support.release import CHECKPOINT, WEIGHTS, Simulated
from tests.tamper.case import Case, failed, status
from tests.tamper.rows_statements import RELEASE, add_later

STATEMENTS = (Check("C10", "statements", check_statements),)


def signs(signer: Signer):
    return lambda statement: sign_bundle(signer, statement, where="statement")


def verdict(case: Case, check: str) -> Any:
    return next(one.verdict for one in case.verify().results if one.id == check)


@pytest.fixture
def second(tmp_path: Path) -> Signer:
    return load_signer(create_key("owner", tmp_path / "second", None)[0])


def trusting(case: Case, *keys: Signer, **more: Any) -> None:
    own = load_public(case.built.owner_pub)
    case.policy = {"owner_keys": (own, *(key.public for key in keys)), "min_serial": 1, **more}


# ── the graph ──────────────────────────────────────────────────────────────────────────────────


def test_statements_alone_lead_to_the_sources_as_the_links_do(built: Simulated) -> None:
    with open_evidence(built.packed) as evidence:
        (result,) = verify(evidence, TrustPolicy(()), checks=STATEMENTS).results
    assert isinstance(result.verdict, Passed), result.verdict
    assert "from 2 checkpoints 5 statements lead to" in result.verdict.note


def test_the_statements_of_the_full_pipeline_agree_too(full_built: Simulated) -> None:
    with open_evidence(full_built.packed) as evidence:
        (result,) = verify(evidence, TrustPolicy(()), checks=STATEMENTS).results
    assert isinstance(result.verdict, Passed), result.verdict


def claim(stage: str, subjects: dict[str, str], read: dict[str, str]) -> Claim:
    return Claim(f"{stage}.json", stage, subjects, read, {}, {}, None, "")


def test_a_cycle_of_claims_is_found_and_ends() -> None:
    claims = Claims([claim("a", {"x": "1"}, {"y": "2"}), claim("b", {"y": "2"}, {"x": "1"})])
    assert claims.walk([("x", "1")]).cycles == [("a", "b", "a")]


def test_claims_that_share_a_dep_are_no_cycle() -> None:
    claims = Claims([
        claim("a", {"x": "1"}, {"s": "0"}),
        claim("b", {"y": "2"}, {"x": "1"}),
        claim("c", {"z": "3"}, {"x": "1", "y": "2"}),
    ])  # fmt: skip
    walk = claims.walk([("z", "3"), ("y", "2")])
    assert walk.cycles == []
    assert walk.roots == {("s", "0")}


def test_two_makers_of_one_artifact_are_found() -> None:
    claims = Claims([claim("a", {"x": "1"}, {}), claim("b", {"x": "1"}, {})])
    assert claims.walk([("x", "1")]).several == {("x", "1"): ("a", "b")}


def test_equal_digests_under_another_name_are_no_edge() -> None:
    claims = Claims([claim("a", {"x": "1"}, {}), claim("b", {"y": "2"}, {"other": "1"})])
    walk = claims.walk([("y", "2")])
    assert walk.roots == {("other", "1")}
    assert {edge[3] for edge in walk.edges} == {""}


def test_ten_thousand_claims_in_a_row_are_walked() -> None:
    claims = Claims(claim(f"s{n}", {f"f{n}": "1"}, {f"f{n - 1}": "1"}) for n in range(1, 10_001))
    assert claims.walk([("f10000", "1")]).roots == {("f0", "1")}


@pytest.mark.parametrize(
    "change",
    [
        lambda deps: deps.append(1),
        lambda deps: deps.append({"name": "x"}),
        lambda deps: deps.append({"name": "x", "digest": []}),
        lambda deps: deps.append({"name": "x", "digest": {"sha1": "0"}}),
        lambda deps: deps.append({"name": "x", "digest": {"sha256": "0"}, "annotations": []}),
        lambda deps: deps.append({"uri": "https://example.org", "digest": {}}),
        lambda deps: deps.extend(deps),
    ],
)
def test_a_claim_of_another_form_is_refused(built: Simulated, change: Any) -> None:
    path = f"attestations/{CHECKPOINT}/provenance.sigstore.json"
    payload = parse_bundle((built.packed / path).read_bytes(), where=path).envelope.payload
    value = json.loads(payload)
    statement = Statement((("x", "0" * 64),), SLSA_PROVENANCE, value["predicate"])
    assert parse_claim(statement, where=path).stage == "sft"
    change(value["predicate"]["buildDefinition"]["resolvedDependencies"])
    with pytest.raises(FormatError):
        parse_claim(statement, where=path)


# ── row 24 in a repository ─────────────────────────────────────────────────────────────────────


def test_row_24_a_link_of_another_valid_run_passes_in_a_repository(
    built: Simulated, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    shutil.copytree(built.repo, repo)
    (repo / ".dvc").mkdir()
    before = (repo / "links/sft.link").read_bytes()
    stage = built.pipeline.stage("sft")
    byproducts = dict(_record(repo, "sft"))
    byproducts["forebear"] = {**byproducts["forebear"], "ended": "2026-02-02T00:00:00Z"}
    replace(built, repo=repo).record(stage.name, byproducts=byproducts)
    assert (repo / "links/sft.link").read_bytes() != before
    with open_evidence(repo) as evidence:
        report = verify(evidence, TrustPolicy((load_public(built.owner_pub),), min_serial=1))
    assert failed(report) == set(), report.to_json()


def _record(repo: Path, stage: str) -> Any:
    from forebear.formats.dsse import parse_envelope
    from forebear.formats.link import parse_link

    data = (repo / f"links/{stage}.link").read_bytes()
    return parse_link(parse_envelope(data, where=stage).payload, where=stage).byproducts


# ── what is added later ────────────────────────────────────────────────────────────────────────


def scan(case: Case, tmp_path: Path, **changes: Any) -> Path:
    digest = hashlib.sha256(case.file("SHA256SUMS").read_bytes()).hexdigest()
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "SHA256SUMS", "digest": {"sha256": digest}}],
        "predicateType": "https://cyclonedx.org/bom/v1.6",
        "predicate": {"vulnerabilities": []},
        **changes,
    }
    file = tmp_path / "scan.json"
    file.write_text(json.dumps(value, indent=2))
    return file


def test_an_attached_scan_breaks_nothing_here_nor_under_stock_tools(
    case: Case, tmp_path: Path
) -> None:
    written = attach(case.folder, scan(case, tmp_path), signs(case.built.recorder))
    assert written.relative_to(case.folder).as_posix() == "later/bom.sigstore.json"
    trusting(case)
    report = case.verify()
    assert failed(report) == set(), report.to_json()
    assert status(report, "C11") == "passed"
    done = case.stock()
    assert done.returncode == 0, done.stderr
    sums = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=case.folder, check=False, capture_output=True,
    )  # fmt: skip
    assert sums.returncode == 0


def test_a_ready_bundle_is_attached_byte_for_byte_and_never_replaces_another(
    case: Case, tmp_path: Path
) -> None:
    first = attach(case.folder, scan(case, tmp_path), signs(case.built.recorder), name="one")
    bundle = tmp_path / "bundle.json"
    shutil.move(first, bundle)

    def never(statement: Statement) -> bytes:
        raise AssertionError(statement)

    second = attach(case.folder, bundle, never, name="two")
    assert second.read_bytes() == bundle.read_bytes()
    with pytest.raises(UsageError, match="not replaced"):
        attach(case.folder, bundle, never, name="two")
    assert attach(case.folder, bundle, never).name == "bom.sigstore.json"
    assert attach(case.folder, bundle, never).name == "bom-2.sigstore.json"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "x\n", "x" * 200])
def test_a_name_that_leads_elsewhere_is_refused(case: Case, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        attach(case.folder, scan(case, tmp_path), signs(case.built.owner), name=name)
    assert not (case.folder / "later").exists()


def test_a_statement_about_something_else_is_not_attached(case: Case, tmp_path: Path) -> None:
    for subject in (
        [{"name": "SHA256SUMS", "digest": {"sha256": "0" * 64}}],
        [{"name": "other", "digest": {"sha256": "0" * 64}}],
    ):
        with pytest.raises(UsageError, match="about nothing"):
            attach(case.folder, scan(case, tmp_path, subject=subject), signs(case.built.owner))
    with pytest.raises(FormatError):
        attach(case.folder, scan(case, tmp_path, _type="x"), signs(case.built.owner))
    with pytest.raises(UsageError):
        attach(case.built.repo, scan(case, tmp_path), signs(case.built.owner))


def test_a_link_in_place_of_later_is_not_followed(case: Case, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (case.folder / "later").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        attach(case.folder, scan(case, tmp_path), signs(case.built.owner))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_two_owners_are_counted_and_one_is_not_enough(case: Case, second: Signer) -> None:
    trusting(case, second, owner_threshold=2)
    before = verdict(case, "C11")
    assert isinstance(before, Failed)
    assert "1 more must approve it" in before.findings[0].text
    approve(case.folder, signs(second), note="read and tried")
    after = verdict(case, "C11")
    assert isinstance(after, Passed)
    assert f"{second.keyid:.8}" in after.note


def test_an_approval_of_a_stranger_counts_for_nothing(case: Case, second: Signer) -> None:
    trusting(case, owner_threshold=2)
    approve(case.folder, signs(second))
    report = case.verify()
    assert failed(report) == {"C11"}
    trusting(case)
    assert failed(case.verify()) == set()


def test_an_approval_of_a_revoked_owner_counts_for_nothing(case: Case, second: Signer) -> None:
    approve(case.folder, signs(second))
    trusting(case, second, owner_threshold=2, revoked_keyids=frozenset({second.keyid}))
    assert failed(case.verify()) == {"C11"}


def test_an_approval_of_one_file_is_none_of_the_release(case: Case, second: Signer) -> None:
    digest = hashlib.sha256(case.file("root.layout").read_bytes()).hexdigest()
    add_later(case, Statement((("root.layout", digest),), APPROVAL, {}), signer=second)
    trusting(case, second, owner_threshold=2)
    found = verdict(case, "C11")
    assert isinstance(found, Failed)
    assert "not counted: later/x.sigstore.json" in found.findings[0].text


def test_a_release_that_is_not_as_signed_is_not_approved(case: Case) -> None:
    (case.folder / "SHA256SUMS").write_text("")
    with pytest.raises(UsageError, match="nothing was approved"):
        approve(case.folder, signs(case.built.owner))


def test_the_release_statement_is_not_changed_by_an_approval(case: Case) -> None:
    before = case.file(RELEASE).read_bytes()
    approve(case.folder, signs(case.built.owner))
    assert case.file(RELEASE).read_bytes() == before


def test_the_command_attaches_with_the_key_that_it_is_given(case: Case) -> None:
    words = [str(case.folder), "--approve", "--key", str(case.built.owner_file), "--json"]
    done = CliRunner().invoke(attach_command, words, standalone_mode=False)
    assert done.exception is None, done.exception
    assert json.loads(done.output)["path"] == "later/approval.sigstore.json"
    call = CliRunner().invoke(attach_command, [str(case.folder)], standalone_mode=False)
    assert isinstance(call.exception, UsageError)


def test_an_archive_carries_what_was_attached(case: Case, tmp_path: Path) -> None:
    import tarfile

    approve(case.folder, signs(case.built.owner))
    archive = tmp_path / "release.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(case.folder, ".")
    with open_evidence(archive) as evidence:
        assert evidence.later == ("later/approval.sigstore.json",)


# ── trace ──────────────────────────────────────────────────────────────────────────────────────


def trace(*words: object) -> tuple[int, str]:
    from forebear.cli.trace import command

    done = CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.output


def test_trace_goes_both_ways_in_every_form(built: Simulated) -> None:
    for kind, start in {
        "tree": "data/sft",
        "json": "{",
        "dot": "digraph",
        "mermaid": "flow",
    }.items():
        code, text = trace(WEIGHTS, built.packed, "--format", kind)
        assert code == 0
        assert text.startswith(start)
    code, text = trace("stages/base.py", built.packed, "--forward")
    assert code == 0
    assert "made by eval" in text


def test_trace_finds_a_folder_on_disk_by_its_digest(built: Simulated) -> None:
    folder = built.packed / CHECKPOINT
    assert (
        json.loads(trace(folder, built.packed, "--json")[1])["found"]
        == (json.loads(trace(CHECKPOINT, built.packed, "--json")[1])["found"])
    )


def test_trace_says_where_the_chain_breaks(case: Case) -> None:
    case.resign("sft", lambda link: link["materials"]["stages/sft.py"].update(sha256="2" * 64))
    code, text = trace(WEIGHTS, case.folder)
    assert code == 1
    assert "first broken edge: stage 'sft' read a stages/sft.py" in text
