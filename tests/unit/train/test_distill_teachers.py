"""The stage with other teachers: an endpoint, a data set, mixed verifiers, and the terms gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("trl")
pytest.importorskip("openai")

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, RecordError
from forebear.train.distill import sandbox
from forebear.train.distill.run import DistillParams, train_distill
from forebear.train.distill.settings import EndpointTeacher
from forebear.train.distill.terms import load_table, posture_of, require_terms
from tests.support.openai_server import teacher_server
from tests.unit.train.tiny import tree, write_checkpoint

_ROWS = [
    {"id": f"m{n}", "prompt": f"{n}+{n}?", "answer": str(2 * n), "form": "code",
     "verifier": "mathematics", "difficulty": "easy" if n < 4 else "hard"}
    for n in range(8)
] + [
    {"id": f"c{n}", "prompt": f"times {n}", "answer": "-", "form": "code", "verifier": "code",
     "tests": f"assert f(2) == {2 * n}", "difficulty": "easy"}
    for n in range(4)
]  # fmt: skip


def _answer(body: Mapping[str, Any]) -> str:
    prompt = body["messages"][-1]["content"]
    if prompt.startswith("times"):
        return f"```python\ndef f(x): return {prompt[6:]} * x\n```"
    number = int(prompt.partition("+")[0])
    return f"$\\frac{{{4 * number}}}{{2}}$" if number != 5 else "$1$"


def _params(teacher: Mapping[str, Any], **changes: Any) -> DistillParams:
    section = {
        "seed": 1,
        "teacher": {
            "name": "big", "terms": "contract 7", "training_on_output": "permitted", "by": "A. B.",
            **teacher,
        },
        "verifier": "by_row",
        "forms": ["code"],
        "max_prompts": 20,
        "held_out_rows": 1,
        "samples_per_prompt": 1,
        "temperature": 0.5,
        "max_new_tokens": 64,
        "batch_rows": 4,
        "student": {"lr": 5e-5, "epochs": 1, "batch_rows": 2, "max_rows": 8},
    }  # fmt: skip
    return DistillParams.model_validate(section | changes)


def _endpoint(url: str, **changes: Any) -> dict[str, Any]:
    endpoint = {
        "base_url": url, "model": "big", "accessed": "2026-11-24", "requests_per_minute": 1e6,
        "budget": {"max_tokens": 100_000, "prompt_price": 1.0, "answer_price": 2.0},
    }  # fmt: skip
    return {"kind": "endpoint", "endpoint": endpoint | changes}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("FOREBEAR_THREADS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))
    return {"rows": rows, "student": write_checkpoint(tmp_path / "student")}


def _train(params: DistillParams, place: Mapping[str, Path], out: Path, **given: Path) -> Any:
    train_distill(
        params,
        teacher=None,
        **place,
        out=out / "checkpoint",
        trajectories=out / "trajectories",
        used=out / "rows.jsonl",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
        **given,
    )
    return json.loads((out / "metrics.json").read_bytes())


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_endpoint_teaches_by_verified_answers_and_everything_is_recorded(
    place: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("math_verify")
    with teacher_server(_answer) as server:
        params = _params(_endpoint(server.url))
        metrics = _train(params, place, tmp_path / "a", responses=tmp_path / "paid")
        asked = server.asked.total()
        _train(params, place, tmp_path / "b", responses=tmp_path / "paid")
        assert server.asked.total() == asked == 11
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    kept = _lines(tmp_path / "a" / "trajectories" / "kept.jsonl")
    rejected = _lines(tmp_path / "a" / "trajectories" / "rejected.jsonl")
    assert [row["id"] for row in rejected] == ["m5"]
    assert rejected[0]["reason"] == "not equal"
    assert [row["id"] for row in kept] == sorted(row["id"] for row in kept)
    code = next(row for row in kept if row["verifier"] == "code")
    assert code["sandbox"]["network"] == "none"
    assert code["teacher"]["accessed"] == "2026-11-24"
    assert code["model_reported"] == "big-0001"
    assert code["terms"] == "contract 7"
    assert code["sampling"]["temperature"] == 0.5
    assert metrics["yield"]["by_verifier"]["mathematics"]["rate"] < 1
    assert metrics["yield"]["by_difficulty"]["easy"]["rate"] == 1
    assert metrics["sampling"]["cost"] > 0
    assert metrics["method"] == "distillation of an endpoint's verified answers"
    used = _lines(tmp_path / "a" / "rows.jsonl")
    trained = {row["id"] for row in used if row["split"] == "train"}
    assert trained <= {row["id"] for row in kept}
    assert len(used) == len(trained) + 1


def test_spent_budget_leaves_no_out_and_a_raised_one_goes_on(
    place: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("math_verify")
    with teacher_server(_answer) as server:
        little = _params(_endpoint(server.url, budget={"max_tokens": 120}, concurrency=1))
        with pytest.raises(RecordError, match="budget is spent"):
            _train(little, place, tmp_path / "a", responses=tmp_path / "paid")
        assert not (tmp_path / "a").exists()
        assert 0 < server.asked.total() < 11
        _train(_params(_endpoint(server.url)), place, tmp_path / "a", responses=tmp_path / "paid")
        assert set(server.asked.values()) == {1}


def test_data_set_teaches_by_verified_answers(place: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    dataset = tmp_path / "given.jsonl"
    rows: list[dict[str, Any]] = [{"id": f"m{n}", "response": f"${2 * n}$"} for n in range(8)]
    rows += [{"id": "m1", "response": "$2", "finished": False}, {"id": "other", "response": "x"}]
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    params = _params({"kind": "trajectories", "name": "traces"})
    metrics = _train(params, place, tmp_path / "a", dataset=dataset)
    kept = _lines(tmp_path / "a" / "trajectories" / "kept.jsonl")
    assert {row["teacher"]["kind"] for row in kept} == {"trajectories"}
    assert metrics["yield"]["kept"] == len(kept) >= 7
    dataset.write_text('{"id": "m1"}\n')
    with pytest.raises(FormatError, match="id and response"):
        _train(params, place, tmp_path / "b", dataset=dataset)
    with pytest.raises(ConfigError, match="--dataset"):
        _train(params, place, tmp_path / "b")


def test_example_of_the_document_is_a_valid_teacher_whose_terms_permit() -> None:
    text = (Path(__file__).parents[3] / "docs" / "distill.md").read_text(encoding="utf-8")
    block = text.partition("```yaml\n")[2].partition("```")[0]
    teacher = EndpointTeacher.model_validate(yaml.safe_load(block)["teacher"])
    require_terms(
        (teacher.name, teacher.endpoint.model),
        declared=teacher.training_on_output, by=teacher.by, own=False, allowed=False,
    )  # fmt: skip
    assert teacher.endpoint.budget.cost(10**6, 10**6) > 0


def test_table_is_whole_and_the_first_match_counts() -> None:
    table = load_table()
    found = {
        name: getattr(posture_of(name, table), "posture", None)
        for name in (
            "gpt-4.1", "openai/GPT-4.1-mini", "claude-sonnet-4-5", "deepseek-ai/DeepSeek-R1",
            "deepseek-r1-distill-llama-70b", "meta-llama/Llama-3.1-8B-Instruct", "qwen3-32b",
            "gpt-oss-120b", "sft",
        )
    }  # fmt: skip
    assert list(found.values()) == [
        "forbidden", "forbidden", "forbidden", "permitted", "conditional", "conditional",
        "permitted", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "declared", "by", "own"),
    [
        ("gpt-4.1", "permitted", "A. B.", False),  # the table forbids, whatever is declared
        ("claude-sonnet-4-5", "unknown", "A. B.", False),
        ("unheard-of", "permitted", None, False),  # nobody has read them
        ("unheard-of", "unknown", "A. B.", False),
        ("unheard-of", "forbidden", "A. B.", True),
        ("llama-3.1-8b", "permitted", None, True),  # a condition needs a reader
        ("deepseek-r1", "forbidden", "A. B.", False),
    ],
)
def test_teacher_without_permission_is_refused_unless_allowed(
    name: str, declared: str, by: str | None, own: bool
) -> None:
    with pytest.raises(ConfigError, match="terms"):
        require_terms((name,), declared=declared, by=by, own=own, allowed=False)
    require_terms((name,), declared=declared, by=by, own=own, allowed=True)


@pytest.mark.parametrize(
    ("name", "declared", "by", "own"),
    [
        ("sft", "permitted", None, True),
        ("deepseek-r1", "unknown", None, False),
        ("unheard-of", "permitted", "A. B.", False),
        ("llama-3.1-8b", "permitted", "A. B.", False),
    ],
)
def test_teacher_with_permission_passes(
    name: str, declared: str, by: str | None, own: bool
) -> None:
    require_terms((name,), declared=declared, by=by, own=own, allowed=False)


def test_allowance_for_terms_stands_in_every_trajectory(
    place: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("math_verify")
    entry = {"rule": "distill.teacher.terms", "reason": "consent 17 of 2026-11-02", "by": "A. B."}
    with teacher_server(_answer) as server:
        params = _params(_endpoint(server.url, model="gpt-4.1"), allow=[entry])
        _train(params, place, tmp_path / "a")
    folder = tmp_path / "a" / "trajectories"
    judged = [*_lines(folder / "kept.jsonl"), *_lines(folder / "rejected.jsonl")]
    said = {"reason": "consent 17 of 2026-11-02", "by": "A. B."}
    assert [row["terms_allowance"] for row in judged] == [said] * 11


def test_nothing_is_asked_where_code_could_not_be_judged(
    place: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_attempts", lambda: iter([()]))
    with teacher_server(_answer) as server:
        with pytest.raises(EnvironmentFailure, match="will not be run here"):
            _train(_params(_endpoint(server.url)), place, tmp_path / "a")
        assert not server.asked


def test_forbidden_endpoint_is_refused_before_anything_is_asked(
    place: dict[str, Path], tmp_path: Path
) -> None:
    with teacher_server(_answer) as server:
        params = _params(_endpoint(server.url, model="gpt-4.1"))
        with pytest.raises(ConfigError, match="compete"):
            _train(params, place, tmp_path / "a")
        assert not server.asked
