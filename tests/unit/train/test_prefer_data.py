"""Preferences that a file gives: how they are read, split and learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from forebear.errors import ConfigError, FormatError  # noqa: E402
from forebear.train.pairs import Scores, compare_thumbs  # noqa: E402
from forebear.train.prefer import PreferParams, train_prefer  # noqa: E402
from forebear.train.preference.data import as_thumbs, read_pairs, read_thumbs  # noqa: E402
from tests.unit.train.tiny import write_checkpoint  # noqa: E402

_PAIR = {"id": "1", "prompt": "p", "chosen": "a", "rejected": "b"}
_THUMB = {"id": "1", "prompt": "p", "answer": "a", "thumb": "up"}


def _write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def _pairs(n: int) -> list[dict[str, str]]:
    return [
        {"id": f"{i}", "prompt": f"Case {i % 7} {i}?", "chosen": "yes", "rejected": "no"}
        for i in range(n)
    ]


def _thumbs(n: int) -> list[dict[str, str]]:
    """More up than down, and several to a prompt."""
    return [
        {
            "id": f"{i}",
            "prompt": f"Case {i // 2}?",
            "answer": "no" if i % 3 == 0 else "yes",
            "thumb": "down" if i % 3 == 0 else "up",
        }
        for i in range(n)
    ]


def _train(
    kind: str,
    method: str,
    file: Path | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    **changes: Any,
) -> dict[str, Any]:
    section: dict[str, Any] = {
        "seed": 1,
        "method": method,
        "data": {"kind": kind},
        "beta": 0.1,
        "lr": 3e-3,
        "epochs": 2,
        "batch_pairs": 2,
        "forms": ["code"],
        "max_pairs": 12,
        "held_out_pairs": 3,
        "samples_per_prompt": 1,
        "temperature": 1.0,
        "max_new_tokens": 4,
        "batch_rows": 4,
    }
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("FOREBEAR_THREADS", "1")
    train_prefer(
        PreferParams.model_validate(section | changes),
        start=write_checkpoint(tmp_path / "start"),
        given=file,
        out=tmp_path / "checkpoint",
        pairs=tmp_path / "pairs.jsonl",
        metrics=tmp_path / "metrics.json",
        curves=tmp_path / "curves.csv",
    )
    metrics: dict[str, Any] = json.loads((tmp_path / "metrics.json").read_bytes())
    return metrics


def test_given_pairs_teach_what_they_prefer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _write(tmp_path / "given.jsonl", _pairs(20))
    metrics = _train("pairs", "dpo", file, tmp_path, monkeypatch)
    assert metrics["after"]["reward_margin"] > 0
    assert metrics["after"]["reward_accuracy"] == 1
    assert (metrics["pairs"], metrics["pairs_held_out"]) == (15, 3)
    assert "verified" not in metrics  # nobody knows what is right
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").open()]
    assert {row["rejected_from"] for row in rows} == {"given"}


def test_given_thumbs_come_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _write(tmp_path / "given.jsonl", _thumbs(36))
    metrics = _train("thumbs", "kto", file, tmp_path, monkeypatch)
    after = metrics["after"]
    assert metrics["before"]["reward_margin"] == 0
    assert after["reward_chosen"] > after["reward_rejected"]
    assert after["reward_accuracy"] > 0.5
    assert after["reward_margin"] > 0
    weighed = metrics["thumbs_up"] * metrics["desirable_weight"]
    assert weighed == pytest.approx(metrics["thumbs_down"] * metrics["undesirable_weight"])
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").open()]
    held_out = {row["prompt"] for row in rows if row["split"] == "held_out"}
    trained = {row["prompt"] for row in rows if row["split"] == "train"}
    assert held_out
    assert trained
    assert not held_out & trained


_BAD_PAIRS = [
    ({**_PAIR, "chosen": 1}, "needs chosen"),
    ({"id": "1", "prompt": "p", "chosen": "a"}, "needs rejected"),
    ({**_PAIR, "rejected": ""}, "needs rejected"),
    ({**_PAIR, "rejected": "a"}, "is the rejected one"),
    (["no object"], "must be an object"),
]


@pytest.mark.parametrize(("row", "reason"), _BAD_PAIRS)
def test_malformed_pair_is_named_by_file_and_line(row: Any, reason: str, tmp_path: Path) -> None:
    file = _write(tmp_path / "pairs.jsonl", [_PAIR, row])
    with pytest.raises(FormatError, match=reason) as caught:
        read_pairs(file)
    assert caught.value.where == f"{file}:2"
    assert len(read_pairs(_write(file, [_PAIR]))) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [({**_THUMB, "thumb": "sideways"}, "up or down"), ({**_THUMB, "answer": None}, "needs answer")],
)
def test_malformed_thumb_is_named_by_file_and_line(row: Any, reason: str, tmp_path: Path) -> None:
    file = _write(tmp_path / "thumbs.jsonl", [_THUMB, row])
    with pytest.raises(FormatError, match=reason) as caught:
        read_thumbs(file)
    assert caught.value.where == f"{file}:2"
    assert read_thumbs(_write(file, [_THUMB])) == [_THUMB]


def test_line_that_is_no_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(_PAIR) + "\n{\n", encoding="utf-8")
    with pytest.raises(FormatError) as caught:
        read_pairs(file)
    assert caught.value.where.startswith(f"{file}:2")


@pytest.mark.parametrize(
    ("kind", "method", "rows"), [("pairs", "dpo", _pairs(3)), ("thumbs", "kto", _thumbs(6))]
)
def test_too_few_given_are_refused(
    kind: str, method: str, rows: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _write(tmp_path / "given.jsonl", rows)
    with pytest.raises(ConfigError) as caught:
        _train(kind, method, file, tmp_path, monkeypatch)
    assert caught.value.where == "params.yaml: prefer.held_out_pairs"


def test_data_without_its_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no file is given"):
        _train("pairs", "dpo", None, tmp_path, monkeypatch)


def test_a_pair_is_a_thumb_up_and_a_thumb_down() -> None:
    assert [(row["answer"], row["thumb"]) for row in as_thumbs([_PAIR])] == [
        ("a", "up"),
        ("b", "down"),
    ]


def test_accuracy_of_thumbs_is_the_share_of_ups_above_downs() -> None:
    logp = torch.log_softmax(torch.zeros(1, 3), dim=-1)
    zero = Scores(torch.zeros(2), torch.zeros(2), logp)
    policy = Scores(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0]), logp)
    figures = compare_thumbs(policy, zero, beta=0.5)
    assert figures["reward_accuracy"] == 0.75
    assert figures["reward_margin"] == 0.5
    assert figures["kl"] == 0
