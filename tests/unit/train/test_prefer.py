"""Preference optimisation: how pairs are made, that the margin rises, and equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from forebear.errors import ConfigError  # noqa: E402
from forebear.train import prefer  # noqa: E402
from forebear.train.checkpoint import load_model, load_tokenizer, probe_logits  # noqa: E402
from forebear.train.distill.teachers import Answer  # noqa: E402
from forebear.train.pairs import (  # noqa: E402
    compare_scores,
    encode_pairs,
    make_pairs,
    score_pairs,
)
from forebear.train.prefer import PreferParams, train_prefer  # noqa: E402
from tests.unit.train.tiny import tree, write_checkpoint, write_rows  # noqa: E402

_CODES = ["A00.0", "A00.1", "A00.9", "B01.1", "B01.2", "B02.0", "C10.0", "C10.1", "C11.0", "D22.1"]


def _params(**changes: Any) -> PreferParams:
    section = {
        "seed": 1,
        "beta": 0.1,
        "lr": 2e-3,
        "epochs": 2,
        "batch_pairs": 2,
        "forms": ["code"],
        "max_pairs": 8,
        "held_out_pairs": 2,
        "samples_per_prompt": 1,
        "temperature": 1.0,
        "max_new_tokens": 5,
        "batch_rows": 4,
    }
    return PreferParams.model_validate(section | changes)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("prefer")
    rows = [(f"thing number {n}", code) for n, code in enumerate(_CODES)]
    return {
        "start": write_checkpoint(folder / "start"),
        "rows": write_rows(folder / "rows.jsonl", rows),
    }


def _run(
    inputs: dict[str, Path],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    params: PreferParams | None = None,
) -> dict[str, Any]:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(out.with_name(out.name + "-scratch")))
    monkeypatch.setenv("FOREBEAR_THREADS", "1")
    train_prefer(
        params or _params(),
        **inputs,
        out=out / "checkpoint",
        pairs=out / "pairs.jsonl",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
    )
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_bytes())
    return metrics


def _row(code: str) -> dict[str, str]:
    return {"id": code, "prompt": f"Code {code}?", "answer": code}


def test_refuted_answer_is_the_rejected_side() -> None:
    answers = [[Answer("A00.1", 5, finished=True), Answer("A00.2", 5, finished=True)]]
    pairs = make_pairs([_row("A00.1")], answers, verifier="exact_match", siblings=["A00.1"])
    assert [(p["chosen"], p["rejected"], p["rejected_from"]) for p in pairs] == [
        ("A00.1", "A00.2", "policy")
    ]


def test_finished_refuted_answer_is_preferred_to_an_unfinished_one() -> None:
    answers = [[Answer("A00.222", 5, finished=False), Answer("B01", 4, finished=True)]]
    pairs = make_pairs([_row("A00.1")], answers, verifier="exact_match", siblings=["A00.1"])
    assert pairs[0]["rejected"] == "B01"


def test_prompt_with_right_answers_only_takes_the_nearest_sibling() -> None:
    answers = [[Answer("C10.0", 5, finished=True)]]
    pairs = make_pairs([_row("C10.0")], answers, verifier="exact_match", siblings=_CODES)
    assert (pairs[0]["rejected"], pairs[0]["rejected_from"]) == ("C10.1", "sibling")


def test_prompt_with_right_answers_and_no_sibling_makes_no_pair() -> None:
    answers = [[Answer("C10.0", 5, finished=True)]]
    assert not make_pairs([_row("C10.0")], answers, verifier="exact_match", siblings=["C10.0"])


def test_a_model_against_itself_has_no_margin_and_no_divergence(inputs: dict[str, Path]) -> None:
    model, tokenizer = load_model(inputs["start"]), load_tokenizer(inputs["start"])
    pairs = [{"prompt": "Code?", "chosen": "A00.1", "rejected": "B02"}]
    scores = score_pairs(model, encode_pairs(pairs, tokenizer))
    figures = compare_scores(scores, scores, beta=0.1)
    assert (figures["reward_margin"], figures["kl"], figures["reward_accuracy"]) == (0, 0, 0)
    assert scores.answer_KV.exp().sum(dim=-1).numpy() == pytest.approx(1, abs=1e-4)


def test_stage_raises_the_margin_on_held_out_pairs_and_writes_every_pair(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = _run(inputs, tmp_path / "out", monkeypatch)
    pairs = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").open()]
    assert [pair["split"] for pair in pairs].count("held_out") == 2
    assert len(pairs) == metrics["pairs"] == 10
    assert all(pair["chosen"] != pair["rejected"] for pair in pairs)
    assert metrics["before"]["reward_margin"] == 0
    assert metrics["after"]["reward_margin"] > 0
    assert metrics["after"]["logp_margin"] > metrics["before"]["logp_margin"]
    assert metrics["after"]["kl"] > 0
    assert metrics["loss_first"] == pytest.approx(0.6931, abs=1e-3)  # log 2: policy is reference
    assert metrics["loss_last"] < metrics["loss_first"]
    assert metrics["steps"] == 8
    assert {file.rpartition(".")[2] for file in tree(tmp_path / "out" / "checkpoint")} == {
        "safetensors", "json", "jinja"
    }  # fmt: skip
    config = "config.json"
    assert tree(tmp_path / "out" / "checkpoint")[config] == tree(inputs["start"])[config]
    start = load_model(inputs["start"])
    assert metrics["logits_first_sha256"] == probe_logits(start)
    assert metrics["logits_last_sha256"] == probe_logits(
        load_model(tmp_path / "out" / "checkpoint")
    )


def test_run_killed_while_training_ends_with_the_same_bytes(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(inputs, tmp_path / "whole", monkeypatch)
    monkeypatch.setenv("FOREBEAR_SAVE_EVERY_S", "0")
    from transformers import Trainer

    real, left = Trainer.training_step, [6]

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        _run(inputs, tmp_path / "again", monkeypatch)
    assert left == [0]
    _run(inputs, tmp_path / "again", monkeypatch)
    assert left == [-3]  # eight steps in all: five before the kill, three after
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")


def _past_the_ranges(*_: Any, **__: Any) -> None:
    raise InterruptedError


@pytest.mark.parametrize(("key", "value"), [("beta", 0.05), ("beta", 0.6), ("epochs", 3)])
def test_value_outside_its_range_is_refused_unless_allowed(
    key: str, value: float, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        _run(inputs, tmp_path, monkeypatch, _params(**{key: value}))
    assert caught.value.where == f"params.yaml: prefer.{key}"
    allowance = {"rule": f"prefer.{key}", "reason": "a sweep of this value", "by": "us"}
    allowed = _params(**{key: value}, allow=[allowance])
    monkeypatch.setattr(prefer, "load_verifier", _past_the_ranges)
    with pytest.raises(InterruptedError):
        _run(inputs, tmp_path, monkeypatch, allowed)


def test_too_few_pairs_are_refused(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        _run(inputs, tmp_path, monkeypatch, _params(held_out_pairs=10))
    assert caught.value.where == "params.yaml: prefer.held_out_pairs"
