"""The whole smoke pipeline through ``dvc repro``, and what must hold of it afterwards.

One clone is built for the session; tests that change it say so and put it back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from forebear.formats.dsse import parse_envelope
from forebear.formats.link import parse_link
from forebear.hashing.digest import hash_tree
from tests.support.clone import Clone, clone_smoke

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CHECKPOINTS = ("base", "cpt", "sft", "distill", "prefer", "merge")


def trees(clone: Clone) -> dict[str, str]:
    return {
        name: hash_tree(clone.root / "data" / name / "checkpoint").digest for name in CHECKPOINTS
    }


def metrics(clone: Clone, stage: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        (clone.root / "data" / stage / "metrics.json").read_bytes()
    )
    return found


def test_the_repository_verifies_and_says_what_it_did_not_check(clone: Clone) -> None:
    done = clone.run("forebear", "verify", ".")
    for check in ("C1", "C2", "C3", "C4", "C5", "C6"):
        assert f"{check} " in done.stdout
    assert "unchecked" in done.stdout


def test_every_stage_ran_enforced_and_without_network(clone: Clone) -> None:
    links = sorted((clone.root / "links").glob("*.link"))
    assert len(links) == 13
    for file in links:
        payload = parse_envelope(file.read_bytes(), where=file.name).payload
        record = parse_link(payload, where=file.name).byproducts["forebear"]
        assert record["confinement"]["level"] == "enforced", file.name
        assert record["confinement"]["network"] == "none", file.name


def test_a_second_repro_runs_nothing_and_the_status_is_clean(clone: Clone) -> None:
    assert "Running stage" not in clone.run("dvc", "repro").stdout
    assert "up to date" in clone.run("dvc", "status").stdout


@pytest.mark.parametrize(
    ("parent", "child"), [("cpt", "sft"), ("sft", "distill"), ("sft", "prefer")]
)
def test_a_stage_starts_from_its_parents_exact_weights(
    clone: Clone, parent: str, child: str
) -> None:
    left, started = metrics(clone, parent), metrics(clone, child)
    assert started["logits_first_sha256"] == left["logits_last_sha256"]
    assert started["logits_last_sha256"] != started["logits_first_sha256"]


def test_no_out_holds_a_pickle(clone: Clone) -> None:
    names = [path.name for path in (clone.root / "data").rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".bin.index.json", ".pt", ".pth", ".pkl"))]
    assert "training_args.bin" not in names


def test_stock_in_toto_agrees_and_both_see_one_changed_byte(clone: Clone, tmp_path: Path) -> None:
    packed = tmp_path / "release"
    clone.run("forebear", "pack", str(packed))
    owner = next((Path(clone.env["XDG_CONFIG_HOME"]) / "forebear" / "keys").glob("owner*.pub"))

    def stock() -> int:
        return subprocess.run(
            (
                *("in-toto-verify", "--layout", "root.layout", "--verification-keys", str(owner)),
                *("--link-dir", "links", "--inspection-timeout", "600"),
            ),
            cwd=packed,
            env=dict(clone.env),
            capture_output=True,
            check=False,
        ).returncode

    assert clone.run("forebear", "verify", str(packed), "--trust", str(owner)).returncode == 0
    assert stock() == 0
    (packed / "disk.link").unlink(missing_ok=True)  # the stock tool leaves it behind
    weights = packed / "data" / "merge" / "checkpoint" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = clone.run("forebear", "verify", str(packed), "--trust", str(owner), check=False)
    assert done.returncode == 1
    assert "data/merge/checkpoint/model.safetensors" in done.stdout
    assert "merge" in done.stdout
    assert stock() != 0


@pytest.mark.parametrize("stage", ["cpt", "sft"])
def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(clone: Clone, stage: str) -> None:
    before = trees(clone)
    steps = int(str(metrics(clone, stage)["steps"]))
    started = clone.start(
        "dvc", "repro", "--force", "--single-item", stage, extra={"FOREBEAR_SAVE_EVERY_S": "0"}
    )
    scratch = clone.root / ".dvc" / "tmp" / "forebear" / "scratch" / stage
    _wait_for_step(scratch, steps // 2 + 1, started)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    (clone.root / ".dvc" / "tmp" / "rwlock").write_bytes(b"")  # what a kill can leave behind
    clone.run("forebear", "doctor", "--mend")
    # forced, since DVC would put the finished outs back from its cache instead
    done = clone.run("dvc", "repro", "--force", "--single-item", stage)
    assert f"{stage}: resumed at step" in done.stdout + done.stderr
    assert trees(clone) == before
    clone.run("dvc", "repro")  # the link is new, so documents and release are too


def _wait_for_step(scratch: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for state in scratch.glob("*/trainer/checkpoint-*/complete"):
            if int(state.parent.name.split("-")[1]) >= step:
                return
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} before it could be killed")
        time.sleep(0.02)
    raise AssertionError(f"no durable state after step {step}")


def test_a_changed_merge_runs_only_what_depends_on_it(clone: Clone) -> None:
    params = clone.root / "params.yaml"
    kept = params.read_text()
    try:
        params.write_text(kept.replace("method: ties", "method: linear"))
        done = clone.run("dvc", "repro")
        ran = {line.split("'")[1] for line in done.stdout.splitlines() if "Running stage" in line}
        assert ran == {"merge", "measure@final", "eval", "document", "attest"}
    finally:
        params.write_text(kept)
        clone.run("dvc", "repro")


def test_what_was_pushed_verifies_where_it_is_pulled(clone: Clone, tmp_path: Path) -> None:
    clone.run(
        "dvc", "remote", "add", "--force", "--local", "--default", "here", str(tmp_path / "r")
    )
    clone.run("dvc", "push")
    other = tmp_path / "other"
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "--message", "outs", check=False)
    clone.run("git", "clone", "--quiet", str(clone.root), str(other))
    pulled = Clone(other, clone.env)
    pulled.run("dvc", "remote", "add", "--local", "--default", "here", str(tmp_path / "r"))
    pulled.run("dvc", "pull")
    assert "Running stage" not in pulled.run("dvc", "repro").stdout
    assert pulled.run("forebear", "verify", ".").returncode == 0


def test_another_clone_of_another_person_gives_the_same_checkpoints(
    clone: Clone, tmp_path: Path
) -> None:
    other = clone_smoke(tmp_path / "somewhere" / "else", config=tmp_path / "config")
    other.run("forebear", "keys", "ensure")
    other.run("dvc", "repro", "merge")
    assert trees(other) == trees(clone)


def test_a_release_is_refused_without_a_passing_gate(clone: Clone) -> None:
    params = clone.root / "params.yaml"
    kept = params.read_text()
    try:
        params.write_text(kept.replace("allow_smoke: true", "allow_smoke: false"))
        done = clone.run("dvc", "repro", check=False)
        assert done.returncode != 0
        assert "SMOKE" in done.stdout + done.stderr
        assert not (clone.root / "release" / "root.layout").exists()
    finally:
        params.write_text(kept)
        clone.run("dvc", "repro")
