"""A checkpoint that a server answers for, and what a measurement will cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import EnvironmentFailure
from forebear.train.evaluate.command import read_measure_params
from forebear.train.evaluate.plan import plan
from tests.support.measuring import build_place, make_params, measure_into, read_rows
from tests.support.openai_server import TeacherServer, teacher_server

pytest.importorskip("openai")
pytest.importorskip("lm_eval")
TASKS: dict[str, Any] = {
    "mc4": {"limit": 4},
    "code": {"limit": 4, "max_tokens": 8},
    "gsm8k": {"limit": 2, "max_tokens": 8},
    "harmbench": {"limit": 2, "max_tokens": 8},
}


@pytest.fixture(scope="module")
def benchmarks(repository: Path) -> Path:
    return repository / "data" / "benchmarks"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_place(tmp_path_factory.mktemp("served"))


@pytest.fixture
def server() -> Iterator[TeacherServer]:
    with teacher_server(lambda _body: "I would rather not say.") as running:
        yield running


def served(server: TeacherServer, **more: Any) -> dict[str, Any]:
    endpoint = {
        "base_url": server.url, "model": "tester", "concurrency": 1,
        "requests_per_minute": 1e6, "max_attempts": 1, **more,
    }  # fmt: skip
    return {"backend": "vllm", "endpoint": endpoint}


def test_likelihood_tasks_are_not_run_and_unreadable_answers_are_not_just_wrong(
    place: Path, benchmarks: Path, server: TeacherServer, tmp_path: Path
) -> None:
    out = measure_into(place, benchmarks, tmp_path / "run", tasks=TASKS, model=served(server))
    run = json.loads((out / "run.json").read_text())
    assert "likelihoods" in run["not_run"]["mc4"]
    assert run["tasks"].keys() == TASKS.keys() - {"mc4"}
    assert run["tasks"]["code"]["unparsed_rate"] == 1.0
    assert run["model"]["served_as"]["model"] == "tester"
    assert len(run["model"]["tree_sha256"]) == 64
    rows = read_rows(out / "items" / "code.jsonl.gz")
    assert {row["value"] for row in rows} == {0.0}
    assert {tuple(row["flags"]) for row in rows} == {("unparsed",)}


def test_an_item_that_fails_for_good_is_an_error_neither_wrong_nor_dropped(
    place: Path, benchmarks: Path, server: TeacherServer, tmp_path: Path
) -> None:
    server.faults = ["500"]
    tasks = {"code": TASKS["code"]}
    out = measure_into(place, benchmarks, tmp_path / "run", tasks=tasks, model=served(server))
    rows = read_rows(out / "items" / "code.jsonl.gz")
    assert [row["value"] for row in rows].count(None) == 1
    assert sum("error" in row["flags"] for row in rows) == 1
    assert len(rows) == 4
    assert json.loads((out / "run.json").read_text())["tasks"]["code"]["error_count"] == 1


def test_a_measurement_stopped_by_its_budget_goes_on_without_paying_again(
    place: Path,
    benchmarks: Path,
    server: TeacherServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "scratch"))
    more = {"tasks": {"code": TASKS["code"]}, "model": served(server)}
    with pytest.raises(EnvironmentFailure, match=r"budget of 2 requests") as caught:
        measure_into(place, benchmarks, tmp_path / "run", **more, budget={"max_requests": 2})
    assert caught.value.exit_code == 4
    assert not (tmp_path / "run").exists()
    measure_into(place, benchmarks, tmp_path / "run", **more)
    assert set(server.asked.values()) == {1}
    assert len(server.asked) == 4


def test_the_plan_counts_what_will_be_asked_and_never_less_than_is_paid(
    place: Path, benchmarks: Path, server: TeacherServer, tmp_path: Path
) -> None:
    price = {"in_per_m": 1e3, "out_per_m": 1e3}
    more = {"tasks": TASKS, "model": served(server, price=price), "budget": {"max_usd": 100.0}}
    rows = plan(make_params(**more), golden=place / "golden", benchmarks=benchmarks)
    planned = {row["suite"]: row for row in rows}
    assert planned["mc4"]["reason"]
    assert planned["code"]["requests"] == 4
    measure_into(place, benchmarks, tmp_path / "run", **more)
    assert sum(server.asked.values()) == sum(
        row["requests"] for row in rows if row["reason"] is None
    )
    assert planned["code"]["usd"] > 0


def test_the_release_recipe_plans_every_suite_whole(repository: Path, place: Path) -> None:
    recipe = repository / "recipes" / "evaluate" / "release.yaml"
    params = read_measure_params(recipe)
    rows = {
        row["suite"]: row
        for row in plan(
            params, golden=place / "golden", benchmarks=repository / "data" / "benchmarks"
        )
    }
    assert rows["alpaca_eval"]["reason"] == "licence"
    assert "test.jsonl.gz" in rows["mmlu_pro"]["reason"]
    whole = {"ifeval": 541, "bbq": 2700, "crows_pairs": 1508, "gsm8k": 1319, "humaneval": 164,
             "mt_bench": 80, "arena_hard": 500, "harmbench": 200, "jailbreakbench": 200,
             "xstest": 450}  # fmt: skip
    assert {task: rows[task]["items"] for task in whole} == whole
    assert rows["mt_bench"]["judge_requests"] > 0
    assert rows["humaneval"]["requests"] == 1640
    assert sum(row["usd"] for row in rows.values()) < params.budget.max_usd
