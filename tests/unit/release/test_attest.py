"""Attest and pack: what they refuse, what they write, in which order."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    GateError,
    RecordError,
    UsageError,
)
from forebear.evidence.store import open_evidence
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.layout import parse_layout
from forebear.formats.link import PAYLOAD_TYPE, parse_link
from forebear.formats.statement import LEDGER, SLSA_PROVENANCE, parse_bundle, parse_statement
from forebear.gate.waiver import parse_waiver, render_waiver, verdict_digest, waive
from forebear.pipeline import Out, Pipeline
from forebear.release.attest import Terms, attest
from forebear.release.chain import load_recorders
from forebear.release.owner import KeyOwner
from forebear.release.pack import write_archive
from forebear.release.sources import with_sources
from forebear.signing.keys import Signer, load_public
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import sign_envelope, verify_envelope
from forebear.verify.run import verify
from tests.support.full_release import build_full_release
from tests.support.release import (
    CHECKPOINT,
    WEIGHTS,
    Simulated,
    build_repository,
    write,
    write_gate,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return build_repository(tmp_path_factory.mktemp("release"))


@pytest.fixture
def sim(template: Simulated, tmp_path: Path) -> Simulated:
    shutil.copytree(template.repo, tmp_path / "repo", symlinks=True)
    return replace(template, repo=tmp_path / "repo", packed=tmp_path / "packed")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return build_full_release(tmp_path_factory.mktemp("full"))


def _statement(folder: Path, name: str, sim: Simulated):
    bundle = parse_bundle((folder / name).read_bytes(), where=name)
    verify_envelope(bundle.envelope, sim.owner.public)
    return parse_statement(bundle.envelope.payload, where=name)


def _source_record(sim: Simulated):
    file = next((sim.repo / "release/links").glob("source.*.link"))
    envelope = parse_envelope(file.read_bytes(), where="source")
    verify_envelope(envelope, sim.owner.public)
    return parse_link(envelope.payload, where="source")


def test_a_release_holds_every_part(sim):
    sim.attest(now=NOW)
    release = sim.repo / "release"
    r, o = sim.recorder.keyid[:8], sim.owner.keyid[:8]
    names = sorted(
        file.relative_to(release).as_posix() for file in release.rglob("*") if file.is_file()
    )
    assert names == [
        "SHA256SUMS",
        "attestations/data/base/checkpoint/provenance.sigstore.json",
        "attestations/data/sft/checkpoint/model.sig",
        "attestations/data/sft/checkpoint/provenance.sigstore.json",
        "attestations/gate.sigstore.json",
        *(f"attestations/stages/{stage}.provenance.sigstore.json"
          for stage in ("base", "eval", "sft")),
        *(f"links/{stage}.{r}.link" for stage in ("base", "eval", "sft")),
        f"links/source.{o}.link",
        "manifests/data/base/checkpoint.sha256",
        "manifests/data/sft/checkpoint.sha256",
        "owner.pub",
        "pipeline.json",
        "release.sigstore.json",
        "root.layout",
    ]  # fmt: skip


def test_provenance_names_the_tree_first_and_every_dep(sim):
    sim.attest(now=NOW)
    name = f"attestations/{CHECKPOINT}/provenance.sigstore.json"
    statement = _statement(sim.repo / "release", name, sim)
    assert statement.predicate_type == SLSA_PROVENANCE
    manifest = (sim.repo / f"release/manifests/{CHECKPOINT}.sha256").read_bytes()
    assert statement.subjects[0] == (f"tree:{CHECKPOINT}", hashlib.sha256(manifest).hexdigest())
    deps = statement.predicate["buildDefinition"]["resolvedDependencies"]
    named = [dep["name"] for dep in deps if "name" in dep]
    assert "tree:data/base/checkpoint" in named
    assert "stages/sft.py" in named
    assert not [dep for dep in named if dep.startswith(("cmd:", "params:"))]
    assert statement.predicate["buildDefinition"]["externalParameters"]["params"]["sft"] == {
        "epochs": 1, "lr": "0.00001"
    }  # fmt: skip


def test_the_release_statement_covers_every_part(sim):
    sim.attest(now=NOW, terms=Terms(serial=7))
    release = sim.repo / "release"
    statement = _statement(release, "release.sigstore.json", sim)
    for name, digest in statement.subjects:
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == digest
    files = {file.relative_to(release).as_posix() for file in release.rglob("*") if file.is_file()}
    manifests = {name for name in files if name.startswith("manifests/")}
    assert {name for name, _ in statement.subjects} == files - manifests - {
        "release.sigstore.json"
    }  # fmt: skip
    assert "owner.pub" in dict(statement.subjects)
    assert statement.predicate["serial"] == 7
    assert statement.predicate["previous"] is None


def test_provenance_of_a_stage_covers_all_that_it_wrote_and_names_the_links_upstream(sim):
    sim.attest(now=NOW)
    release = sim.repo / "release"
    name = "attestations/stages/sft.provenance.sigstore.json"
    statement = _statement(release, name, sim)
    subjects = [one for one, _ in statement.subjects]
    assert subjects[0] == f"tree:{CHECKPOINT}"
    assert {WEIGHTS, "data/sft/metrics.json"} < set(subjects)
    deps = statement.predicate["buildDefinition"]["resolvedDependencies"]
    (upstream,) = [dep for dep in deps if "annotations" in dep]
    assert upstream["annotations"] == {"stage": "base"}
    data = (release / upstream["name"]).read_bytes()
    assert upstream["digest"] == {"sha256": hashlib.sha256(data).hexdigest()}


def test_a_ledgers_root_is_stated_and_annotates_what_was_made_of_it(full):
    release = full.repo / "release"
    root = (full.repo / "data/curate/ledger/root.json").read_bytes()
    name = "attestations/data/curate/ledger/ledger.sigstore.json"
    statement = _statement(release, name, full)
    assert statement.predicate_type == LEDGER
    digest = hashlib.sha256(root).hexdigest()
    assert statement.subjects == (("data/curate/ledger/root.json", digest),)
    assert statement.predicate == strictjson.parse(root, where="root")
    name = "attestations/stages/sft.provenance.sigstore.json"
    deps = _statement(release, name, full).predicate["buildDefinition"]["resolvedDependencies"]
    notes = {
        dep["annotations"]["stage"]: dep["annotations"] for dep in deps if "annotations" in dep
    }
    assert notes["curate"]["ledger"] == [
        {"name": "data/curate/ledger/root.json", "digest": {"sha256": digest}}
    ]


def test_a_release_names_the_one_before_and_must_be_younger(sim):
    before = {"serial": 3, "sha256": "0" * 64}
    sim.attest(now=NOW, terms=Terms(serial=4, previous=before))
    statement = _statement(sim.repo / "release", "release.sigstore.json", sim)
    assert statement.predicate["previous"] == before
    for serial, previous in [
        (3, before),
        (2, before),
        (4, {"serial": True, "sha256": "0" * 64}),
        (4, {"serial": 1, "sha256": "0" * 63}),
        (4, {"serial": 1}),
        (4, {**before, "more": 1}),
    ]:
        with pytest.raises(ConfigError):
            Terms(serial=serial, previous=previous)


def _attest_plainly(sim: Simulated, **terms):
    attest(
        sim.repo,
        sim.pipeline,
        KeyOwner(sim.owner, sim.owner_file),
        recorders=[sim.recorder.public],
        gate=None,
        documents=None,
        release="release",
        terms=Terms(**terms),
        now=NOW,
    )
    sim.record("attest")


def test_a_pipeline_without_gate_and_documents_is_signed_as_such(sim):
    _attest_plainly(sim)
    release = sim.repo / "release"
    assert not (release / "attestations/gate.sigstore.json").exists()
    predicate = _statement(release, "release.sigstore.json", sim).predicate
    assert predicate["gate"] is None
    assert predicate["documents"] == "none"
    with open_evidence(sim.pack()) as evidence:
        report = verify(evidence, TrustPolicy((load_public(sim.owner_pub),), min_serial=1))
    assert not [result for result in report.results if result.status == "failed"]
    with pytest.raises(ConfigError, match="no documents"):
        _attest_plainly(sim, documents="final")


@pytest.mark.parametrize(
    ("ship", "said"), [("later/x", "keeps its own files"), ("", "would carry nothing")]
)
def test_what_a_release_cannot_carry_is_refused(sim, ship, said):
    if ship:
        write(sim.repo, ship, "x")
    stages = []
    for stage in sim.pipeline.stages:
        outs = tuple(replace(out, kind="") for out in stage.outs)
        meta = {"forebear": {"ship": [ship]}} if ship and stage.name == "sft" else {}
        if meta:
            outs = (*outs, Out(ship, is_dir=False))
        stages.append(replace(stage, outs=outs, meta=meta))
    with pytest.raises(ConfigError, match=said):
        replace(sim, pipeline=replace(sim.pipeline, stages=tuple(stages))).attest(now=NOW)


def test_pipeline_comes_back_and_carries_the_lock(sim):
    sim.attest(now=NOW)
    value = strictjson.parse_canonical((sim.repo / "release/pipeline.json").read_bytes(), where="p")
    expected = with_sources(sim.pipeline, sim.repo, release="release")
    assert Pipeline.from_json(value) == replace(expected, root=None)
    assert sorted(value["lock"]) == ["base", "eval", "sft"]


def test_equal_inputs_give_equal_bytes_but_for_signatures(sim):
    sim.attest(now=NOW)
    release = sim.repo / "release"
    parts = ["pipeline.json", "owner.pub", f"manifests/{CHECKPOINT}.sha256"]
    before = [(release / part).read_bytes() for part in parts]
    layout = parse_envelope((release / "root.layout").read_bytes(), where="l").payload
    sim.attest(now=NOW)
    assert [(release / part).read_bytes() for part in parts] == before
    assert parse_envelope((release / "root.layout").read_bytes(), where="l").payload == layout
    assert parse_layout(layout, where="l").expires == datetime(2027, 1, 1, tzinfo=UTC)


def test_committed_sources_are_said_to_be(sim):
    sim.attest(now=NOW)
    record = _source_record(sim).byproducts["forebear"]
    assert record["committed"] is True
    assert record["differs"] == []
    assert len(record["git"]["commit"]) == 40


def test_an_edited_and_an_untracked_source_are_listed(sim):
    write(sim.repo, "stages/base.py", "# edited\n")
    write(sim.repo, "trust/new.txt", "new\n")
    for stage in ("base", "sft", "eval"):
        sim.record(stage)
    sim.attest(now=NOW)
    record = _source_record(sim).byproducts["forebear"]
    assert record["committed"] is False
    assert record["differs"] == ["stages/base.py", "trust/new.txt"]


def test_the_source_link_holds_every_command_and_all_params(sim):
    sim.attest(now=NOW)
    products = _source_record(sim).products
    for stage in ("base", "sft", "eval", "attest"):
        assert f"cmd:{stage}" in products
        assert f"params:{stage}" in products
    assert "tree:trust" in products
    assert not [name for name in products if name.startswith("links/")]


def _edit_weights(sim: Simulated) -> None:
    write(sim.repo, WEIGHTS, "t" * 100)


def _edit_source(sim: Simulated) -> None:
    write(sim.repo, "stages/sft.py", "# other\n")


def _drop_link(sim: Simulated) -> None:
    (sim.repo / "links/sft.link").unlink()


def _swap_link(sim: Simulated) -> None:
    shutil.copy(sim.repo / "links/base.link", sim.repo / "links/sft.link")


def _garble_link(sim: Simulated) -> None:
    (sim.repo / "links/sft.link").write_bytes(b"{}\n")


def _fail_link(sim: Simulated) -> None:
    link = parse_link(
        parse_envelope((sim.repo / "links/sft.link").read_bytes(), where="l").payload, where="l"
    )
    sim.record("sft", byproducts={**link.byproducts, "return-value": 1})


def _omit_material(sim: Simulated) -> None:
    link = parse_link(
        parse_envelope((sim.repo / "links/sft.link").read_bytes(), where="l").payload, where="l"
    )
    sim.record("sft", materials={
        name: digest for name, digest in link.materials.items() if name != "stages/sft.py"
    })  # fmt: skip


def _change_command(sim: Simulated) -> None:
    sim.record("sft", command=("true",))


def _foreign_key(sim: Simulated) -> None:
    replace(sim, recorder=sim.owner).record("sft")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_edit_weights, "sft: data/sft/checkpoint/model.safetensors on disk"),
        (_edit_source, "sft: stages/sft.py is not what is in the working tree"),
        (_drop_link, "sft: links/sft.link: there is no link"),
        (_swap_link, "sft: the link is that of stage 'base'"),
        (_garble_link, "sft: links/sft.link: these fields are missing"),
        (_fail_link, "sft: the command returned 1"),
        (_omit_material, "sft: stages/sft.py is not what"),
        (_change_command, "sft: the command is not the one"),
        (_foreign_key, "no known recorder"),
    ],
)
def test_a_broken_chain_signs_nothing(
    sim: Simulated, change: Callable[[Simulated], None], said: str
):
    change(sim)
    with pytest.raises(RecordError) as caught:
        sim.attest(now=NOW)
    assert said in caught.value.what
    assert "dvc repro" in caught.value.fix
    assert not (sim.repo / "release").exists()


def test_changed_params_break_the_chain(sim):
    stages = tuple(
        replace(stage, params={"seed": 8, "sft": {}}) if stage.name == "sft" else stage
        for stage in sim.pipeline.stages
    )
    with pytest.raises(RecordError, match="the params are not the ones"):
        replace(sim, pipeline=replace(sim.pipeline, stages=stages)).attest(now=NOW)


@pytest.mark.parametrize(
    ("gate", "terms", "said"),
    [
        ({"verdict": "FAIL"}, Terms(), "verdict is FAIL"),
        ({"verdict": "INCONCLUSIVE"}, Terms(), "verdict is INCONCLUSIVE"),
        ({"verdict": "SMOKE"}, Terms(), "verdict is SMOKE"),
        ({"candidate_tree": "0" * 64}, Terms(), "judged another checkpoint"),
        ({"candidate_tree": None}, Terms(), "judged another checkpoint"),
    ],
)
def test_the_gate_decides(sim, gate, terms, said):
    write_gate(sim.repo, **gate)
    sim.record("eval")
    with pytest.raises(GateError, match=said):
        sim.attest(now=NOW, terms=terms)
    assert not (sim.repo / "release").exists()


@pytest.mark.parametrize(
    ("verdict", "terms", "result"),
    [
        ("SMOKE", Terms(allow_smoke=True), "WARNED"),
        ("PASS", Terms(), "PASSED"),
    ],
)
def test_a_verdict_that_passes_is_stated(sim, verdict, terms, result):
    write_gate(sim.repo, verdict=verdict)
    sim.record("eval")
    sim.attest(now=NOW, terms=terms)
    statement = _statement(sim.repo / "release", "attestations/gate.sigstore.json", sim)
    assert statement.predicate["result"] == result
    assert statement.subjects[0][0] == f"tree:{CHECKPOINT}"


def _write_waived_gate(sim: Simulated, signer: Signer, **changes) -> None:
    """A verdict that fails by one pair, waived by ``signer``; ``changes`` replace terms."""
    pair = {"task": "mc4", "reference": "base", "metric": "accuracy", "delta": -0.02,
            "reasons": [], "verdict": "FAIL"}  # fmt: skip
    write_gate(sim.repo, verdict="FAIL", pairs=[pair])
    file = sim.repo / "data/eval/verdict/gate.json"
    gate = strictjson.parse(file.read_bytes(), where="gate")
    terms = {
        "task": "mc4", "reference": "base", "metric": "accuracy", "delta": -0.02,
        "verdict_sha256": verdict_digest(gate), "issued": "2025-12-01", "expires": "2026-01-31",
        "approver": "A. Owner", "reason": "the two items that were lost are being written anew",
        **changes,
    }  # fmt: skip
    data = sign_envelope(signer, render_waiver(gate["candidate_tree"], terms), PAYLOAD_TYPE)
    place = file.parent / "waivers" / "mc4.dsse"
    place.parent.mkdir()
    place.write_bytes(data)
    waived = waive(gate, [parse_waiver(data, where="mc4.dsse")])
    assert waived["verdict"] == "PASS_WITH_WAIVERS"
    file.write_bytes(strictjson.dumps(waived))
    sim.record("eval")


def test_a_waiver_of_the_owner_lets_a_release_be_signed_with_a_warning(sim):
    _write_waived_gate(sim, sim.owner)
    sim.attest(now=NOW)
    statement = _statement(sim.repo / "release", "attestations/gate.sigstore.json", sim)
    assert statement.predicate["result"] == "WARNED"


def test_a_waiver_that_is_expired_foreign_gone_or_unlisted_signs_nothing(sim):
    _write_waived_gate(sim, sim.owner, expires="2025-12-31")
    with pytest.raises(GateError, match="expired"):
        sim.attest(now=NOW)
    file = sim.repo / "data/eval/verdict/waivers/mc4.dsse"
    file.unlink()
    sim.record("eval")
    with pytest.raises(GateError, match="is not the waiver"):
        sim.attest(now=NOW)
    file.parent.rmdir()
    _write_waived_gate(sim, sim.recorder)
    with pytest.raises(GateError, match="not signed by a trusted owner"):
        sim.attest(now=NOW)
    write_gate(sim.repo, verdict="PASS_WITH_WAIVERS")
    sim.record("eval")
    with pytest.raises(GateError, match="lists none"):
        sim.attest(now=NOW)
    assert not (sim.repo / "release").exists()


def test_drafts_are_not_released_as_final(sim):
    write(sim.repo, "cards/documents/documents.json", '{"draft": true}')
    with pytest.raises(GateError, match="drafts"):
        sim.attest(now=NOW, terms=Terms(documents="final"))
    write(sim.repo, "cards/documents/documents.json", '{"draft": false}')
    sim.attest(now=NOW, terms=Terms(documents="final"))


def test_a_recorder_key_does_not_sign_a_release(sim):
    with pytest.raises(ConfigError, match="no owner key"):
        replace(sim, owner=sim.recorder).attest(now=NOW)


def test_recorders_are_this_machines_and_the_trusted_ones(sim, tmp_path):
    keys = sim.owner_pub.parent
    assert [key.keyid for key in load_recorders(sim.repo, keys)] == [sim.recorder.keyid]
    shutil.copytree(keys, tmp_path / "other")
    (tmp_path / "other/recorder.pub").rename(tmp_path / "elsewhere.pub")
    with pytest.raises(EnvironmentFailure, match="no recorder key"):
        load_recorders(sim.repo, tmp_path / "other")
    target = sim.repo / "trust/recorders/ci.pub"
    target.parent.mkdir()
    shutil.copy(tmp_path / "elsewhere.pub", target)
    assert load_recorders(sim.repo, tmp_path / "other") == (sim.recorder.public,)


def test_a_folder_inside_another_out_is_no_dep(sim):
    stage = replace(sim.pipeline.stage("eval"), deps=(f"{CHECKPOINT}/sub",))
    with pytest.raises(ConfigError, match="folder inside"):
        with_sources(replace(sim.pipeline, stages=(sim.pipeline.stages[1], stage)), sim.repo)


def test_pack_replaces_a_release_and_nothing_else(sim, tmp_path):
    sim.attest(now=NOW)
    folder = sim.pack()
    write(folder, "stray.txt", "x")
    sim.pack()
    assert not (folder / "stray.txt").exists()
    other = write(tmp_path / "mine", "file.txt", "x").parent
    with pytest.raises(UsageError, match="no earlier release"):
        sim.pack(other)
    with pytest.raises(UsageError, match="write over"):
        sim.pack(sim.repo / "release" / "inner")


def test_packing_the_same_release_again_keeps_what_was_attached(sim):
    sim.attest(now=NOW)
    folder = sim.pack()
    write(folder, "later/scan.sigstore.json", "{}")
    sim.pack()
    assert (folder / "later/scan.sigstore.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["later/scan.sigstore.json", "later/notes.txt"])
def test_packing_never_loses_what_was_attached_to_another_release(sim, name):
    sim.attest(now=NOW)
    folder = sim.pack()
    write(folder, name, "{}")
    sim.attest(now=NOW)
    with pytest.raises(UsageError, match="would be lost"):
        sim.pack()
    assert (folder / name).read_text() == "{}"
    (folder / name).unlink()
    sim.pack()


@pytest.mark.parametrize("place", [WEIGHTS, "release/owner.pub", "release/SHA256SUMS"])
def test_pack_refuses_what_changed_since_attest(sim, place):
    sim.attest(now=NOW)
    write(sim.repo, place, "changed")
    with pytest.raises(RecordError):
        sim.pack()
    assert not sim.packed.exists()


def test_pack_refuses_an_added_file(sim):
    sim.attest(now=NOW)
    write(sim.repo, f"{CHECKPOINT}/added.bin", "x")
    with pytest.raises(RecordError, match="not those that were signed"):
        sim.pack()


def test_pack_needs_a_signed_release(sim):
    with pytest.raises(EnvironmentFailure, match="no signed release"):
        sim.pack()


def test_the_archive_follows_from_the_bytes(sim, tmp_path):
    sim.attest(now=NOW)
    folder = sim.pack()
    first = write_archive(folder, tmp_path / "a.tar").read_bytes()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for file in copy.rglob("*"):
        file.touch()
    assert write_archive(copy, tmp_path / "b.tar").read_bytes() == first
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert "root.layout" in tar.getnames()
