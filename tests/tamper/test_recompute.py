"""Row 78 and its kin: weights that are not what the signed chain says they are made of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mergekit")
pytest.importorskip("torch")

from forebear.evidence import worker
from forebear.evidence.reproduction import Reproduction
from forebear.evidence.store import open_evidence
from forebear.release.owner import sign_bundle
from forebear.signing.keys import create_key, load_public, load_signer
from forebear.signing.policy import TrustPolicy
from forebear.verify.checks import CHECKS
from forebear.verify.checks.c16_recompute import check_recomputed, recompute
from forebear.verify.result import Check, Failed, Passed, Report, Unchecked
from forebear.verify.run import verify
from tests.support.family import (
    ADAPTER,
    MERGED,
    build_family,
    checkpoint,
    merge,
    nudge,
)
from tests.support.release import Simulated

C16 = Check("C16", "stages recomputed", check_recomputed, ("C3", "C6"), recompute=recompute)
ALL = (*(check for check in CHECKS if check.id != "C16"), C16)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return build_family(tmp_path_factory.mktemp("family"))


def look(built: Simulated, *asked: str, place: Path | None = None) -> Report:
    policy = TrustPolicy(owner_keys=(load_public(built.owner_pub),), min_serial=1)
    with open_evidence(place or built.packed) as evidence:
        return verify(evidence, policy, checks=ALL, recompute=asked)


def c16(report: Report) -> Any:
    return report.results[-1].verdict


def failed(report: Report) -> set[str]:
    return {result.id for result in report.results if result.status == "failed"}


def test_a_merge_that_recomputes_passes_c16(family: Simulated) -> None:
    report = look(family, "merge")
    assert failed(report) == set(), report.to_json()
    assert isinstance(c16(report), Passed), c16(report)


@pytest.mark.parametrize("method", ["dare_ties", "slerp", "linear"])
def test_each_method_recomputes(tmp_path: Path, method: str) -> None:
    report = look(build_family(tmp_path, method=method), "merge")
    assert failed(report) == set(), report.to_json()
    assert isinstance(c16(report), Passed), c16(report)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A family in which the merge reads the adapter of ``prefer`` and not its checkpoint."""
    return build_family(tmp_path_factory.mktemp("adapted"), branch=ADAPTER)


@pytest.mark.parametrize("asked", ["merge", "weights"])
def test_a_merge_with_an_adapter_recomputes(adapted: Simulated, asked: str) -> None:
    report = look(adapted, asked)
    assert failed(report) == set(), report.to_json()
    assert isinstance(c16(report), Passed), c16(report)


def test_a_merge_whose_adapter_is_not_here_stays_unchecked_with_its_digest(
    tmp_path: Path,
) -> None:
    built = build_family(tmp_path, ship=("sft", "distill", "merge"), branch=ADAPTER)
    verdict = c16(look(built, "merge"))
    assert isinstance(verdict, Unchecked), verdict
    assert f"tree:{ADAPTER} (sha256 " in verdict.reason


def test_a_merge_that_never_saw_its_adapter_fails_c16(tmp_path: Path) -> None:
    """The command names the adapter, the weights were made of the parent in its place."""

    def lie(repo: Path) -> None:
        shutil.rmtree(repo / MERGED)
        merge(repo, repo / MERGED, branch=checkpoint("sft"))

    report = look(build_family(tmp_path, edit={"merge": lie}, branch=ADAPTER), "merge")
    assert failed(report) == {"C16"}, report.to_json()


def test_nothing_asked_for_is_nothing_checked(family: Simulated) -> None:
    assert isinstance(c16(look(family)), Unchecked)


def attested(built: Simulated, place: Path, key: Any, **changes: Any) -> None:
    """A reproduction of the merge beside the release."""
    with open_evidence(built.packed) as evidence:
        signed = evidence.links["merge"]
    name = f"tree:{MERGED}"
    digest = signed.link.products[name]
    fields = {
        "stage": "merge", "link": signed.digest, "keyid": signed.envelope.keyid,
        "original": {name: digest}, "reproduced": {name: digest}, "verdict": "identical",
    }  # fmt: skip
    statement = Reproduction(**{**fields, **changes}).to_statement()
    (place / "later").mkdir()
    (place / "later" / "x.sigstore.json").write_bytes(sign_bundle(key, statement, where="x"))


@pytest.mark.parametrize(
    ("known", "changes", "said"),
    [
        (True, {}, "merge run again came out identical"),
        (False, {}, "the trust policy does not name key"),
        (True, {"changed_params": {"seed": "8"}}, "with other params (seed) came out identical"),
        (True, {"original": {f"tree:{MERGED}": "0" * 64}, "verdict": "different"}, "another run"),
        (True, {"verdict": "different"}, "counts for nothing"),
    ],
)
def test_a_reproduction_of_others_is_told_and_passes_nothing(
    family: Simulated, tmp_path: Path, known: bool, changes: dict[str, Any], said: str
) -> None:
    place = tmp_path / "packed"
    shutil.copytree(family.packed, place)
    key = load_signer(create_key("recorder", tmp_path / "keys", None)[0])
    attested(family, place, key, **changes)
    policy = TrustPolicy(
        owner_keys=(load_public(family.owner_pub),),
        attester_keys=(key.public,) if known else (),
        min_serial=1,
    )
    with open_evidence(place) as evidence:
        verdict = c16(verify(evidence, policy, checks=ALL))
    assert isinstance(verdict, Unchecked), verdict
    assert said in verdict.reason


def other_weights(repo: Path) -> None:
    shutil.rmtree(repo / MERGED)
    merge(repo, repo / MERGED, weight=0.4)


def one_changed_tensor(repo: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = repo / MERGED / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("lie", "tensor"),
    [(other_weights, "model."), (one_changed_tensor, "model.layers.1.mlp.up_proj.weight")],
)
def test_row_78_merge_weights_that_are_not_the_recomputed_merge_fail_c16(
    tmp_path: Path, lie: Callable[[Path], None], tensor: str
) -> None:
    """The chain is recorded anew, honestly, over wrong weights: only C16 can see it."""
    report = look(build_family(tmp_path, edit={"merge": lie}), "merge")
    assert failed(report) == {"C16"}, report.to_json()
    verdict = c16(report)
    assert isinstance(verdict, Failed)
    assert not verdict.internal, verdict
    (finding,) = verdict.findings
    assert finding.path == f"{MERGED}/model.safetensors"
    assert f"tensor {tensor}" in finding.text


def test_weights_asked_for_hold_every_checkpoint_to_its_parents(family: Simulated) -> None:
    verdict = c16(look(family, "weights"))
    assert isinstance(verdict, Passed), verdict
    assert f"by exactly {ADAPTER}" in verdict.note
    assert f"{MERGED} is the merge of" in verdict.note


def copy_of_the_parent(repo: Path) -> None:
    shutil.rmtree(repo / checkpoint("distill"))
    shutil.copytree(repo / checkpoint("sft"), repo / checkpoint("distill"))


def rounded_copy_of_the_parent(repo: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    file = repo / checkpoint("distill") / "model.safetensors"
    parent = load_file(repo / checkpoint("sft") / "model.safetensors")
    rounded = {name: tensor.to(torch.bfloat16) for name, tensor in parent.items()}
    save_file(rounded, file, metadata={"format": "pt"})


@pytest.mark.parametrize("lie", [copy_of_the_parent, rounded_copy_of_the_parent])
def test_a_child_that_repeats_its_parent_fails_c16(
    tmp_path: Path, lie: Callable[[Path], None]
) -> None:
    report = look(build_family(tmp_path, edit={"distill": lie}), "weights")
    assert failed(report) == {"C16"}, report.to_json()
    assert {finding.path for finding in c16(report).findings} == {checkpoint("distill")}


def test_a_child_that_is_not_parent_plus_adapter_fails_c16(tmp_path: Path) -> None:
    def lie(repo: Path) -> None:
        nudge(repo / checkpoint("prefer"), seed=9, by=1e-4)

    report = look(build_family(tmp_path, edit={"prefer": lie}), "weights")
    assert failed(report) == {"C16"}, report.to_json()
    (finding,) = c16(report).findings
    assert finding.path == checkpoint("prefer")
    assert ADAPTER in finding.text


def test_inputs_that_are_not_shipped_leave_c16_unchecked_with_their_digests(
    tmp_path: Path,
) -> None:
    built = build_family(tmp_path, ship=("merge",))
    verdict = c16(look(built, "merge"))
    assert isinstance(verdict, Unchecked), verdict
    assert f"tree:{checkpoint('sft')} (sha256 " in verdict.reason


def test_a_stage_that_is_no_merge_stays_unchecked(family: Simulated) -> None:
    verdict = c16(look(family, "merge", "distill"))
    assert isinstance(verdict, Unchecked), verdict
    assert "forebear reproduce distill" in verdict.reason


def test_without_the_learning_library_c16_says_what_to_install(
    family: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as where only the core is installed: these packages cannot be imported
    bare = (
        "import runpy, sys; sys.modules.update(dict.fromkeys("
        "('numpy', 'torch', 'mergekit', 'transformers', 'safetensors', 'scipy'))); "
        "sys.argv[:] = sys.argv[2:]; runpy.run_module(sys.argv[0], run_name='__main__')"
    )
    monkeypatch.setattr(worker, "PYTHON", (*worker.PYTHON, "-c", bare))
    for asked in ("merge", "weights"):
        verdict = c16(look(family, asked))
        assert isinstance(verdict, Unchecked), verdict
        assert "forebear[train]" in verdict.reason


def test_code_that_a_release_carries_is_never_run(
    family: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "packed"
    shutil.copytree(family.packed, place)
    for name in ("json.py", "numpy.py", "torch.py"):
        (place / name).write_text("raise SystemExit('code of the release ran')\n")
    monkeypatch.chdir(place)
    report = look(family, "merge", place=place)
    assert failed(report) == {"C4"}
    assert isinstance(c16(report), Passed), c16(report)
