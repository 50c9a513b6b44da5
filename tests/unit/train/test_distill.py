"""Distillation: what the verifier refuses, what is written, and that a kill changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from forebear.errors import ConfigError, RecordError  # noqa: E402
from forebear.train.distill import teachers  # noqa: E402
from forebear.train.distill.journal import Journal  # noqa: E402
from forebear.train.distill.run import DistillParams, train_distill  # noqa: E402
from forebear.train.distill.trajectories import student_rows, yields  # noqa: E402
from forebear.train.distill.verifiers import exact_match, load_verifier  # noqa: E402
from tests.unit.train.tiny import (  # noqa: E402
    tree,
    write_checkpoint,
    write_rows,
    write_taught_checkpoint,
)

_TITLES = [
    ("cold", "J00"), ("cough", "R05"), ("fever", "R50.9"), ("burn", "T30.0"),
    ("gout", "M10.9"), ("acne", "L70.0"), ("mumps", "B26.9"), ("lupus", "L93.0"),
    ("croup", "J05.0"), ("colic", "R10.83"), ("stye", "H00.01"), ("cyst", "L72.9"),
]  # fmt: skip


def _params(**changes: Any) -> DistillParams:
    section = {
        "seed": 1,
        "teacher": {
            "kind": "checkpoint",
            "name": "sft",
            "terms": "Apache-2.0",
            "training_on_output": "permitted",
        },
        "forms": ["code"],
        "max_prompts": 10,
        "held_out_rows": 2,
        "samples_per_prompt": 3,
        "temperature": 0.7,
        "max_new_tokens": 8,
        "batch_rows": 9,
        "student": {"lr": 5e-5, "epochs": 2, "batch_rows": 2, "max_rows": 8},
    }
    return DistillParams.model_validate(section | changes)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rows, and a teacher that knows most of them."""
    folder = tmp_path_factory.mktemp("taught")
    rows = write_rows(folder / "rows.jsonl", _TITLES)
    return {"rows": rows, "teacher": write_taught_checkpoint(folder / "teacher", rows)}


def _run(
    taught: dict[str, Path],
    out: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    params: DistillParams | None = None,
) -> dict[str, Any]:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(scratch))
    monkeypatch.setenv("FOREBEAR_THREADS", "1")
    train_distill(
        params or _params(),
        **taught,
        out=out / "checkpoint",
        trajectories=out / "trajectories",
        used=out / "rows.jsonl",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
    )
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_bytes())
    return metrics


@pytest.mark.parametrize("answer", ["S72.001A", " s72.001a\n", "S72001A"])
def test_right_code_is_verified_whatever_its_case_blanks_and_dot(answer: str) -> None:
    assert exact_match(answer, {"answer": "S72.001A"}).verified


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        ("S72.001B", "wrong code, right category"),
        ("T72.001A", "wrong category"),
        ("S7.2001A", "not a code"),
        ("The code is S72.001A", "not a code"),
        ("S72.001A.", "not a code"),
    ],
)
def test_wrong_answer_is_refuted_with_its_reason(answer: str, reason: str) -> None:
    verdict = exact_match(answer, {"answer": "S72.001A"})
    assert not verdict.verified
    assert verdict.reason == reason


def test_unknown_verifier_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        load_verifier("guess", where="params.yaml: distill.verifier")
    assert "exact_match" in caught.value.fix
    assert caught.value.where == "params.yaml: distill.verifier"


def test_stage_keeps_only_verified_answers_and_learns_from_them(
    taught: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = _run(taught, tmp_path / "out", tmp_path / "scratch", monkeypatch)
    rows = {
        verdict: [
            json.loads(line)
            for line in (tmp_path / "out" / "trajectories" / f"{verdict}.jsonl").open()
        ]
        for verdict in ("kept", "rejected")
    }
    assert rows["kept"]
    assert rows["rejected"]
    for row in rows["kept"]:
        assert exact_match(row["response"], {"answer": row["expected"]}).verified
    assert len(rows["kept"]) + len(rows["rejected"]) == 30
    assert metrics["yield"]["kept"] == len(rows["kept"])
    assert sum(metrics["yield"]["prompts_by_kept"].values()) == 10
    assert sum(metrics["yield"]["rejected_by"].values()) == len(rows["rejected"])
    assert metrics["logits_first_sha256"] != metrics["logits_last_sha256"]
    assert metrics["tokens"] <= metrics["tokens_padded"]
    assert rows["kept"][0]["teacher"]["tree"] == metrics["teacher"]["tree"]
    assert {file.rpartition(".")[2] for file in tree(tmp_path / "out" / "checkpoint")} == {
        "safetensors", "json", "jinja"
    }  # fmt: skip


def test_killed_run_asks_nothing_twice_and_ends_with_the_same_bytes(
    taught: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(taught, tmp_path / "whole", tmp_path / "scratch-whole", monkeypatch)
    drawn: list[int] = []
    real = teachers._sample_chunk

    def counted(model: Any, prompts: Any, sampling: Any, number: int, stop_id: int) -> Any:
        if number == 2 and not drawn.count(2):
            drawn.append(2)
            raise KeyboardInterrupt
        drawn.append(number)
        return real(model, prompts, sampling, number, stop_id)

    monkeypatch.setattr(teachers, "_sample_chunk", counted)
    with pytest.raises(KeyboardInterrupt):
        _run(taught, tmp_path / "again", tmp_path / "scratch", monkeypatch)
    journal = tmp_path / "scratch" / "answers.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"answers": [[1, 2')  # cut short by a kill
    _run(taught, tmp_path / "again", tmp_path / "scratch", monkeypatch)
    assert drawn == [0, 1, 2, 2, 3]
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")


def test_journal_of_another_request_is_never_used(tmp_path: Path) -> None:
    Journal(tmp_path / "answers.jsonl", "a").put(0, [[1]])
    assert Journal(tmp_path / "answers.jsonl", "a").get(0) == [[1]]
    assert Journal(tmp_path / "answers.jsonl", "b").get(0) is None
    assert len(Journal(tmp_path / "answers.jsonl", "b")) == 0


def test_sampling_without_temperature_is_what_generate_gives(taught: dict[str, Path]) -> None:
    from forebear.train.checkpoint import load_model, load_tokenizer

    model, tokenizer = load_model(taught["teacher"]), load_tokenizer(taught["teacher"])
    prompts = [teachers.encode_prompt(tokenizer, f"Code of {t}?") for t, _ in _TITLES[:5]]
    sampling = teachers.Sampling(2, 0.0, 8, 10, seed=3)
    rows = teachers._sample_chunk(model, prompts, sampling, 0, 2)
    for number, prompt in enumerate(prompts):
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)
        assert rows[2 * number] == rows[2 * number + 1] == whole[0, len(prompt) :].tolist()


def test_training_that_changes_no_weight_stops_the_stage(
    taught: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {"lr": 5e-5, "epochs": 1, "batch_rows": 64, "max_rows": 8}
    with pytest.raises(RecordError, match="changed no weight"):
        _run(taught, tmp_path, tmp_path / "scratch", monkeypatch, _params(student=student))


def test_nothing_kept_stops_with_the_params_to_change(
    taught: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignorant = {**taught, "teacher": write_checkpoint(tmp_path / "random")}
    with pytest.raises(RecordError) as caught:
        _run(ignorant, tmp_path / "out", tmp_path / "scratch", monkeypatch)
    assert "distill.max_prompts" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_teacher_that_forbids_training_stops_the_stage_unless_allowed(
    taught: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = {**_params().teacher.model_dump(), "training_on_output": "forbidden"}
    with pytest.raises(ConfigError) as caught:
        _run(taught, tmp_path, tmp_path, monkeypatch, _params(teacher=teacher))
    assert caught.value.where == "params.yaml: distill.teacher"
    allowed = {"rule": "distill.teacher.terms", "reason": "written consent is on file", "by": "us"}
    params = _params(teacher=teacher, allow=[allowed])
    assert _run(taught, tmp_path / "out", tmp_path / "scratch", monkeypatch, params)["rows"]


def test_learning_rate_outside_its_range_is_refused(
    taught: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {**_params().student.model_dump(), "lr": 1e-3}
    with pytest.raises(ConfigError) as caught:
        _run(taught, tmp_path, tmp_path, monkeypatch, _params(student=student))
    assert caught.value.where == "params.yaml: distill.student.lr"


def test_student_rows_hold_each_answer_once_and_yields_count_them_all() -> None:
    def row(prompt: str, response: str, verdict: str) -> dict[str, Any]:
        return {
            "id": prompt, "prompt": prompt, "title": "a b c d", "response": response,
            "verdict": verdict, "verifier": "exact_match", "reason": "empty",
        }  # fmt: skip

    answers = (("p", "A00"), ("p", "A00 "), ("p", "a00"))
    rows = [row(*answer, "kept") for answer in answers] + [row("q", "", "rejected")]
    assert [r["answer"] for r in student_rows(rows, per_prompt=2)] == ["A00", "a00"]
    assert [r["answer"] for r in student_rows(rows, per_prompt=1)] == ["A00"]
    counted = yields(rows, samples_per_prompt=3)
    assert counted["rate"] == 0.75
    assert counted["prompts_by_kept"] == {"0": 1, "1": 0, "2": 0, "3": 1}
    assert counted["by_title_words"]["04 to 06"]["answers"] == 4
