"""On-policy logit distillation: the student moves towards its teacher, or is told why it cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from forebear.errors import ConfigError
from forebear.train.distill.run import DistillParams, train_distill
from forebear.train.distill.vocabulary import require_shared_vocabulary
from tests.unit.train.tiny import tree, write_checkpoint, write_rows, write_taught_checkpoint

_TITLES = [
    ("cold", "J00"), ("cough", "R05"), ("fever", "R50.9"), ("burn", "T30.0"),
    ("gout", "M10.9"), ("acne", "L70.0"), ("mumps", "B26.9"), ("lupus", "L93.0"),
]  # fmt: skip
_ALLOW = {"rule": "distill.student.lr", "reason": "a random model learns nothing so", "by": "us"}


def _params(student: Mapping[str, Any], **changes: Any) -> DistillParams:
    section = {
        "seed": 1,
        "teacher": {
            "kind": "checkpoint", "name": "big", "terms": "Apache-2.0",
            "training_on_output": "permitted",
        },
        "forms": ["code"],
        "max_prompts": 6,
        "held_out_rows": 2,
        "samples_per_prompt": 2,
        "temperature": 0.0,
        "max_new_tokens": 8,
        "batch_rows": 12,
        "student": {
            "method": "logits", "lr": 5e-3, "epochs": 10, "batch_rows": 2,
            "grad_accumulation": 2, "max_rows": 8, "warmup_ratio": 0.0, **student,
        },
        "allow": [_ALLOW],
    }  # fmt: skip
    return DistillParams.model_validate(section | changes)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rows, a teacher that knows them, and a smaller student that knows nothing."""
    folder = tmp_path_factory.mktemp("family")
    rows = write_rows(folder / "rows.jsonl", _TITLES)
    return {
        "rows": rows,
        "teacher": write_taught_checkpoint(folder / "teacher", rows),
        "student": write_checkpoint(folder / "student", seed=5),
    }


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOREBEAR_THREADS", "1")
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))


def _distill(given: Mapping[str, Path | None], out: Path, params: DistillParams) -> Any:
    train_distill(
        params,
        **given,  # type: ignore[arg-type]  # teacher, student and rows
        out=out / "checkpoint",
        trajectories=out / "trajectories",
        used=out / "rows.jsonl",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
    )
    return json.loads((out / "metrics.json").read_bytes())


@pytest.mark.parametrize("divergence", [0.0, 0.5, 1.0])
def test_student_moves_towards_its_teachers_distributions(
    family: dict[str, Path], tmp_path: Path, divergence: float
) -> None:
    metrics = _distill(family, tmp_path / "out", _params({"divergence": divergence}))
    assert metrics["method"] == "on-policy logit distillation"
    assert 0 < metrics["kl_after"] < 0.9 * metrics["kl_before"]
    assert metrics["teacher_params"] > metrics["n_params"]
    assert 0 < metrics["tokens"] <= metrics["tokens_padded"]
    config = json.loads((tmp_path / "out" / "checkpoint" / "config.json").read_bytes())
    assert config == json.loads((family["student"] / "config.json").read_bytes())


def test_only_prompts_that_the_teacher_answers_right_are_learned_and_each_row_is_listed(
    family: dict[str, Path], tmp_path: Path
) -> None:
    _distill(family, tmp_path, _params({"epochs": 2}))
    listed = [json.loads(line) for line in (tmp_path / "rows.jsonl").open()]
    kept = {json.loads(line)["id"] for line in (tmp_path / "trajectories/kept.jsonl").open()}
    trained = [row["id"] for row in listed if row["split"] == "train"]
    held_out = [row["id"] for row in listed if row["split"] == "held_out"]
    assert len(set(trained)) == len(trained)
    assert set(trained) <= kept
    assert len(held_out) == 2
    assert not kept & set(held_out)


def test_kill_in_the_second_epoch_changes_no_byte(
    family: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import DistillationTrainer

    params = _params({"epochs": 3})
    monkeypatch.setenv("FOREBEAR_SAVE_EVERY_S", "0")
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "whole-scratch"))
    whole = _distill(family, tmp_path / "whole", params)
    steps_per_epoch = whole["steps"] // 3
    parts, kill_at = [0], 2 * steps_per_epoch + 2  # two parts a step: inside the second epoch
    real = DistillationTrainer.training_step

    def killed(self: Any, *arguments: Any, **named: Any) -> Any:
        parts[0] += 1
        if parts[0] == kill_at:
            raise KeyboardInterrupt
        return real(self, *arguments, **named)

    monkeypatch.setattr(DistillationTrainer, "training_step", killed)
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    with pytest.raises(KeyboardInterrupt):
        _distill(family, tmp_path / "again", params)
    _distill(family, tmp_path / "again", params)
    assert parts[0] < 2 * 2 * whole["steps"]  # not from the beginning
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")


def test_other_vocabulary_is_one_error_that_names_the_token(
    family: dict[str, Path], tmp_path: Path
) -> None:
    longer = write_checkpoint(tmp_path / "longer", extra_tokens=("zz",))
    with pytest.raises(ConfigError, match=r"token 259 is unknown to the student .*'zz'") as caught:
        _distill({**family, "teacher": longer}, tmp_path / "out", _params({}))
    assert caught.value.where == "params.yaml: distill.student.method"
    assert not (tmp_path / "out").exists()
    require_shared_vocabulary(family["student"], family["teacher"])


def test_wider_output_layer_is_refused_though_the_tokenizers_agree(
    family: dict[str, Path], tmp_path: Path
) -> None:
    padded = write_checkpoint(tmp_path / "padded")
    config = json.loads((padded / "config.json").read_bytes())
    (padded / "config.json").write_text(json.dumps({**config, "vocab_size": 320}))
    with pytest.raises(ConfigError, match="320"):
        require_shared_vocabulary(family["student"], padded)


def test_student_cannot_learn_its_own_distributions(
    family: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="already has"):
        _distill({**family, "student": None}, tmp_path, _params({}))


def test_teacher_without_distributions_is_refused() -> None:
    teacher = {
        "kind": "trajectories", "name": "traces", "terms": "CC0-1.0",
        "training_on_output": "permitted", "by": "A. B.",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no distributions"):
        _params({}, teacher=teacher).require()
    _params({"method": "sft", "lr": 5e-5}, teacher=teacher).require()


@pytest.mark.parametrize(
    ("student", "fault"),
    [
        ({"method": "sft", "divergence": 0.5}, "belong to method logits"),
        ({"per_prompt": 2}, "per_prompt is 1"),
        ({"grad_accumulation": 3}, "multiple"),
        ({"divergence": 1.5}, "divergence"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(student: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        _params(student)
