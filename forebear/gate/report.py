"""The comparison behind a verdict: every task side by side, figures for DVC, a table to read.

Decides nothing; what gates and what passes stands in ``verdict``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forebear.gate.runs import Run, TaskRun
from forebear.gate.settings import GateSettings
from forebear.gate.statistics import tango_interval, wilson
from forebear.gate.verdict import make_pair

COMPARISON_SCHEMA = "forebear/comparison/v1"


def compare(candidate: Run, references: Sequence[Run], settings: GateSettings) -> dict[str, Any]:
    """Every task of the candidate beside every reference, gating or not: ``comparison.json``."""
    rows = [
        _comparison_row(candidate, run, task, settings)
        for run in references
        for task in sorted(candidate.tasks)
    ]
    return {"schema": COMPARISON_SCHEMA, "candidate": candidate.name, "tasks": rows}


def _comparison_row(
    candidate: Run, reference: Run, task: str, settings: GateSettings
) -> dict[str, Any]:
    # a comparison shows small sets too; only gating asks for a number of items
    shown = settings.model_copy(update={"min_items": 1})
    pair = make_pair(candidate, reference, reference.name, task, shown)
    scores = {
        "candidate": _score(candidate.tasks.get(task)),
        "reference": _score(reference.tasks.get(task)),
    }
    interval = None
    if pair.n:
        low, high = tango_interval(pair.losses, pair.gains, pair.n)
        interval = {"low": low, "high": high, "level": 0.95, "method": "tango"}
    return {
        "task": task,
        "reference": reference.name,
        "gates": task in settings.margins or task in settings.required,
        "scores": scores,
        "n": pair.n,
        "b": pair.losses,
        "c": pair.gains,
        "delta": pair.delta,
        "interval": interval,
        "lower": pair.lower,
        "p": pair.p,
        "lost": pair.lost,
        "gained": pair.gained,
        "reasons": pair.reasons,
    }


def _score(run: TaskRun | None) -> dict[str, Any] | None:
    values = [item.value for item in run.items.values() if item.value is not None] if run else []
    if not values or any(value not in (0.0, 1.0) for value in values):
        return None
    right = sum(value == 1.0 for value in values)
    low, high = wilson(right, len(values))
    return {
        "value": right / len(values),
        "n": len(values),
        "interval": {"low": low, "high": high, "level": 0.95, "method": "wilson"},
    }


def metrics(gate: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The few figures that ``dvc metrics diff`` should show, by reference and task."""
    shown: dict[str, Any] = {"verdict": gate["verdict"]}
    for row in comparison["tasks"]:
        scores = row["scores"]
        shown.setdefault(row["reference"], {})[row["task"]] = {
            "candidate": scores["candidate"]["value"] if scores["candidate"] else None,
            "reference": scores["reference"]["value"] if scores["reference"] else None,
            "delta": row["delta"],
            "lower": row["lower"],
        }
    return shown


def render_table(gate: Mapping[str, Any]) -> str:
    """The verdict and what decided it, for a person at a terminal."""
    lines = [f"gate {gate['verdict']} ({gate['label']})" if gate["label"] else gate["verdict"]]
    lines.append(f"{'task':<12} {'vs':<10} {'n':>5} {'loss':>5} {'gain':>5} {'Δ':>8} {'lower':>8}")
    for pair in gate["pairs"]:
        delta, lower = (
            "-" if pair[key] is None else f"{pair[key]:+.4f}" for key in ("delta", "lower")
        )
        lines.append(
            f"{pair['task']:<12} {pair['reference']:<10} {pair['n']:>5} {pair['b']:>5} "
            f"{pair['c']:>5} {delta:>8} {lower:>8}  {pair['verdict']}"
        )
        lines += [f"    {reason}" for reason in pair["reasons"]]
    return "\n".join(lines) + "\n"
