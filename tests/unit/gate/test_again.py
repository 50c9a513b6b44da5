"""Decided again from the results; any two runs side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.gate.again import compare_runs, explain, read_value, recompute
from forebear.gate.runs import load_run
from tests.unit.gate.folders import write_run, write_verdict
from tests.unit.gate.runs import settings

MARGIN = {"mc4": 0.1}


def repository(root: Path, n: int = 200, lost: int = 2, **fields: Any) -> Path:
    """A repository whose candidate lost so many of n items."""
    write_run(root / "data/measure/final", {"mc4": [0.0] * lost + [1.0] * (n - lost)}, **fields)
    write_run(root / "data/measure/base", {"mc4": [1.0] * n}, **fields)
    write_verdict(root, settings(margins=MARGIN), "final", "base")
    return root


@pytest.mark.parametrize("where", ["", "data/eval/verdict"])
def test_an_honest_verdict_is_the_same_bytes(tmp_path: Path, where: str) -> None:
    again = recompute(repository(tmp_path) / where)
    assert again.same
    assert again.first_difference() == ""
    assert (again.value["verdict"], again.n_items) == ("PASS", 400)


def test_a_run_of_the_first_schema_is_still_read(tmp_path: Path) -> None:
    assert recompute(repository(tmp_path, schema="forebear/run/v1")).same


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(file.read_bytes())
    change(value)
    file.write_bytes(strictjson.dumps(value))


def test_an_edited_verdict_is_found(tmp_path: Path) -> None:
    repository(tmp_path, lost=60)
    edit(tmp_path / "data/eval/verdict/gate.json", lambda gate: gate.update(verdict="PASS"))
    again = recompute(tmp_path)
    assert not again.same
    assert again.first_difference() == "verdict is 'PASS', the results give 'FAIL'"


def test_edited_margins_are_found(tmp_path: Path) -> None:
    repository(tmp_path, lost=60)
    file = tmp_path / "data/eval/verdict/gate.json"
    edit(file, lambda gate: gate["settings"]["margins"].update(mc4=0.9))
    assert not recompute(tmp_path).same


def test_an_edited_item_is_refused(tmp_path: Path) -> None:
    repository(tmp_path)
    write_run(tmp_path / "other", {"mc4": [1.0] * 200})
    items = "items/mc4.jsonl.gz"
    (tmp_path / "data/measure/final" / items).write_bytes((tmp_path / "other" / items).read_bytes())
    with pytest.raises(FormatError, match="does not hold the items"):
        recompute(tmp_path)


def test_a_run_that_is_not_here_is_named(tmp_path: Path) -> None:
    repository(tmp_path)
    (tmp_path / "data/measure/base").rename(tmp_path / "base")
    with pytest.raises(EnvironmentFailure, match="the run 'base'"):
        recompute(tmp_path)
    (tmp_path / "data/measure/final").rename(tmp_path / "final")
    assert recompute(tmp_path, tmp_path).same


@pytest.mark.parametrize(
    "change",
    [
        lambda gate: gate.pop("settings"),
        lambda gate: gate.update(settings={"alpha": "high"}),
        lambda gate: gate.update(references=1),
        lambda gate: gate.update(inputs=[{}]),
        lambda gate: gate.update(schema="forebear/gate/v1"),
    ],
)
def test_what_is_no_verdict_is_a_format_error(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    repository(tmp_path)
    edit(tmp_path / "data/eval/verdict/gate.json", change)
    with pytest.raises(FormatError):
        recompute(tmp_path)


def test_twenty_thousand_items_take_less_than_five_seconds(tmp_path: Path) -> None:
    repository(tmp_path, n=10_000, lost=40)
    started = time.process_time()
    assert recompute(tmp_path).n_items == 20_000
    assert time.process_time() - started < 5


def test_deciding_again_needs_no_training_library(tmp_path: Path) -> None:
    """The core's own packages are enough: everything heavy is hidden from the interpreter."""
    repository(tmp_path)
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'numpy', 'scipy', 'dvc', 'lm_eval'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from forebear.gate.again import recompute\n"
        f"sys.exit(0 if recompute(Path({str(tmp_path)!r})).same else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


# ── two runs ───────────────────────────────────────────────────────────────────────────────────


def test_runs_with_other_templates_are_not_compared_and_the_field_is_named(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "a", {"mc4": [1.0] * 10})
    theirs = write_run(tmp_path / "b", {"mc4": [1.0] * 10}, identity={"chat_template_sha256": "u"})
    with pytest.raises(ConfigError, match="chat_template_sha256"):
        compare_runs(load_run(ours), load_run(theirs))


def test_any_two_runs_are_compared_on_what_they_share(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "a", {"mc4": [1.0] * 8 + [0.0] * 2, "extra": [1.0]})
    theirs = write_run(tmp_path / "b", {"mc4": [1.0] * 10})
    (row,) = compare_runs(load_run(ours), load_run(theirs))["tasks"]
    assert (row["task"], row["delta"], row["lost"]) == ("mc4", -0.2, ["mc400008", "mc400009"])


def test_runs_without_a_common_task_are_refused(tmp_path: Path) -> None:
    ours, theirs = (write_run(tmp_path / one, {one: [1.0]}) for one in "ab")
    with pytest.raises(ConfigError, match="no task in common"):
        compare_runs(load_run(ours), load_run(theirs))


# ── explained ──────────────────────────────────────────────────────────────────────────────────


def test_a_loss_is_explained_with_interval_p_and_ids(tmp_path: Path) -> None:
    folder = repository(tmp_path, lost=40) / "data/eval/verdict"
    _, gate = read_value(folder / "gate.json")
    _, comparison = read_value(folder / "comparison.json")
    said = "\n".join(explain(gate, comparison, "mc4"))
    assert "mc4.acc against base: FAIL" in said
    assert "difference -0.2000 (-0.2" in said
    assert "Tango), 200 items, 40 lost, 0 gained" in said
    assert "p of worse 0.0000" in said
    assert "lost: mc400000, mc400001" in said
    assert "and 30 more" in said
    with pytest.raises(ConfigError, match="not measured"):
        explain(gate, comparison, "other")
