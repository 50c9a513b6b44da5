"""Bad input of the learning stages: one clear message each, and the earlier outs stay as they were.

The clone has been run as far as ``tokenize``. Where a stage has been run before, copies of the base
stand in for what it and its parents had made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bad_input import (
    built_clone,
    change,
    command,
    outs,
    require_one_message,
    unchanged,
)
from tests.support.clone import Clone

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LATER = ("cpt", "sft", "distill", "prefer", "merge")


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """The clone; params and links are put back, and every out must be as it was before."""
    made = built_clone(tmp_path_factory.getbasetemp() / "bad_input")
    with unchanged(made):
        yield made


@pytest.fixture
def run_before(clone: Clone) -> Iterator[Clone]:
    """The clone with checkpoint and figures of every later stage, which no fault may touch."""
    folders = [clone.root / "data" / stage for stage in LATER]
    for folder in folders:
        shutil.copytree(clone.root / "data" / "base" / "checkpoint", folder / "checkpoint")
        (folder / "metrics.json").write_text("{}")
    before = outs(clone)
    yield clone
    assert outs(clone) == before
    for folder in folders:
        shutil.rmtree(folder)


class Altered:
    """A file whose bytes are other ones inside a block."""

    def __init__(self, file: Path, content: bytes) -> None:
        self.file, self.content, self.kept = file, content, file.read_bytes()

    def __enter__(self) -> None:
        self.file.write_bytes(self.content)

    def __exit__(self, *_: object) -> None:
        self.file.write_bytes(self.kept)


@pytest.mark.parametrize("damage", ["cut short", "bytes of something else"])
def test_a_corrupt_shard_is_named_before_training_starts(run_before: Clone, damage: str) -> None:
    shard = run_before.root / "data" / "tokenize" / "shards" / "train.bin"
    whole = shard.read_bytes()
    if damage == "cut short":
        content, said = whole[:-7], f"{len(whole) - 7} bytes are not whole sequences"
    else:
        content, said = b"\xff" * len(whole), "train holds token 65535; the model has 512"
    with Altered(shard, content):
        done = run_before.run(*command("cpt"), check=False)
    require_one_message(done, 2, said, "fix: ", "run tokenize again")


def test_an_instruct_base_without_an_allowance_is_refused(run_before: Clone) -> None:
    change(run_before, ("repo: forebear/random-tiny-llama", "repo: forebear/tiny-llama-instruct"))
    done = run_before.run(*command("base"), check=False)
    require_one_message(
        done,
        2,
        "params.yaml: base.source: the base must be a base model, but the name "
        "'forebear/tiny-llama-instruct' says 'instruct'",
        "{rule: base-only, reason: …, by: …}",
    )


def test_a_replay_corpus_that_runs_dry_is_named(run_before: Clone) -> None:
    replay = run_before.root / "data" / "curate" / "corpus" / "replay.jsonl"
    first = replay.read_bytes().splitlines(keepends=True)[0]
    row = json.loads(first)
    row["text"] = row["text"][:40]
    with Altered(replay, json.dumps(row).encode() + b"\n"):
        done = run_before.run(*command("tokenize"), check=False)
    require_one_message(done, 2, "the replay corpus ran dry", "fix: lower tokenize.domain_tokens")


def test_a_loss_that_is_not_a_number_stops_training_with_the_step(run_before: Clone) -> None:
    change(
        run_before,
        ("  lr: 3.0e-3\n", "  lr: 1.0e+30\n"),
        ("  checkpoint_every_tokens: 512", "  checkpoint_every_tokens: 1000000"),
    )
    done = run_before.run(*command("cpt"), check=False)
    require_one_message(done, 1, "cpt: the loss is nan at step ", "fix: lower the learning rate")


def test_a_teacher_whose_terms_forbid_training_stops_before_it_is_asked(run_before: Clone) -> None:
    change(run_before, ("training_on_output: permitted", "training_on_output: forbidden"))
    done = run_before.run(*command("distill"), check=False)
    require_one_message(
        done, 2, "the terms of sft forbid training on its output", "params.yaml: distill", "fix: "
    )


def test_a_tokenizer_that_differs_stops_the_merge_with_the_token_named(run_before: Clone) -> None:
    file = run_before.root / "data" / "prefer" / "checkpoint" / "tokenizer.json"
    value = json.loads(file.read_bytes())
    tokens = value["model"]["vocab"]
    ours = next(token for token, number in tokens.items() if number == 300)
    tokens["zz"] = tokens.pop(ours)
    merges = [pair for pair in value["model"]["merges"] if "".join(pair) != ours]
    value["model"]["merges"] = [pair for pair in merges if ours not in pair]
    with Altered(file, json.dumps(value).encode()):
        done = run_before.run(*command("merge"), check=False)
    require_one_message(
        done, 2, f"data/prefer/checkpoint: token 300 is 'zz', the base's is {ours!r}", "fix: "
    )


def test_an_adapter_of_another_checkpoint_stops_the_merge(run_before: Clone) -> None:
    adapter = run_before.root / "data" / "prefer" / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": "data/cpt/checkpoint", "r": 4}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    words = [word.replace("prefer/checkpoint", "prefer/adapter") for word in command("merge")]
    try:
        done = run_before.run(*words, check=False)
    finally:
        shutil.rmtree(adapter)
    require_one_message(
        done,
        2,
        "belongs to the checkpoint 'data/cpt/checkpoint', not to data/sft/checkpoint",
        "fix: ",
        "--prefer-base",
    )
