"""Figures: every number is drawn, told in words, and placed where it belongs."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from forebear.drawing import (
    Bar,
    Bin,
    Difference,
    Mark,
    Words,
    bars,
    forest,
    reliability,
    tracks,
)
from forebear.drawing.marks import at, ticks

ROWS = [
    Difference("mc4", "base", 16.5, 8.9, 24.2, 10.1, 10.0, 0.0, "PASS"),
    Difference("mmlu_pro", "base", -11.0, -20.0, -2.0, -18.0, 10.0, None, "FAIL"),
    Difference("ifeval", "base", -3.0, -15.0, 9.0, -13.0, 5.0, None, "INCONCLUSIVE"),
    Difference("crows_pairs", "base", 1.0, -4.0, 6.0, None, None, None, "REPORT"),
    Difference("gsm8k", "base"),
]


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  # what we have just drawn


def elements(svg: str, tag: str, kind: str) -> list[ET.Element]:
    return [
        one
        for one in parsed(svg).iter()
        if one.tag.rpartition("}")[2] == tag and kind in (one.get("class") or "").split()
    ]


@pytest.mark.parametrize("narrow", [False, True])
def test_a_forest_plot_tells_verdicts_by_shape_and_by_word(narrow: bool) -> None:
    svg = forest(ROWS, narrow=narrow)
    assert len(elements(svg, "circle", "PASS")) == 1
    assert len(elements(svg, "path", "FAIL")) == 1
    assert len(elements(svg, "path", "INCONCLUSIVE")) == 1
    assert len(elements(svg, "rect", "REPORT")) == 1
    said = "".join(parsed(svg).itertext())
    for words in ("pass", "fail", "inconclusive", "reported only", "not measured", "points"):
        assert words in said


@pytest.mark.parametrize("narrow", [False, True])
def test_marks_and_margins_stand_in_the_order_of_their_values(narrow: bool) -> None:
    svg = forest(ROWS, narrow=narrow)
    zero = float(elements(svg, "line", "zero")[0].get("x1", "nan"))
    passing = float(elements(svg, "circle", "PASS")[0].get("cx", "nan"))
    margins = [float(one.get("x1", "nan")) for one in elements(svg, "line", "margin")]
    assert len(margins) == 3
    assert all(margin < zero < passing for margin in margins)
    assert margins[0] == margins[1] < margins[2]
    ends = sorted(float(one.get("x1", "nan")) for one in elements(svg, "line", "FAIL"))
    assert ends[0] < margins[0] < ends[-1] < zero


def test_a_figure_has_a_name_and_says_its_numbers_in_words() -> None:
    figure = parsed(forest(ROWS, Words("here", "What changed", "points")))
    assert figure.get("role") == "img"
    named = (figure.get("aria-labelledby") or "").split()
    told = {one.get("id"): one.text or "" for one in figure if one.get("id")}
    assert told[named[0]] == "What changed"
    assert (
        "mmlu_pro base: \u221211.0 (\u221220.0 to \u22122.0) points, margin 10.0, fail"
        in told[named[1]]
    )


def test_a_figure_for_another_page_brings_its_style_and_one_for_the_report_does_not() -> None:
    assert "<style>" in forest(ROWS, alone=True)
    assert "prefers-color-scheme:dark" in forest(ROWS, alone=True)
    assert "style" not in forest(ROWS)
    assert "http" not in forest(ROWS)


def test_a_forest_of_nothing_says_so() -> None:
    assert "nothing was compared" in forest([])


def test_texts_are_escaped() -> None:
    hostile = '<script>alert("x")</script>&'
    for svg in (
        forest([Difference(hostile, hostile, 1.0)], Words(hostile, hostile, hostile)),
        bars([Bar(hostile, 1, (0.5, None, None))], name=hostile, title=hostile, sides=("a", "b")),
        reliability([Bin(1, 0.5, 0.5)], name=hostile, title=hostile),
        tracks([Mark(hostile, 0.5, None, "ours")], (0, 1)),
    ):
        assert not [one for one in parsed(svg).iter() if one.tag.endswith("script")]


def test_bars_are_as_long_as_their_shares() -> None:
    rows = [Bar("biology", 10, (0.5, 0.2, 0.8), (0.25, None, None)), Bar("law", 4, (1.0, 0.5, 1.0))]
    svg = bars(rows, name="b", title="t", sides=("final", "base"))
    ours = [float(one.get("width", "nan")) for one in elements(svg, "rect", "ours")]
    theirs = [float(one.get("width", "nan")) for one in elements(svg, "rect", "theirs")]
    assert ours[1] == pytest.approx(2 * ours[0])
    assert theirs == [pytest.approx(ours[0] / 2)]
    assert "biology, 10 items: final 50%, base 25%" in "".join(parsed(svg).itertext())


def test_values_stand_on_the_axis_in_their_order_and_off_it_at_its_ends() -> None:
    marks = [
        Mark("final", 0.25, (0.2, 0.3), "ours"),
        Mark("base", 0.75, None, "theirs"),
        Mark("previous", 3.0, None, "theirs"),
    ]
    svg = tracks(marks, (0.0, 1.0))
    (ours,) = elements(svg, "circle", "ours")
    base, previous = elements(svg, "circle", "theirs")
    places = [float(one.get("cx", "nan")) for one in (ours, base, previous)]
    low, high = (float(one.get("x1", "nan")) for one in elements(svg, "line", "rule")[:2])
    assert places[0] == pytest.approx(low + (high - low) * 0.25)
    assert places[1] == pytest.approx(low + (high - low) * 0.75)
    assert places[2] == high
    assert parsed(svg).get("aria-label") == "final 0.25 (0.2 to 0.3); base 0.75; previous 3"


def test_a_judge_that_means_what_it_says_lies_on_the_diagonal() -> None:
    svg = reliability(
        [Bin(5, 0.25, 0.25), Bin(9, 0.75, 0.75), Bin(0, 0.9, 0.0)], name="j", title="t"
    )
    points = [
        tuple(map(float, re.findall(r"[\d.]+", point)))
        for point in (elements(svg, "polyline", "ours")[0].get("points") or "").split()
    ]
    assert len(points) == 2
    (diagonal,) = elements(svg, "line", "margin")
    x1, y1, x2, y2 = (float(diagonal.get(key, "nan")) for key in ("x1", "y1", "x2", "y2"))
    for x, y in points:
        assert y == pytest.approx(y1 + (x - x1) / (x2 - x1) * (y2 - y1))


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-21, 26, [-20, -10, 0, 10, 20]),
        (-0.7, 0.3, [-0.6, -0.4, -0.2, 0.0, 0.2]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_hold_zero(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high) == found


def test_coordinates_are_short_and_never_minus_zero() -> None:
    assert [at(1.0), at(-0.001), at(2.345), at(10)] == ["1", "0", "2.35", "10"]


def test_equal_rows_give_equal_bytes() -> None:
    assert forest(ROWS) == forest(list(ROWS))
