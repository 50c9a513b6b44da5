"""The comparison of preference methods: its table and its plot, from what the stages measured."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.preference import figures, markdown, plot, write
from benchmarks.preference_plot import Panel, bars

_SVG = "{http://www.w3.org/2000/svg}"


def _parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  # our own text


def _metrics(method: str, margin: float) -> dict[str, Any]:
    return {
        "method": method,
        "before": {"reward_margin": 0, "preference_accuracy": 0.25},
        "after": {
            "reward_margin": margin,
            "reward_accuracy": 1,
            "preference_accuracy": 0.75,
            "kl": 0.5,
        },
        "length": {
            "answer_tokens_before": 5,
            "answer_tokens_after": 7,
            "answer_tokens_change": 2,
        },
        "verified": {"before": 0, "after": 0.5},
        "pairs_held_out": 12,
        "steps": 5,
        "flop": 1e12,
    }


def _curve(*losses: float) -> list[dict[str, str]]:
    return [{"step": str(step), "loss": str(loss)} for step, loss in enumerate(losses, start=1)]


def test_table_and_csv_hold_one_line_for_each_method(tmp_path: Path) -> None:
    rows = [figures(_metrics("dpo", 0.25)), figures(_metrics("kto", 0.5))]
    write(tmp_path, rows, {"dpo": _curve(0.7, 0.5), "kto": _curve(0.5, 0.4)})
    table = (tmp_path / "comparison.md").read_text().splitlines()
    assert table == markdown(rows).splitlines()
    assert len(table) == 4
    assert table[2].startswith("| dpo | 0.25 |")
    with (tmp_path / "comparison.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [(row["method"], row["margin"], row["length change"]) for row in read] == [
        ("dpo", "0.25", "2"),
        ("kto", "0.5", "2"),
    ]


def test_plot_shows_every_method_in_every_panel() -> None:
    rows = [figures(_metrics("dpo", 0.25)), figures(_metrics("simpo", -0.5))]
    root = _parse(plot(rows, {"dpo": _curve(0.7, 0.5), "simpo": _curve(2.0, 1.0)}))
    words = [text.text for text in root.iter(f"{_SVG}text")]
    assert words.count("dpo") == words.count("simpo") == 6  # five panels of bars, one of lines
    assert {"0.25", "-0.5"} <= set(words)
    assert len(list(root.iter(f"{_SVG}polyline"))) == 2


@pytest.mark.parametrize("values", [(0.0, 0.0), (-1.0, 2.0), (3.0, 1.0)])
def test_bars_stay_inside_the_picture_and_grow_with_their_value(
    values: tuple[float, float],
) -> None:
    root = _parse(bars("h", [Panel("t", "u", ["a", "b"], values, [0.5, 0.5])]))
    height = float(root.attrib["height"])
    drawn = [rect for rect in root.iter(f"{_SVG}rect") if "x" in rect.attrib]
    sizes = [float(rect.attrib["height"]) for rect in drawn]
    assert all(0 <= size < height for size in sizes)
    assert (sizes[0] < sizes[1]) == (abs(values[0]) < abs(values[1]))


def test_figures_of_thumbs_stand_in_the_same_table() -> None:
    metrics = _metrics("kto", 0.5)
    del metrics["pairs_held_out"], metrics["verified"]
    row = figures({**metrics, "thumbs_held_out": 6})
    assert row["held out"] == 6
    assert "verified after" not in row
