"""Each benchmark runs, in small; what it measures on a busy machine is not judged here."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import THEMES, main
from benchmarks.measuring import Turns, run, table, take_turns


@cache
def measured(theme: str) -> tuple[str, dict[str, Any]]:
    """What the command prints and writes for one theme, in small."""
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        file = Path(folder) / "figures.json"
        main([theme, "--quick", "--json", str(file)])
        return printed.getvalue(), json.loads(file.read_text())


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_measures_and_writes_what_it_prints(theme):
    shown, found = measured(theme)
    rows = found["themes"][theme]
    assert rows
    assert found["quick"] is True
    assert found["load"]
    for row in rows:
        assert all(str(value) in shown for value in row.values())


def test_our_verifier_and_the_stock_ones_stand_in_one_table():
    tools = {row["tool"] for row in measured("verifying")[1]["themes"]["verifying"]}
    assert {"forebear verify", "sha256sum -c", "in-toto-verify", "in memory"} <= tools


def test_an_unknown_theme_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["speed"])
    assert caught.value.code == 2
    assert "hashing" in capsys.readouterr().err


def test_ratios_are_medians_over_rounds():
    turns = Turns({"a": [2, 9, 4], "b": [1, 1, 1]}, {"a": [1, 1, 1], "b": [2, 2, 2]})
    assert turns.ratio("a", "b") == 4
    assert turns.ratio("a", "b", cpu=True) == 0.5
    assert turns.above("a", "b") == 3
    assert turns.seconds("a") == 4


def test_works_take_turns():
    order: list[str] = []
    take_turns(2, {"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert order == ["a", "b", "a", "b"]


def test_a_tool_that_fails_is_not_measured():
    run(["true"])
    with pytest.raises(RuntimeError, match="ended with 1"):
        run(["false"])


def test_a_table_has_a_column_for_each_key():
    assert table([{"a": 1, "bb": 2}, {"a": 30, "bb": 4}]) == "a   bb\n1   2\n30  4"
