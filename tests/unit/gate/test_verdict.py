"""The gate's behaviours 5, 6, 7, 8, 9 and 17 of the evaluation page, section 16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from forebear.errors import ConfigError
from forebear.gate.report import compare, metrics, render_table
from forebear.gate.runs import Item, Run, TaskRun, comparable_key
from forebear.gate.settings import GateSettings
from forebear.gate.verdict import decide

Counts = tuple[int, int, int]


def settings(**values: Any) -> GateSettings:
    return GateSettings.model_validate({"first_release": True, **values})


def task_run(
    task: str, values: list[float | None], flags: tuple[str, ...] = (), **identity: Any
) -> TaskRun:
    items = {
        f"{index:05d}": Item(f"{index:05d}", f"digest {index}", value, flags)
        for index, value in enumerate(values)
    }
    shared = {"task_sha256": task, "chat_template_sha256": "t", **identity}
    return TaskRun(task, shared, comparable_key(shared), "up", items)


def run(name: str, tasks: Mapping[str, TaskRun]) -> Run:
    return Run(name, f"tree of {name}", f"run of {name}", tasks, (("run.json", name),))


def paired(**tasks: Counts) -> tuple[Run, Run]:
    """Candidate and base with the given (losses, gains, n); all other items right in both."""
    ours, theirs = {}, {}
    for task, (losses, gains, n) in tasks.items():
        right = n - losses - gains
        ours[task] = task_run(task, [0.0] * losses + [1.0] * gains + [1.0] * right)
        theirs[task] = task_run(task, [1.0] * losses + [0.0] * gains + [1.0] * right)
    return run("final", ours), run("base", theirs)


def verdict_of(candidate: Run, base: Run, gate: GateSettings) -> tuple[str, dict[str, Any]]:
    value = decide(candidate, [base], gate)
    return value["verdict"], value


def test_candidate_equal_to_base_does_not_show_the_required_gain() -> None:
    verdict, gate = verdict_of(
        *paired(mc4=(0, 0, 200)), settings(required={"mc4": {"vs": "base", "min_gain": 0.0}})
    )
    assert verdict == "INCONCLUSIVE"
    assert "required gain not shown" in gate["pairs"][0]["reasons"][0]


def test_candidate_equal_to_base_passes_when_nothing_is_required() -> None:
    verdict, gate = verdict_of(*paired(mmlu_pro=(0, 0, 500)), settings(margins={"mmlu_pro": 0.02}))
    assert verdict == "PASS"
    assert gate["pairs"][0]["lower"] == pytest.approx(-0.005382, abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "margin", "expected"),
    [
        ((30, 14, 500), 0.02, "FAIL"),
        ((5, 5, 100), 0.05, "INCONCLUSIVE"),
        ((4, 6, 1000), 0.02, "PASS"),
        # a small loss inside the margin is a failure when the test is sure of it
        ((9, 1, 1000), 0.02, "FAIL"),
        # four discordant pairs can never fail by test, only by the point estimate
        ((4, 0, 100), 0.05, "INCONCLUSIVE"),
        ((12, 5, 100), 0.05, "FAIL"),
    ],
)
def test_single_pair(counts: Counts, margin: float, expected: str) -> None:
    verdict, gate = verdict_of(*paired(mmlu_pro=counts), settings(margins={"mmlu_pro": margin}))
    assert verdict == expected
    assert (gate["pairs"][0]["reasons"] == []) == (expected == "PASS")


def test_only_the_last_of_four_tasks_fails_by_test_after_holm() -> None:
    counts = {"t1": (9, 2, 500), "t2": (5, 5, 500), "t3": (12, 3, 500), "t4": (30, 14, 500)}
    _, gate = verdict_of(*paired(**counts), settings(margins=dict.fromkeys(counts, 0.10)))
    adjusted = {pair["task"]: pair["p_holm"] for pair in gate["pairs"]}
    assert adjusted == pytest.approx(
        {"t1": 0.0654, "t2": 0.6230, "t3": 0.0527, "t4": 0.0452}, abs=1e-4
    )
    assert {pair["task"]: pair["verdict"] for pair in gate["pairs"]} == {
        "t1": "PASS",
        "t2": "PASS",
        "t3": "PASS",
        "t4": "FAIL",
    }
    assert gate["verdict"] == "FAIL"


@pytest.mark.parametrize(("gains", "expected"), [(59, "INCONCLUSIVE"), (60, "PASS")])
def test_required_difference_must_be_reached(gains: int, expected: str) -> None:
    verdict, _ = verdict_of(
        *paired(mc4_far=(0, gains, 200)),
        settings(required={"mc4_far": {"vs": "base", "min_delta": 0.30}}),
    )
    assert verdict == expected


def test_smoke_profile_never_says_pass() -> None:
    gate = settings(profile="smoke", margins={"mmlu_pro": 0.5})
    verdict, value = verdict_of(*paired(mmlu_pro=(0, 0, 500)), gate)
    assert verdict == "SMOKE"
    assert value["pairs"][0]["verdict"] == "PASS"


def test_default_profile_bears_its_label() -> None:
    _, gate = verdict_of(*paired(mmlu_pro=(0, 0, 500)), settings(margins={"mmlu_pro": 0.10}))
    assert gate["label"] == "screening gate: rules out only drops of ten points or more"


def one_pair(ours: TaskRun, theirs: TaskRun | None, **more: Any) -> dict[str, Any]:
    base = run("base", {"t": theirs} if theirs else {})
    gate = decide(run("final", {"t": ours}), [base], settings(margins={"t": 0.1}, **more))
    assert gate["verdict"] == gate["pairs"][0]["verdict"] == "INCONCLUSIVE"
    value: dict[str, Any] = gate["pairs"][0]
    return value


RIGHT: list[float | None] = [1.0] * 400


def test_task_missing_from_the_reference_is_inconclusive() -> None:
    assert "not measured" in one_pair(task_run("t", RIGHT), None)["reasons"][0]


def test_different_chat_templates_are_not_comparable() -> None:
    other = task_run("t", RIGHT, chat_template_sha256="u")
    assert "chat_template_sha256" in one_pair(task_run("t", RIGHT), other)["reasons"][0]


def test_unmatched_items_are_inconclusive() -> None:
    assert "one run alone" in one_pair(task_run("t", RIGHT), task_run("t", RIGHT[1:]))["reasons"][0]


def test_changed_item_is_inconclusive() -> None:
    theirs = task_run("t", RIGHT)
    items = {**theirs.items, "00000": Item("00000", "edited", 1.0, ())}
    changed = TaskRun("t", theirs.identity, theirs.comparable_key, "up", items)
    assert "differ in content" in one_pair(task_run("t", RIGHT), changed)["reasons"][0]


def test_too_few_items_are_inconclusive() -> None:
    few = task_run("t", RIGHT[:49])
    assert "at least 50" in one_pair(few, few)["reasons"][0]


def test_unparsed_answers_are_inconclusive_not_zero() -> None:
    unread = task_run("t", [0.0] * 400, flags=("unparsed",))
    assert "could not be read" in one_pair(unread, task_run("t", RIGHT))["reasons"][0]


def test_errors_and_graded_values_are_inconclusive() -> None:
    assert (
        "error" in one_pair(task_run("t", [None, *RIGHT[1:]]), task_run("t", RIGHT))["reasons"][0]
    )
    graded = task_run("t", [0.5, *RIGHT[1:]])
    assert "graded" in one_pair(graded, task_run("t", RIGHT))["reasons"][0]


def test_unknown_reference_is_inconclusive() -> None:
    candidate, base = paired(mc4=(0, 90, 200))
    rule = {"mc4": {"vs": "previous_best", "min_gain": 0.0}}
    gate = decide(candidate, [base], settings(required=rule))
    assert gate["verdict"] == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({}, "eval"),
        ({"margins": {"t": 0.1}, "first_release": False}, "eval.first_release"),
        ({"margins": {"t": 0.0}}, "eval.margins.t"),
        ({"required": {"t": {"vs": "base"}}}, "eval.required.t"),
    ],
)
def test_settings_that_gate_nothing_are_refused(values: dict[str, Any], where: str) -> None:
    candidate, base = paired(t=(0, 0, 100))
    with pytest.raises(ConfigError) as caught:
        decide(candidate, [base], settings(**values))
    assert caught.value.where.endswith(where)


def test_worse_is_told_apart_for_tasks_where_lower_is_better() -> None:
    candidate, base = paired(t=(0, 200, 400))
    tasks = [
        run(side.name, {"t": TaskRun("t", t.identity, t.comparable_key, "down", t.items)})
        for side in (candidate, base)
        for t in side.tasks.values()
    ]
    assert verdict_of(*tasks, settings(margins={"t": 0.1}))[0] == "FAIL"


def test_comparison_shows_every_task_and_the_table_every_reason() -> None:
    candidate, base = paired(mc4=(1, 50, 200), mmlu_pro=(5, 5, 100), extra=(0, 3, 10))
    gate_settings = settings(
        required={"mc4": {"vs": "base", "min_gain": 0.0}}, margins={"mmlu_pro": 0.05}
    )
    gate = decide(candidate, [base], gate_settings)
    comparison = compare(candidate, [base], gate_settings)
    assert [(row["task"], row["gates"], row["n"]) for row in comparison["tasks"]] == [
        ("extra", False, 10),
        ("mc4", True, 200),
        ("mmlu_pro", True, 100),
    ]
    shown = metrics(gate, comparison)
    assert shown["verdict"] == "INCONCLUSIVE"
    assert shown["base"]["mc4"]["delta"] == pytest.approx(0.245)
    table = render_table(gate)
    assert "cannot be ruled out" in table
    assert "about 248 items" in table
