"""Graded, clustered, weighted and fitted metrics of two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from forebear.gate.paired import Paired, pair_items
from forebear.gate.report import compare
from forebear.gate.resample import Pcg64
from forebear.gate.runs import Item, Metric, TaskRun
from forebear.gate.verdict import decide
from tests.unit.gate.runs import graded_run, run, settings

Rows = Sequence[Mapping[str, Any]]
SCORE = Metric("score", low=1.0, high=10.0)
ASR = Metric("asr", direction="down")
HALF = Metric("share", "distance_from_half", direction="down", high=0.5)


def random_bits(key: str, n: int) -> list[int]:
    return Pcg64(key).indices(2, n)


def rows(values: Sequence[float], **columns: Sequence[Any]) -> list[dict[str, Any]]:
    names = list(columns)
    return [
        {"value": value, **dict(zip(names, more, strict=True))}
        for value, *more in zip(values, *columns.values(), strict=True)
    ]


def found(ours: Rows, theirs: Rows, metric: Metric, **fields: Any) -> Paired:
    sides = (list(graded_run("t", side, metric).items.values()) for side in (ours, theirs))
    result = pair_items(*sides, metric, key="20260101|t|m", draws=200, **fields)
    assert isinstance(result, Paired), result
    return result


def verdict(ours: Rows, theirs: Rows, metric: Metric, margin: float) -> dict[str, Any]:
    sides = [run(name, {"t": graded_run("t", side, metric)})
             for name, side in (("final", ours), ("base", theirs))]  # fmt: skip
    gate = decide(sides[0], [sides[1]], settings(margins={"t": margin}, draws=300))
    pair: dict[str, Any] = gate["pairs"][0]
    return pair


# ── graded ─────────────────────────────────────────────────────────────────────────────────────


def test_graded_items_are_tested_by_sign_flips() -> None:
    worse = [5.0 + bit for bit in random_bits("a", 80)]
    pair = found(rows([one - 1.5 for one in worse]), rows(worse), SCORE)
    assert (pair.delta, pair.losses, pair.gains) == (-1.5, None, None)
    assert pair.p < 0.001
    assert pair.lower == pytest.approx(-1.5)
    assert len(pair.lost) == 80


@pytest.mark.parametrize(("drop", "expected"), [(0.0, "PASS"), (0.9, "FAIL")])
def test_a_graded_metric_can_pass_and_fail(drop: float, expected: str) -> None:
    base = [4.0 + bit for bit in random_bits("a", 80)]
    noise = [bit - other for bit, other in
             zip(random_bits("b", 80), random_bits("c", 80), strict=True)]  # fmt: skip
    ours = [one + move - drop for one, move in zip(base, noise, strict=True)]
    pair = verdict(rows(ours), rows(base), SCORE, 0.3)
    assert pair["verdict"] == expected
    assert (pair["b"], pair["n"]) == (None, 80)


def test_equal_graded_answers_of_too_few_items_show_nothing() -> None:
    few, many = ([7.0] * n for n in (60, 900))
    assert verdict(rows(few), rows(few), SCORE, 0.3)["verdict"] == "INCONCLUSIVE"
    assert verdict(rows(many), rows(many), SCORE, 0.3)["verdict"] == "PASS"


def test_where_smaller_is_better_a_rise_is_a_loss() -> None:
    theirs, ours = [0.0] * 200, [1.0] * 20 + [0.0] * 180
    pair = found(rows(ours), rows(theirs), ASR)
    assert (pair.delta, pair.losses, pair.gains) == (-0.1, 20, 0)
    assert verdict(rows(ours), rows(theirs), ASR, 0.02)["verdict"] == "FAIL"
    assert verdict(rows(theirs), rows(ours), ASR, 0.02)["verdict"] == "PASS"


# ── clusters ───────────────────────────────────────────────────────────────────────────────────


def test_items_of_one_cluster_are_not_independent() -> None:
    values = [1.0] * 400
    ours = [0.0] * 12 + [1.0] * 388  # three questions lost, each asked four times
    names = [str(n // 4) for n in range(400)]
    single = found(rows(ours), rows(values), Metric("acc"))
    clustered = found(rows(ours, cluster=names), rows(values, cluster=names), Metric("acc"))
    assert (single.clusters, clustered.clusters, clustered.n) == (400, 100, 400)
    assert clustered.losses is None
    assert single.p < 0.001 < clustered.p == 0.125
    assert clustered.lower < single.lower


def test_a_component_that_stands_in_one_run_alone_is_no_comparison() -> None:
    both = [rows([1.0, 1.0], components=[{"f": f}, {"f": 1.0}]) for f in (None, 1.0)]
    metric = Metric("f", of="f")
    sides = (list(graded_run("t", side, metric).items.values()) for side in both)
    assert (
        pair_items(*sides, metric, key="k", draws=200) == "f applies to some items in one run alone"
    )


def test_a_distance_is_tested_by_swapping() -> None:
    fair = [float(n % 2) for n in range(200)]
    unfair = [float(n % 4 > 0) for n in range(200)]
    pair = found(rows(unfair), rows(fair), HALF)
    assert pair.delta == -0.25
    assert pair.p < 0.001
    assert pair.lost == ()
    assert verdict(rows(unfair), rows(fair), HALF, 0.1)["verdict"] == "FAIL"
    assert found(rows(fair), rows(unfair), HALF).p > 0.99


# ── weights ────────────────────────────────────────────────────────────────────────────────────


def strata(shares: Mapping[str, int]) -> tuple[TaskRun, TaskRun]:
    """100 items of each stratum; the candidate loses 12 in `rare` and none in `common`."""
    names = ["common"] * 100 + ["rare"] * 100
    ours = rows([1.0] * 100 + [0.0] * 12 + [1.0] * 88, stratum=names)
    theirs = rows([1.0] * 200, stratum=names)
    return (
        graded_run("t", ours, Metric("acc"), strata=shares),
        graded_run("t", theirs, Metric("acc"), strata=shares),
    )


def weighted(shares: Mapping[str, int], margin: float) -> dict[str, Any]:
    ours, theirs = strata(shares)
    gate = decide(
        run("final", {"t": ours}), [run("base", {"t": theirs})],
        settings(margins={"t": margin}, alpha=1e-6),
    )  # fmt: skip
    pair: dict[str, Any] = gate["pairs"][0]
    return pair


def test_strata_out_of_proportion_are_weighted_back_and_both_values_decide() -> None:
    rare = weighted({"common": 9000, "rare": 1000}, 0.1)
    assert rare["delta"] == -0.06
    assert rare["weighted"]["delta"] == pytest.approx(-0.012)
    assert rare["verdict"] == "PASS"
    common = weighted({"common": 1000, "rare": 9000}, 0.1)
    assert common["weighted"]["delta"] == pytest.approx(-0.108)
    assert common["verdict"] == "FAIL"
    assert "drops by 0.1080" in common["reasons"][0]


def test_a_runs_own_figure_is_weighted_back_too() -> None:
    ours, theirs = strata({"common": 1000, "rare": 9000})
    sides = run("final", {"t": ours}), run("base", {"t": theirs})
    (row,) = compare(sides[0], [sides[1]], settings(margins={"t": 0.1}))["tasks"]
    score = row["scores"]["candidate"]
    assert (score["value"], score["weighted"]) == (0.94, pytest.approx(0.892))


def test_strata_in_proportion_need_no_weights() -> None:
    assert weighted({"common": 500, "rare": 500}, 0.1)["weighted"] is None
    assert weighted({"common": 500}, 0.1)["weighted"] is None  # an unknown stratum: no weights


# ── fits ───────────────────────────────────────────────────────────────────────────────────────

LC = Metric("lc_win_rate", "lc_native", high=100.0)
STYLE = Metric("style", "style_controlled")


def judged_rows(key: str, better: int, n: int = 60) -> list[dict[str, Any]]:
    """Preferences of about ``better`` in ten, with lengths."""
    draws, lengths = Pcg64(key).indices(10, n), Pcg64(f"{key} length").indices(100, n)
    return [
        {
            "value": float(draw < better),
            "components": {
                "length": 200 + length, "baseline_length": 250.0, "x_length": (length - 50) / 100,
            },
        }
        for draw, length in zip(draws, lengths, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("metric", [LC, STYLE])
def test_fitted_metrics_are_fitted_anew_on_each_draw(metric: Metric) -> None:
    weak, strong = judged_rows("a", 3), judged_rows("b", 8)
    pair = found(weak, strong, metric)
    assert pair.method == "bootstrap, both fitted anew"
    assert pair.lower < pair.delta < 0
    assert pair.p < 0.01
    assert pair.interval.low < pair.delta < pair.interval.high
    assert found(strong, weak, metric).p > 0.9
    assert found(weak, weak, metric).p == 1.0


def test_a_fit_that_does_not_exist_leaves_the_pair_inconclusive() -> None:
    won = judged_rows("a", 10)
    pair = verdict(won, judged_rows("b", 5), LC, 3.0)
    assert pair["verdict"] == "INCONCLUSIVE"
    assert "one-sided outcomes" in pair["reasons"][0]


# ── the comparison ─────────────────────────────────────────────────────────────────────────────


def test_every_metric_of_a_task_stands_in_the_comparison() -> None:
    items = [
        {"value": float(n % 4 > 0), "components": {"asr": float(n % 2) if n < 60 else None}}
        for n in range(100)
    ]
    measured = graded_run("t", items, Metric("acc"), Metric("asr", of="asr", direction="down"))
    sides = run("final", {"t": measured}), run("base", {"t": measured})
    chosen = settings(margins={"t": 0.1}, report_only=["t.asr"], min_items=10)
    comparison = compare(sides[0], [sides[1]], chosen)
    assert [
        (row["metric"], row["n"], row["gates"], row["report_only"], row["direction"])
        for row in comparison["tasks"]
    ] == [("acc", 100, True, False, "up"), ("asr", 60, False, True, "down")]
    assert comparison["tasks"][1]["scores"]["candidate"]["value"] == 0.5


def test_an_item_is_its_own_cluster_unless_it_says_otherwise() -> None:
    assert Item("a", "", 1.0, ()).cluster == ""
