"""Two processes really train, on processors, behind the recorder's fence with loopback alone.

Their losses are those of one process, their link is whole, a kill leaves nothing behind and changes
no byte, and what one of them refuses is the stage's own error.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forebear.hashing.digest import hash_tree
from tests.support.workspace import REPOSITORY, Workspace, copy_template, make_template
from tests.unit.train.processes import (
    PARAMS,
    STEPS_PER_EPOCH,
    curves,
    finish,
    kill_when,
    stage_words,
    start_stage,
    steps_saved,
    workers_of,
    write_shards,
)
from tests.unit.train.tiny import tree, write_checkpoint

pytestmark = pytest.mark.slow
# Stated tolerance, in nats: sums of fp32 in another order, over nine steps of a tiny model.
TOLERANCE = 2e-5
WAYS: dict[str, dict[str, Any]] = {
    "accelerate": {"kind": "accelerate", "processes": 2},
    "torchrun": {"kind": "torchrun", "processes": 2, "sharding": "fsdp2"},
}
PIPELINE = """
stages:
  cpt:
    cmd: forebear record cpt -- {command}
    deps:
    - base
    - shards
    - stages
    params:
    - seed
    - cpt
    outs:
    - out/checkpoint
    - out/intermediate
    - out/log.jsonl
    - out/metrics.json
    - out/curves.csv
    - links/cpt.link
"""


@dataclass(frozen=True)
class Recorded:
    """One run under the recorder."""

    kind: str
    workspace: Workspace
    said: str

    @property
    def out(self) -> Path:
        return self.workspace.root / "out"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launchers") / "template"
    folder.mkdir()
    make_template(folder)
    root = folder / "repo"
    write_checkpoint(root / "base")
    write_shards(root / "shards")
    (root / "stages").mkdir()
    for name in ("__init__.py", "cpt.py"):
        shutil.copy(REPOSITORY / "stages" / name, root / "stages" / name)
    command = " ".join(stage_words("base", "shards", "out"))
    (root / "dvc.yaml").write_text(PIPELINE.format(command=command), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def given(template: Path) -> tuple[Path, Path]:
    return template / "repo" / "base", template / "repo" / "shards"


@pytest.fixture(scope="module")
def alone(given: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    code, said = finish(start_stage(*given, folder / "out", scratch=folder / "work", params={}))
    assert code == 0, said
    return folder / "out"


@pytest.fixture(scope="module", params=WAYS)
def together(
    template: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Recorded:
    workspace = with_params(
        template, tmp_path_factory.mktemp("together") / "w", launch=WAYS[request.param]
    )
    code, said = record(workspace)
    assert code == 0, said
    return Recorded(request.param, workspace, said)


def with_params(template: Path, folder: Path, **changed: object) -> Workspace:
    from ruamel.yaml import YAML

    workspace = copy_template(template, folder)
    with (workspace.root / "params.yaml").open("w", encoding="utf-8") as handle:
        YAML(typ="safe").dump({"seed": 3, "cpt": {**PARAMS, **changed}}, handle)
    for words in (("git", "add", "-A"), ("git", "commit", "-q", "-m", "params")):
        assert workspace.run(*words).returncode == 0
    return workspace


def record(workspace: Workspace) -> tuple[int, str]:
    words = stage_words("base", "shards", "out")
    done = workspace.run("forebear", "record", "cpt", "--", *words, FOREBEAR_THREADS="1")
    return done.returncode, done.stderr


def tensors(checkpoint: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(checkpoint / "model.safetensors"))


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_bytes().splitlines()]


def test_link_is_whole_and_the_fence_held_every_process(together: Recorded) -> None:
    assert "in each of 2 processes" in together.said
    found = together.workspace.run_record("cpt")
    assert found["confinement"]["level"] == "enforced"
    assert found["confinement"]["network"] == "none"
    assert found["confinement"]["denied"] == []
    assert found["survivors"] == []
    assert found["params"]["cpt"]["launch"] == WAYS[together.kind]
    link = together.workspace.link("cpt")
    assert hash_tree(together.out / "checkpoint").digest in link.products.values()
    assert not list(together.workspace.root.glob(".dvc/tmp/forebear/**/job.json"))


def test_losses_are_those_of_one_process_and_the_checkpoint_has_the_same_form(
    alone: Path, together: Recorded
) -> None:
    one, two = curves(alone), curves(together.out)
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for row, other in zip(one, two, strict=True):
        assert other["learning_rate"] == pytest.approx(row["learning_rate"], rel=1e-12)
        for name in ("loss", "validation_domain", "validation_replay"):
            assert other.get(name) == pytest.approx(row.get(name), abs=TOLERANCE), name
        assert other["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-3)
    assert two[-1]["loss"] < two[0]["loss"]

    mine, theirs = tree(together.out / "checkpoint"), tree(alone / "checkpoint")
    assert mine.keys() == theirs.keys()
    for name in mine:
        if not name.endswith(".safetensors"):
            assert mine[name] == theirs[name], name
    weights, others = tensors(together.out / "checkpoint"), tensors(alone / "checkpoint")
    assert weights.keys() == others.keys()
    for name, tensor in others.items():
        assert weights[name].dtype == tensor.dtype
        assert abs(weights[name] - tensor).max() < 1e-3, name


def test_log_names_the_same_sequences_and_the_figures_name_the_launch(
    given: tuple[Path, Path], alone: Path, together: Recorded
) -> None:
    one, two = log_of(alone), log_of(together.out)
    assert [entry["sequences"] for entry in two] == [entry["sequences"] for entry in one]
    assert two[0]["parent"] == hash_tree(given[0]).digest
    assert two[-1]["tree"] == hash_tree(together.out / "checkpoint").digest
    figures = json.loads((together.out / "metrics.json").read_bytes())
    assert figures["launch"] == {
        "kind": together.kind,
        "processes": 2,
        "nodes": 1,
        "sharding": WAYS[together.kind].get("sharding", "none"),
        "backend": "gloo",
        "threads_per_process": 1,
    }
    assert figures["tokens"] == json.loads((alone / "metrics.json").read_bytes())["tokens"]


def test_a_kill_in_the_second_epoch_leaves_no_process_and_changes_no_byte(
    given: tuple[Path, Path], together: Recorded, tmp_path: Path
) -> None:
    out, scratch = tmp_path / "out", tmp_path / "work"
    params = {"launch": WAYS[together.kind]}
    process = start_stage(*given, out, scratch=scratch, params=params, FOREBEAR_SAVE_EVERY_S="0")
    kill_when(process, lambda: steps_saved(scratch) > STEPS_PER_EPOCH)
    give_up_at = time.monotonic() + 30
    while workers_of(scratch / "job.json"):  # they die with their launcher, which dies with us
        assert time.monotonic() < give_up_at, "workers outlived the stage"
        time.sleep(0.01)
    assert not list(out.iterdir())

    code, said = finish(start_stage(*given, out, scratch=scratch, params=params))
    assert code == 0, said
    assert "resumed at step" in said
    assert tree(out) == tree(together.out)


def test_what_one_of_them_refuses_is_the_stages_one_error_and_leaves_the_outs(
    given: tuple[Path, Path], tmp_path: Path
) -> None:
    steep = {"launch": {"kind": "torchrun", "processes": 2}, "lr": 3.0, "max_forgetting": 0.01}
    (tmp_path / "out" / "checkpoint").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint" / "of an earlier run").touch()
    before = tree(tmp_path / "out")
    code, said = finish(
        start_stage(*given, tmp_path / "out", scratch=tmp_path / "work", params=steep)
    )
    assert code == 1
    assert said.count("max_forgetting") == 1
    assert "the last good checkpoint is" in said
    assert "Traceback" not in said
    assert tree(tmp_path / "out") == before
