"""Every preference method on a tiny model: its effect, its start, its resume, what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from forebear.errors import ConfigError, RecordError  # noqa: E402
from forebear.train.checkpoint import load_model, probe_logits  # noqa: E402
from forebear.train.prefer import PreferParams, train_prefer  # noqa: E402
from tests.unit.train.tiny import (  # noqa: E402
    tree,
    write_checkpoint,
    write_rows,
    write_taught_checkpoint,
)

_CODES = ["A00.0", "A00.1", "A00.9", "B01.1", "B01.2", "B02.0", "C10.0", "C10.1", "C11.0", "D22.1"]
_OTHERS = ("simpo", "orpo", "kto")

Run = Callable[..., dict[str, Any]]


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
        "max_new_tokens": 8,
        "batch_rows": 4,
    }
    return PreferParams.model_validate(section | changes)


def _grpo(**changes: Any) -> PreferParams:
    values = {
        "method": "grpo",
        "batch_pairs": 2,
        "epochs": 2,
        "lr": 1e-3,
        "warmup_ratio": 0.0,
        "samples_per_prompt": 4,
        "batch_rows": 8,
        "max_new_tokens": 5,
        "grpo": {"group": 8},
    }
    return _params(**(values | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefer")


@pytest.fixture(scope="module")
def rows(folder: Path) -> Path:
    return write_rows(
        folder / "rows.jsonl", [(f"thing number {n}", code) for n, code in enumerate(_CODES)]
    )


@pytest.fixture(scope="module")
def untaught(folder: Path) -> Path:
    return write_checkpoint(folder / "untaught")


@pytest.fixture(scope="module")
def taught(folder: Path) -> Path:
    """Gives either of two answers to any prompt."""
    rows = [(f"thing number {n}", ("A11", "B22")[n % 2]) for n in range(10)]
    teaching = write_rows(folder / "teaching.jsonl", rows)
    return write_taught_checkpoint(folder / "taught", teaching, steps=60)


@pytest.fixture(scope="module")
def one_answer(folder: Path) -> Path:
    """Rows of which every answer is one of the two."""
    return write_rows(folder / "one.jsonl", [(f"thing number {n}", "A11") for n in range(10)])


@pytest.fixture
def run(tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the stage into ``tmp_path/NAME``; returns its metrics."""

    def call(params: PreferParams, start: Path, name: str = "out", **paths: Path) -> dict[str, Any]:
        out = tmp_path / name
        monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / f"{name}-scratch"))
        monkeypatch.setenv("FOREBEAR_THREADS", "1")
        train_prefer(
            params,
            start=start,
            out=out / "checkpoint",
            pairs=out / "pairs.jsonl",
            metrics=out / "metrics.json",
            curves=out / "curves.csv",
            **(paths or {"rows": rows}),
        )
        metrics: dict[str, Any] = json.loads((out / "metrics.json").read_bytes())
        return metrics

    return call


def _curves(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "out" / "curves.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", _OTHERS)
def test_every_method_prefers_the_chosen_answer_more_than_its_parent_did(
    method: str, run: Run, untaught: Path, tmp_path: Path
) -> None:
    metrics = run(_params(method=method), untaught)
    before, after = metrics["before"], metrics["after"]
    assert metrics["method"] == method
    assert (before["reward_margin"], before["kl"]) == (0, 0)
    assert after["reward_margin"] > 0
    assert after["reward_accuracy"] == 1
    assert after["logp_margin"] > before["logp_margin"]
    assert after["kl"] > 0
    assert metrics["loss_last"] < metrics["loss_first"]
    margins = [float(row["reward_margin"]) for row in _curves(tmp_path) if row["reward_margin"]]
    assert margins[-1] > margins[0]
    assert metrics["logits_first_sha256"] == probe_logits(load_model(untaught))
    out = tmp_path / "out" / "checkpoint"
    assert metrics["logits_last_sha256"] == probe_logits(load_model(out))
    for config in ("config.json", "generation_config.json", "tokenizer.json"):
        assert tree(out)[config] == tree(untaught)[config]


def test_verified_answers_become_more_frequent_by_reinforcement(
    run: Run, taught: Path, one_answer: Path, tmp_path: Path
) -> None:
    metrics = run(_grpo(), taught, rows=one_answer)
    rewards = [float(row["reward"]) for row in _curves(tmp_path)]
    half = len(rewards) // 2
    assert 0 < sum(rewards[:half]) < sum(rewards[half:])
    assert metrics["verified"]["after"] > metrics["verified"]["before"]
    assert metrics["logits_first_sha256"] == probe_logits(load_model(taught))
    assert metrics["after"]["kl"] > 0
    splits = [json.loads(line)["split"] for line in (tmp_path / "out" / "pairs.jsonl").open()]
    assert set(splits) == {"held_out"}


def test_reinforcement_against_a_reference_stays_nearer_to_it(
    run: Run, taught: Path, one_answer: Path
) -> None:
    free = run(_grpo(), taught, "free", rows=one_answer)
    held = run(
        _grpo(
            grpo={"group": 8, "beta": 5.0},
            allow=[{"rule": "prefer.grpo.beta", "reason": "so that it shows", "by": "us"}],
        ),
        taught,
        "held",
        rows=one_answer,
    )
    assert 0 < held["after"]["kl"] < free["after"]["kl"]


def test_reinforcement_without_one_verified_answer_is_refused(run: Run, untaught: Path) -> None:
    with pytest.raises(RecordError, match="nothing was learned"):
        run(_grpo(epochs=1), untaught)


@pytest.mark.parametrize("method", [*_OTHERS, "grpo"])
def test_run_killed_while_training_ends_with_the_same_bytes(
    method: str,
    run: Run,
    untaught: Path,
    taught: Path,
    one_answer: Path,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params, start, asked = _params(method=method), untaught, rows
    if method == "grpo":
        params, start, asked = _grpo(grpo={"group": 4}), taught, one_answer
    run(params, start, "whole", rows=asked)
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
        run(params, start, "again", rows=asked)
    assert left == [0]
    run(params, start, "again", rows=asked)
    assert left == [-3]  # eight steps in all: five before the kill, three after
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")


@pytest.mark.parametrize("method", ["dpo", *_OTHERS])
def test_loss_that_is_not_finite_stops_the_run_and_leaves_no_checkpoint(
    method: str, run: Run, untaught: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="the loss is nan"):
        run(_params(method=method, lr=1e30, warmup_ratio=0.0), untaught)
    assert not (tmp_path / "out").exists()


def test_policy_that_is_not_finite_any_more_stops_reinforcement(
    run: Run, taught: Path, one_answer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    real = Trainer.training_step

    def breaks(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = real(self, model, *args, **kwargs)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        return loss

    monkeypatch.setattr(Trainer, "training_step", breaks)
    with pytest.raises(RecordError, match="no longer finite"):
        run(_grpo(), taught, rows=one_answer)
    assert not (tmp_path / "out").exists()


_BAD_VALUES = [
    ("simpo", {"simpo": {"beta": 1.5}}, "prefer.simpo.beta"),
    ("simpo", {"simpo": {"beta": 2.0, "gamma": 2.5}}, "prefer.simpo.gamma"),
    ("orpo", {"orpo": {"lambda": 1.5}}, "prefer.orpo.lambda"),
    ("orpo", {"orpo": {"lambda": 0.05}}, "prefer.orpo.lambda"),
    ("grpo", {"grpo": {"beta": 0.2}}, "prefer.grpo.beta"),
    ("kto", {"beta": 0.6}, "prefer.beta"),
    ("simpo", {"epochs": 3}, "prefer.epochs"),
]


@pytest.mark.parametrize(("method", "values", "rule"), _BAD_VALUES)
def test_value_outside_a_methods_range_is_refused_unless_allowed(
    method: str, values: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _params(method=method, **values).require()
    assert caught.value.where == f"params.yaml: {rule}"
    allowance = {"rule": rule, "reason": "a sweep of this value", "by": "us"}
    _params(method=method, **values, allow=[allowance]).require()


def test_values_of_methods_that_are_not_chosen_are_not_judged() -> None:
    _params(method="dpo", simpo={"beta": 1.5}).require()


def test_a_method_takes_its_own_learning_rate() -> None:
    params = {"lr": 1e-5, "orpo": {"lr": 3e-5}}
    assert _params(method="orpo", **params).peak_lr == 3e-5
    assert _params(method="simpo", **params).peak_lr == 1e-5


@pytest.mark.parametrize(
    ("method", "kind"), [("dpo", "thumbs"), ("simpo", "thumbs"), ("grpo", "pairs")]
)
def test_data_that_a_method_cannot_learn_from_is_refused(method: str, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _params(method=method, data={"kind": kind}).require()
    assert caught.value.where == "params.yaml: prefer.data.kind"
    _params(method="kto", data={"kind": "thumbs"}).require()


def test_reinforcement_without_temperature_is_refused() -> None:
    with pytest.raises(ConfigError, match="equal answers"):
        _grpo(temperature=0.0).require()


def test_thumbs_weigh_alike_unless_told_otherwise() -> None:
    assert _params().kto_weights(10, 5) == (0.5, 1.0)
    told = {"kto": {"desirable_weight": 1.2}}
    assert _params(**told).kto_weights(5, 5) == (1.2, 1.0)
    with pytest.raises(ConfigError) as caught:
        _params(**told).kto_weights(10, 5)
    assert caught.value.where == "params.yaml: prefer.kto.balance"


def test_fewer_prompts_than_one_step_takes_are_refused(run: Run, taught: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(_grpo(batch_pairs=9), taught)
    assert caught.value.where == "params.yaml: prefer.batch_pairs"


def test_the_same_pairs_are_held_out_whatever_the_method(
    run: Run, taught: Path, one_answer: Path, tmp_path: Path
) -> None:
    held_out = []
    for method in ("simpo", "grpo"):
        run(_grpo(method=method, epochs=1), taught, method, rows=one_answer)
        lines = (tmp_path / method / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
        held_out.append([line for line in lines if '"split":"held_out"' in line])
    assert held_out[0] == held_out[1]
    assert len(held_out[0]) == 2
