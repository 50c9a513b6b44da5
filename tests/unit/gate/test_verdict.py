"""The gate's behaviours 5, 6, 7, 8, 9 and 17 of the evaluation page, section 16."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.gate import paired as paired_module
from forebear.gate.report import compare, metrics, render_table
from forebear.gate.runs import Item, Run, TaskRun
from forebear.gate.settings import GateSettings
from forebear.gate.verdict import decide
from tests.unit.gate.runs import Counts, paired, run, settings, task_run


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


def test_errors_are_inconclusive() -> None:
    assert (
        "error" in one_pair(task_run("t", [None, *RIGHT[1:]]), task_run("t", RIGHT))["reasons"][0]
    )


def test_unknown_reference_is_inconclusive() -> None:
    candidate, base = paired(mc4=(0, 90, 200))
    rule = {"mc4": {"vs": "previous_best", "min_gain": 0.0}}
    gate = decide(candidate, [base], settings(required=rule))
    assert gate["verdict"] == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({}, "eval"),
        ({"margins": {"t": 1.0}}, "eval.margins.t"),
        ({"margins": {"t": 0.1}, "report_only": ["t"]}, "eval.report_only"),
        ({"margins": {"t.acc": 0.1}, "report_only": ["t"]}, "eval.report_only"),
        ({"margins": {"t": 0.1}, "references": {"t": ["parents"]}}, "eval.parents"),
        ({"margins": {"t": 0.1}, "profile": "release"}, "eval.limits"),
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
    assert [row["margin"] for row in comparison["tasks"]] == [None, None, 0.05]
    table = render_table(gate)
    assert "cannot be ruled out" in table
    assert "about 248 items" in table


# ── twelve tasks, one regression ───────────────────────────────────────────────────────────────

TWELVE = [f"t{number:02}" for number in range(12)]


def test_a_regression_of_ten_points_in_one_of_twelve_tasks_blocks_and_is_named() -> None:
    counts = dict.fromkeys(TWELVE, (10, 10, 500)) | {"t07": (70, 20, 500)}
    verdict, gate = verdict_of(*paired(**counts), settings(margins=dict.fromkeys(TWELVE, 0.05)))
    assert verdict == "FAIL"
    (bad,) = [pair for pair in gate["pairs"] if pair["verdict"] != "PASS"]
    assert (bad["task"], bad["reference"], bad["delta"]) == ("t07", "base", -0.1)
    assert bad["p_holm"] < 0.001
    said = " ".join(bad["reasons"])
    assert "95 % interval -0.13" in said
    assert "p 0.0000" in said
    assert "t07" in render_table(gate)


def test_twelve_equal_tasks_pass_only_with_enough_items() -> None:
    margins = dict.fromkeys(TWELVE, 0.05)
    few = paired(**dict.fromkeys(TWELVE, (10, 10, 100)))
    many = paired(**dict.fromkeys(TWELVE, (50, 50, 500)))
    assert verdict_of(*few, settings(margins=margins))[0] == "INCONCLUSIVE"
    assert verdict_of(*many, settings(margins=margins))[0] == "PASS"


# ── references ─────────────────────────────────────────────────────────────────────────────────


def three(**counts: tuple[int, int]) -> list[Run]:
    """Runs of 400 items by name, with so many right of two tasks."""
    made = []
    for name, (first, second) in counts.items():
        tasks = {
            task: task_run(task, [1.0] * right + [0.0] * (400 - right))
            for task, right in (("general", first), ("harmless", second))
        }
        made.append(run(name, tasks))
    return made


def pairs_of(gate: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(one["task"], one["reference"], one["verdict"]) for one in gate["pairs"]]


def test_each_kind_of_task_has_its_own_references() -> None:
    ours, *others = three(
        final=(300, 300), base=(290, 300), sft=(300, 300), prefer=(250, 390), previous=(300, 300)
    )
    gate = decide(
        ours,
        others,
        settings(
            margins={"general": 0.1, "harmless": 0.1},
            references={
                "default": ["base", "previous", "best_parent"],
                "harmless": ["base", "parents"],
            },
            parents=["sft", "prefer"],
            first_release=False,
        ),
    )
    assert pairs_of(gate) == [
        ("general", "base", "PASS"),
        ("general", "previous", "PASS"),
        ("general", "sft", "PASS"),
        ("harmless", "base", "PASS"),
        ("harmless", "prefer", "FAIL"),
        ("harmless", "sft", "PASS"),
    ]
    assert gate["verdict"] == "FAIL"


def test_a_parent_that_was_not_measured_blocks() -> None:
    ours, base = three(final=(300, 300), base=(290, 300))
    gate = decide(
        ours,
        [base],
        settings(
            margins={"general": 0.1}, references={"general": ["best_parent"]}, parents=["sft"]
        ),
    )
    assert pairs_of(gate) == [("general", "sft", "INCONCLUSIVE")]
    assert gate["pairs"][0]["reasons"] == ["there is no run named 'sft'"]


def test_before_the_first_release_nothing_is_compared_with_the_previous_one() -> None:
    ours, base = three(final=(300, 300), base=(290, 300))
    words = {"default": ["base", "previous"]}
    gate = decide(ours, [base], settings(margins={"general": 0.1}, references=words))
    assert pairs_of(gate) == [("general", "base", "PASS")]


def test_a_task_that_was_not_run_blocks_with_its_reason() -> None:
    ours, base = three(final=(300, 300), base=(290, 300))
    lacking = run("final", dict(ours.tasks), not_run={"alpaca_eval": "licence"})
    gate = decide(lacking, [base], settings(margins={"alpaca_eval.lc_win_rate": 3.0}))
    assert gate["verdict"] == "INCONCLUSIVE"
    assert gate["not_run"] == {"alpaca_eval": "licence"}
    assert "'final' was not measured on it: licence" in gate["pairs"][0]["reasons"]
    assert "not run: alpaca_eval (licence)" in render_table(gate)


# ── contamination ──────────────────────────────────────────────────────────────────────────────


def contaminated(task: str, *ids: str, **fields: Any) -> dict[str, Any]:
    return {"schema": "x", "sets": {task: {"all": list(ids), "golden": False, **fields}}}


RULES = {"n": 13, "min_overlap": 0.5, "max_rate": {"golden": 0.0, "default": 0.01}}


def judged(found: Mapping[str, Any] | None, **identity: Any) -> dict[str, Any]:
    ours = task_run("t", [0.0] * 4 + [1.0] * 396, **identity)
    theirs = task_run("t", [1.0] * 400, **identity)
    gate_settings = settings(margins={"t": 0.1}, contamination=RULES)
    sides = run("final", {"t": ours}), [run("base", {"t": theirs})]
    return decide(*sides, gate_settings, found)


def test_few_contaminated_items_are_left_out() -> None:
    gate = judged(contaminated("t", "00000", "00001", "00002", "00003"))
    (pair,) = gate["pairs"]
    assert (gate["verdict"], pair["n"], pair["b"]) == ("PASS", 396, 0)
    assert pair["notes"] == ["4 contaminated item(s) left out"]
    assert judged(contaminated("t"))["pairs"][0]["n"] == 400


def test_many_contaminated_items_leave_a_task_inconclusive() -> None:
    gate = judged(contaminated("t", *(f"{n:05}" for n in range(5))))
    assert gate["verdict"] == "INCONCLUSIVE"
    assert "contaminated: 5 of 400 items" in gate["pairs"][0]["reasons"][0]


def test_one_contaminated_golden_item_fails() -> None:
    gate = judged(contaminated("t", "00399"), source="golden/t.jsonl")
    assert gate["verdict"] == gate["pairs"][0]["verdict"] == "FAIL"
    assert "contaminated golden set: 1 of 400" in gate["pairs"][0]["reasons"][0]
    assert judged(contaminated("t", golden=True), source="golden/t.jsonl")["verdict"] == "PASS"


@pytest.mark.parametrize("found", [None, contaminated("other"), contaminated("t", checked=False)])
def test_what_was_not_searched_blocks(found: dict[str, Any] | None) -> None:
    gate = judged(found)
    assert gate["verdict"] == "INCONCLUSIVE"
    assert "not searched" in gate["pairs"][0]["reasons"][0]


# ── what is written ────────────────────────────────────────────────────────────────────────────


def test_the_verdict_is_the_same_bytes_each_time_and_holds_its_settings() -> None:
    sides = paired(mc4=(4, 6, 1000))
    gate_settings = settings(margins={"mc4": 0.02})
    first = decide(sides[0], [sides[1]], gate_settings)
    assert strictjson.dumps(first) == strictjson.dumps(decide(sides[0], [sides[1]], gate_settings))
    held = GateSettings.model_validate(json.loads(json.dumps(first["settings"])))
    assert held == gate_settings


def test_an_aggregate_that_is_no_number_is_refused_with_the_metric_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paired_module, "aggregate", lambda *_: float("nan"))
    candidate, base = paired(mc4=(0, 0, 100))
    with pytest.raises(FormatError, match="no finite number") as caught:
        decide(candidate, [base], settings(margins={"mc4": 0.1}))
    assert caught.value.where == "mc4.acc: base"


def test_a_figure_that_is_no_number_is_refused_at_the_writer_with_its_name() -> None:
    candidate, base = paired(mc4=(0, 0, 100))
    gate = decide(candidate, [base], settings(margins={"mc4": 0.1}))
    gate["pairs"][0]["delta"] = float("nan")
    with pytest.raises(FormatError, match=r"pairs\.0\.delta"):
        strictjson.dumps(gate)
