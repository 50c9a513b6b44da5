"""``forebear eval``: plan, compare, recompute and explain; measure one suite, calibrate a judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA = "forebear.eval/v1"
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_MODES = ("plan", "compare", "recompute", "explain", "suite", "calibrate")
_BLOCKED, _NOT_RUN = 1, 3


@click.command(
    name="eval",
    epilog="Example: forebear eval --compare data/measure/final data/measure/base",
)
@click.option("--plan", is_flag=True, help="Requests, tokens, money and items that margins need.")
@click.option(
    "--compare", nargs=2, type=_FOLDER, metavar="RUN_A RUN_B",
    help="Two run folders side by side, A as the candidate.",
)  # fmt: skip
@click.option(
    "--recompute", type=_FOLDER, metavar="DIR",
    help="Decide again from the results and compare bytes.",
)  # fmt: skip
@click.option("--explain", metavar="TASK", help="What decided about a task.")
@click.option("--suite", metavar="S", help="Measure one suite alone; needs the extra 'train'.")
@click.option("--calibrate", metavar="JUDGE", help="Hold a judge against people's labels.")
@click.option(
    "--verdict", type=_FOLDER, default=Path("data/eval/verdict"), show_default=True,
    help="Folder of the verdict, for --explain and --plan.",
)  # fmt: skip
@click.option("--runs", type=_FOLDER, help="Folder of the runs, for --recompute.")
@click.option(
    "--checkpoint", type=_FOLDER, help="What --suite measures; the candidate's when left out."
)
@click.option(
    "--params", type=_FILE, default=Path("params.yaml"), show_default=True,
    help="Settings for --plan, --suite and --calibrate.",
)  # fmt: skip
@click.option("--out", type=_FOLDER, help="Folder that --suite and --calibrate write to.")
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
def command(  # one argument per option
    *,
    plan: bool,
    compare: tuple[Path, Path] | None,
    recompute: Path | None,
    explain: str | None,
    suite: str | None,
    calibrate: str | None,
    verdict: Path,
    runs: Path | None,
    checkpoint: Path | None,
    params: Path,
    out: Path | None,
    as_json: bool,
) -> int:
    """Look at what was measured and decided; give one of the first six options.

    Exit codes: 0 passed; 1 FAIL, INCONCLUSIVE or not what the results give; 2 wrong settings or
    runs that cannot be compared; 3 nothing failed, but a suite was not run; 4 environment, budget
    or network.
    """
    asked = [plan, compare, recompute, explain, suite, calibrate]
    _require_one([name for name, value in zip(_MODES, asked, strict=True) if value])
    if compare:
        return _compare(*compare, as_json=as_json)
    if recompute:
        return _recompute(recompute, runs, as_json=as_json)
    if explain:
        return _explain(explain, verdict, as_json=as_json)
    if plan:
        return _plan(params, verdict, as_json=as_json)
    return _measure(suite, calibrate, checkpoint=checkpoint, params=params, out=out)


def _require_one(named: Sequence[str]) -> None:
    from forebear.errors import UsageError

    if len(named) != 1:
        raise UsageError(
            "give exactly one of: " + ", ".join(f"--{one}" for one in _MODES),
            "forebear eval",
            "see `forebear eval --help`",
        )


def _show(body: Mapping[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        text = json.dumps({"schema": SCHEMA, **body}, ensure_ascii=False, sort_keys=True)
        click.echo(text)
    else:
        click.echo("\n".join(lines))


# ── without the training library ───────────────────────────────────────────────────────────────


def _compare(ours: Path, theirs: Path, *, as_json: bool) -> int:
    from forebear.gate.again import compare_runs
    from forebear.gate.report import render_comparison
    from forebear.gate.runs import load_run

    comparison = compare_runs(load_run(ours), load_run(theirs))
    _show({"comparison": comparison}, render_comparison(comparison), as_json=as_json)
    return 0


def _recompute(folder: Path, runs: Path | None, *, as_json: bool) -> int:
    from forebear.gate.again import recompute
    from forebear.gate.verdict import PASS, SMOKE
    from forebear.gate.waiver import PASS_WITH_WAIVERS

    again = recompute(folder, runs)
    verdict, fault = str(again.value["verdict"]), again.first_difference()
    said = f"does not follow from the results: {fault}" if fault else "as the results give it"
    body = {"file": str(again.file), "verdict": verdict, "same": again.same, "fault": fault}
    lines = [f"{again.file}: {verdict}, {said} ({again.n_items} results)"]
    _show(body, lines, as_json=as_json)
    if not again.same or verdict not in {PASS, PASS_WITH_WAIVERS, SMOKE}:
        return _BLOCKED
    return _NOT_RUN if again.value["not_run"] else 0


def _explain(task: str, folder: Path, *, as_json: bool) -> int:
    from forebear.gate.again import COMPARISON_FILE, GATE_FILE, explain, find_verdict, read_value

    place = find_verdict(folder)
    _, gate = read_value(place / GATE_FILE)
    _, comparison = read_value(place / COMPARISON_FILE)
    lines = explain(gate, comparison, task)
    judged = {
        part: [one for one in gate[part] if one["task"] == task] for part in ("pairs", "limits")
    }
    body = {
        "task": task,
        **judged,
        "comparison": [one for one in comparison["tasks"] if one["task"] == task],
    }
    _show(body, lines, as_json=as_json)
    verdicts = {one["verdict"] for part in judged.values() for one in part}
    return 0 if verdicts <= {"PASS"} else _BLOCKED


# ── in a process of its own ────────────────────────────────────────────────────────────────────


def _plan(params: Path, verdict: Path, *, as_json: bool) -> int:
    from forebear.cli.evalchild import ask_json
    from forebear.gate.again import COMPARISON_FILE, read_value
    from forebear.gate.plan import add_power, render_plan

    rows = ask_json("plan", ["--params", str(params), "--json"], needed_for="eval --plan")
    comparison = None
    if (verdict / COMPARISON_FILE).is_file():
        comparison = read_value(verdict / COMPARISON_FILE)[1]
    planned = add_power(rows, comparison, _margins(params))
    _show({"plan": planned}, render_plan(planned), as_json=as_json)
    return _NOT_RUN if any(row.get("reason") for row in planned) else 0


def _margins(params: Path) -> Mapping[str, float]:
    """Margins of the params; nothing where they cannot be read as such."""
    import yaml

    try:
        held = yaml.safe_load(params.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    section = held.get("eval") if isinstance(held, dict) else None
    margins = section.get("margins") if isinstance(section, dict) else None
    return margins if isinstance(margins, dict) else {}


def _measure(
    suite: str | None,
    judge: str | None,
    *,
    checkpoint: Path | None,
    params: Path,
    out: Path | None,
) -> int:
    from forebear.cli.evalchild import run_measure
    from forebear.errors import UsageError

    if out is None:
        raise UsageError("says not where to write", "forebear eval", "give --out DIR")
    return run_measure(suite=suite, judge=judge, checkpoint=checkpoint, params=params, out=out)
