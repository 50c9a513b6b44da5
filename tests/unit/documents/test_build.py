"""Evidence in, documents out: bound values, refusals, equal bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from forebear.documents.build import (
    build_documents,
    collect,
    rebuild_facts,
    write_documents,
)
from forebear.documents.evidence import Evidence, follow, load_keys
from forebear.documents.resolve import fault
from forebear.documents.rules import FAMILIES
from forebear.documents.values import EvidenceRef, Facts, Value
from forebear.errors import EnvironmentFailure, ForebearError, SignatureError
from forebear.formats.link import PAYLOAD_TYPE, Link, params_digest, render_link
from forebear.hashing.digest import hash_tree
from forebear.signing.keys import create_key, load_signer
from forebear.signing.signer import sign_envelope
from tests.unit.documents.fixture import FINAL, PARAMS, Project

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = (REPOSITORY / "cards" / "declarations.example.yaml").read_text(encoding="utf-8")


def _payload(file: Path) -> Any:
    return json.loads(base64.b64decode(json.loads(file.read_bytes())["payload"]))


def _content(root: Path, ref: EvidenceRef) -> Any:
    """The place's content, every digest on the way checked without the code under test."""
    if ref.path == "params:document":
        assert ref.sha256 == params_digest(PARAMS)
        assert ref.link_sha256 is None
        return PARAMS
    data = (root / ref.path).read_bytes()
    assert hashlib.sha256(data).hexdigest() == ref.sha256
    link = (root / ref.link).read_bytes()
    assert hashlib.sha256(link).hexdigest() == ref.link_sha256
    if ref.path == ref.link:
        return _payload(root / ref.path)
    products = _payload(root / ref.link)["products"]
    if ref.tree is None:
        assert products[ref.path]["sha256"] == ref.sha256
    else:
        tree = hash_tree(root / ref.tree)
        assert products[f"tree:{ref.tree}"]["sha256"] == tree.digest
        assert tree.files[PurePosixPath(ref.path).relative_to(ref.tree)] == ref.sha256
    return json.loads(data)


def _resolved(project: Project, value: Value, leaves: dict[str, Value]) -> Any:
    """The value once more, by arithmetic of the test's own."""
    method = value.method or ""
    if value.inputs:
        numbers: list[Any] = [leaves[name].value for name in value.inputs]
        first, *others = numbers
        return {
            "sum": lambda: sum(numbers), "maximum": lambda: max(numbers),
            "product": lambda: math.prod(numbers), "ratio": lambda: first / others[0],
            "share": lambda: first / sum(others), "6·N·D": lambda: 6 * first * others[0],
        }[method]()  # fmt: skip
    found = [follow(_content(project.root, ref), ref.pointer) for ref in value.evidence]
    if method == "each":
        return found
    if method.startswith("named "):
        return method.removeprefix("named ")
    place = value.evidence[0].pointer.rpartition("/")[2]
    return {
        "count": lambda: len(found[0]), "sum of the entries": lambda: sum(found[0].values()),
        "name of the key": lambda: place.replace("~1", "/"), "present": lambda: True,
        "family by model type": lambda: FAMILIES[found[0]],
    }.get(method, lambda: found[0])()  # fmt: skip


def test_every_computed_leaf_resolves(project: Project) -> None:
    """Compliance page, 13.7: file opened, SHA-256 checked, pointer followed, value equal."""
    project.declare(EXAMPLE)
    facts = Facts.model_validate_json(build_documents(project.inputs())[1]["facts.json"])
    leaves = dict(facts.leaves())
    computed = {name: leaf for name, leaf in leaves.items() if leaf.kind == "computed"}
    assert len(computed) > 400
    ruled = {name for name, leaf in computed.items() if (leaf.method or "").startswith("rule ")}
    assert len(ruled) > 50
    for name, leaf in computed.items():
        assert leaf.evidence or all(part in leaves for part in leaf.inputs), name
        if name not in ruled:
            assert _resolved(project, leaf, leaves) == leaf.value, name
        assert not fault(leaf, leaves, lambda ref: _content(project.root, ref)), name


def test_a_changed_leaf_no_longer_follows_from_its_evidence(project: Project) -> None:
    """The twin of the test above, for every leaf."""
    project.declare(EXAMPLE)
    leaves = dict(collect(project.inputs()).facts.leaves())
    for name, leaf in leaves.items():
        if leaf.kind == "computed":
            changed = leaf.model_copy(update={"value": "something else"})
            others = {**leaves, name: changed}
            assert fault(changed, others, lambda ref: _content(project.root, ref)), name


def test_facts_are_rebuilt_from_links_and_statements(project: Project) -> None:
    """As C14 does it: every leaf is the same again."""
    project.declare(EXAMPLE)
    facts = collect(project.inputs()).facts
    trust = project.root / "trust" / "recorders"
    loaded = Evidence.load(project.root, Path("links"), load_keys([trust]))
    links = {stage: (loaded.link(stage), link) for stage, link in loaded.links().items()}
    read = {path: (project.root / path).read_bytes() for path in _files(project.root)}
    again = rebuild_facts(links, read.__getitem__, project.inputs(), declared=facts)
    assert again.sha256() == facts.sha256()


def _files(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


def test_documents_of_a_foreign_repository_are_written(tmp_path: Path, project: Project) -> None:
    """Compliance page, 13.31: other stage names, no base, ledger or gate."""
    for file in (project.root / "links").glob("*.link"):
        file.unlink()
    project.write("out/metrics.json", {"accuracy": 0.5})
    sha256 = hashlib.sha256((project.root / "out/metrics.json").read_bytes()).hexdigest()
    run = {"started": "2026-11-24T10:00:00Z", "ended": "2026-11-24T10:01:00Z"}
    link = Link("featurize", ("x",), {}, {"out/metrics.json": sha256},
                {"return-value": 0, "forebear": run})  # fmt: skip
    envelope = sign_envelope(project.signer, render_link(link), PAYLOAD_TYPE)
    (project.root / "links" / "featurize.link").write_bytes(envelope)
    inputs = replace(project.inputs(), base=None, ledger=None, verdict=None)
    facts, files = build_documents(inputs)
    assert facts.tables["train.stages"][0].key == "featurize"
    for name in ("model.digest", "model.params_total", "train.flop_base", "eval.gate.verdict"):
        assert facts.values[name].kind == "unknown"
        assert facts.values[name].reason
    assert "model-card.oecd.md" in files


def test_declared_leaves_carry_person_and_digest(project: Project) -> None:
    project.declare(EXAMPLE)
    facts = collect(project.inputs()).facts
    digest = hashlib.sha256(EXAMPLE.encode()).hexdigest()
    declared = [leaf for _, leaf in facts.leaves() if leaf.kind == "declared"]
    assert len(declared) > 50
    assert all(leaf.by and leaf.declarations_sha256 == digest for leaf in declared)


def test_complete_declarations_give_no_draft(project: Project) -> None:
    project.declare(EXAMPLE)
    facts, files = build_documents(project.inputs())
    index = json.loads(files["documents.json"])
    assert not facts.draft
    assert index["draft"] is False
    assert {entry["path"] for entry in index["documents"]} == set(files) - {"documents.json"}
    for entry in index["documents"]:
        assert entry["sha256"] == hashlib.sha256(files[entry["path"]]).hexdigest()
    assert b"MISSING" not in files["model-card.oecd.md"] + files["README.md"]


def test_without_declarations_drafts_are_written(project: Project) -> None:
    facts, files = build_documents(project.inputs())
    assert facts.draft
    card = files["model-card.oecd.md"].decode()
    assert "**MISSING: Out of scope (the model owner)**" in card
    assert "**MISSING: Risks (the compliance officer)**" in card


def test_one_flipped_byte_in_a_metrics_file_is_named(project: Project) -> None:
    file = project.root / "data/sft/metrics.json"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(SignatureError) as caught:
        collect(project.inputs())
    assert caught.value.where == "data/sft/metrics.json"
    assert caught.value.exit_code == 1


def test_a_changed_file_in_a_signed_folder_is_named(project: Project) -> None:
    file = project.root / "data/eval/verdict/comparison.json"
    file.write_bytes(file.read_bytes().replace(b"0.7", b"0.9"))
    with pytest.raises(SignatureError) as caught:
        collect(project.inputs())
    assert caught.value.where.startswith("data/eval/verdict/")


def test_a_file_planted_in_a_signed_folder_is_refused(project: Project) -> None:
    (project.root / "data/eval/verdict/extra.txt").write_text("x")
    with pytest.raises(SignatureError):
        collect(project.inputs())


def test_a_link_signed_by_a_foreign_key_is_refused(project: Project, tmp_path: Path) -> None:
    create_key("recorder", tmp_path / "foreign", None)
    project.sign("cpt", signer=load_signer(tmp_path / "foreign" / "recorder.pem"))
    with pytest.raises(SignatureError) as caught:
        collect(project.inputs())
    assert caught.value.where == "links/cpt.link"


def test_the_users_own_public_key_is_trusted(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "forebear" / "keys"
    create_key("recorder", folder, None)
    project.sign("cpt", signer=load_signer(folder / "recorder.pem"))
    assert collect(project.inputs()).facts.draft


def test_an_owners_key_signs_no_stage(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "forebear" / "keys"
    create_key("owner", folder, None)
    project.sign("cpt", signer=load_signer(folder / "owner.pem"))
    with pytest.raises(SignatureError) as caught:
        collect(project.inputs())
    assert caught.value.where == "links/cpt.link"


def _other_payload(text: str) -> str:
    envelope = json.loads(text)
    envelope["payload"] = base64.b64encode(
        base64.b64decode(envelope["payload"]).replace(b"50.25", b"10.25")
    ).decode()
    return json.dumps(envelope, separators=(",", ":"), sort_keys=True) + "\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"sig":"', '"sig":"AAAA'),
        lambda text: text[: len(text) // 2],
        lambda _: "",
        _other_payload,
    ],
)
def test_a_broken_link_is_refused(project: Project, change: Any) -> None:
    file = project.root / "links" / "sft.link"
    file.write_text(change(file.read_text()))
    with pytest.raises(SignatureError) as caught:
        collect(project.inputs())
    assert caught.value.where.startswith("links/sft.link")


def test_a_link_under_another_stages_name_is_refused(project: Project) -> None:
    links = project.root / "links"
    (links / "sft.link").write_bytes((links / "cpt.link").read_bytes())
    with pytest.raises(SignatureError):
        collect(project.inputs())


def test_a_file_that_no_link_signs_is_refused(project: Project) -> None:
    (project.root / "links" / "base.link").unlink()
    with pytest.raises(SignatureError) as caught:
        collect(project.inputs())
    assert caught.value.where == "data/base/base.json"


def test_missing_evidence_is_an_error_of_the_environment(project: Project) -> None:
    (project.root / "data/sft/metrics.json").unlink()
    with pytest.raises(EnvironmentFailure) as caught:
        collect(project.inputs())
    assert caught.value.where == "data/sft/metrics.json"


def test_figures_that_a_stage_lacks_are_unknown_with_a_reason(project: Project) -> None:
    project.write("data/sft/metrics.json", {"steps": 3})
    project.sign("sft")
    facts = collect(project.inputs()).facts
    leaf = dict(facts.leaves())["train.stages[sft].flop"]
    assert (leaf.kind, leaf.value) == ("unknown", None)
    assert leaf.reason
    total = facts.values["train.flop_modification"]
    assert total.lower_bound
    assert total.value == 6 * 134515008 * (40100 + 9100)


def test_the_released_weights_are_those_that_the_gate_judged(project: Project) -> None:
    facts = collect(project.inputs()).facts
    digest = facts.values["model.digest"]
    assert digest.value == FINAL
    assert digest.evidence[0].link == "links/merge.link"


def test_links_of_later_stages_do_not_change_the_documents(project: Project) -> None:
    """``attest`` takes links as materials; its own link comes after the documents."""
    before = build_documents(project.inputs())[1]
    later = Link("attest", ("x",), {"links/sft.link": "0" * 64}, {}, {"return-value": 0})
    envelope = sign_envelope(project.signer, render_link(later), PAYLOAD_TYPE)
    (project.root / "links" / "attest.link").write_bytes(envelope)
    assert build_documents(project.inputs())[1] == before


def test_equal_inputs_give_equal_bytes_elsewhere(project: Project, tmp_path: Path) -> None:
    """Compliance page, 13.8: another folder, hash seed, locale and time zone."""
    import shutil

    project.declare(EXAMPLE)
    expected = build_documents(project.inputs())[1]
    copy = tmp_path / "elsewhere"
    shutil.copytree(project.root, copy)
    script = (
        "import sys, json; from pathlib import Path\n"
        "from forebear.documents.build import Inputs, build_documents, write_documents\n"
        "p = Path\n"
        "inputs = Inputs(p(sys.argv[1]), p('links'), p('cards/declarations.yaml'),"
        " p('trust'), p('data/base/base.json'), p('data/curate/ledger/root.json'),"
        " p('data/eval/verdict'), json.loads(sys.argv[2]))\n"
        "write_documents(build_documents(inputs)[1], p(sys.argv[3]))\n"
        "assert not {'torch', 'transformers', 'dvc'} & set(sys.modules)\n"
    )
    out = tmp_path / "out"
    environment = {**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "5"}
    subprocess.run(
        [sys.executable, "-c", script, str(copy), json.dumps(PARAMS), str(out)],
        check=True, cwd=REPOSITORY, env=environment,
    )  # fmt: skip
    assert {name: (out / name).read_bytes() for name in _files(out)} == expected


def test_the_document_time_is_the_newest_links_end(project: Project) -> None:
    assert collect(project.inputs()).facts.document_time == "2026-11-24T10:08:50Z"


def test_a_refusal_writes_nothing(project: Project) -> None:
    (project.root / "data/cpt/metrics.json").write_text("{}\n")
    out = project.root / "out"
    with pytest.raises(ForebearError):
        write_documents(build_documents(project.inputs())[1], out)
    assert not out.exists()


def test_writing_does_not_reach_through_a_hard_link(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    cached.write_text("old")
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").hardlink_to(cached)
    write_documents({"README.md": b"new"}, out)
    assert cached.read_text() == "old"
    assert (out / "README.md").read_text() == "new"
