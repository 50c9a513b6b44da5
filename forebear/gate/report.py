"""The comparison behind a verdict: every task side by side, figures for DVC, a table to read.

Decides nothing; what gates and what passes stands in ``verdict``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from forebear.gate.fitness import is_error
from forebear.gate.gating import is_report_only, wanted_pairs
from forebear.gate.pairs import figures, make_pair
from forebear.gate.runs import Metric, Run, TaskRun
from forebear.gate.scores import score, weighted_mean
from forebear.gate.settings import GateSettings
from forebear.gate.verdict import rounded

COMPARISON_SCHEMA = "forebear/comparison/v2"


def compare(
    candidate: Run,
    references: Sequence[Run],
    settings: GateSettings,
    contamination: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Every metric of the candidate beside every reference, gating or not: ``comparison.json``."""
    margins = {
        (one.task, one.metric, one.reference): one.margin
        for one in wanted_pairs(candidate, references, settings)
    }
    # a comparison shows small sets too; only gating asks for a number of items
    shown = settings.model_copy(update={"min_items": 1})
    rows = [
        _comparison_row(candidate, run, task, metric, shown, contamination, margins)
        for run in references
        for task in sorted(candidate.tasks)
        for metric in candidate.tasks[task].figures()
    ]
    value: dict[str, Any] = rounded(
        {
            "schema": COMPARISON_SCHEMA,
            "candidate": candidate.name,
            "references": [run.name for run in references],
            "tasks": rows,
            "not_run": {run.name: dict(run.not_run) for run in (candidate, *references)},
        }
    )
    return value


def _comparison_row(  # noqa: PLR0913, PLR0917  # all that a pair rests on
    candidate: Run,
    reference: Run,
    task: str,
    metric: Metric,
    settings: GateSettings,
    contamination: Mapping[str, Any] | None,
    margins: Mapping[tuple[str, str, str], float | None],
) -> dict[str, Any]:
    name = reference.name
    pair = make_pair(candidate, reference, name, task, metric.name, settings, contamination)
    found = pair.found
    ours = candidate.tasks[task]
    key = (task, metric.name, name)
    return {
        "task": task,
        "metric": metric.name,
        "reference": name,
        "direction": metric.direction,
        "range": [metric.low, metric.high],
        "shown_name": ours.shown_name or task,
        "gates": key in margins,
        "report_only": is_report_only(task, metric.name, settings),
        "margin": margins.get(key),
        "scores": {
            "candidate": _score(ours, metric, settings),
            "reference": _score(reference.tasks.get(task), metric, settings),
        },
        **{name: one for name, one in figures(found).items() if "value" not in name},
        "interval": asdict(found.interval) if found else None,
        "lost": list(found.lost) if found else [],
        "gained": list(found.gained) if found else [],
        "reasons": pair.reasons,
        "notes": pair.notes,
    }


def _score(run: TaskRun | None, metric: Metric, settings: GateSettings) -> dict[str, Any] | None:
    """The figure of one run over all its items; None where it was not measured."""
    if run is None or run.metric(metric.name) is None:
        return None
    rows = [item for item in run.items.values() if not is_error(item)]
    found = score(rows, metric, task=run.task, seed=settings.resampling_seed, draws=settings.draws)
    if found["value"] is None:
        return None
    return {**found, "weighted": weighted_mean(rows, metric, run.strata)}


def metrics(gate: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The few figures that ``dvc metrics diff`` should show, by reference, task and metric.

    The main metric of a task stands under the task's name, any other under ``task.metric``.
    """
    shown: dict[str, Any] = {"verdict": gate["verdict"]}
    for row in comparison["tasks"]:
        scores, of = row["scores"], shown.setdefault(row["reference"], {})
        name = row["task"] if row["task"] not in of else f"{row['task']}.{row['metric']}"
        of[name] = {
            "candidate": scores["candidate"]["value"] if scores["candidate"] else None,
            "reference": scores["reference"]["value"] if scores["reference"] else None,
            "delta": row["delta"],
            "lower": row["lower"],
        }
    return shown


def render_table(gate: Mapping[str, Any]) -> str:
    """The verdict and what decided it, for a person at a terminal."""
    lines = [f"gate {gate['verdict']} ({gate['label']})" if gate["label"] else gate["verdict"]]
    lines.append(
        f"{'task':<16} {'metric':<14} {'vs':<10} {'n':>5} {'loss':>5} {'gain':>5} "
        f"{'Δ':>8} {'lower':>8} {'p':>7}"
    )
    for pair in gate["pairs"]:
        lines.append(
            f"{pair['task']:<16} {pair['metric']:<14} {pair['reference']:<10} {pair['n']:>5} "
            f"{_or_dash(pair['b']):>5} {_or_dash(pair['c']):>5} {_signed(pair['delta']):>8} "
            f"{_signed(pair['lower']):>8} {_p(pair['p_holm']):>7}  {pair['verdict']}"
        )
        lines += [f"    {reason}" for reason in (*pair["reasons"], *pair["notes"])]
    for limit in gate["limits"]:
        upper = "-" if limit["upper"] is None else f"{limit['upper']:.4f}"
        lines.append(
            f"{limit['task']:<16} {limit['metric']:<14} limit {limit['limit']:g}, up to {upper} "
            f"of {limit['n']} items  {limit['verdict']}"
        )
        lines += [f"    {reason}" for reason in limit["reasons"]]
    lines += [f"not run: {task} ({why})" for task, why in sorted(gate["not_run"].items())]
    return "\n".join(lines) + "\n"


def render_comparison(comparison: Mapping[str, Any]) -> list[str]:
    """Two runs side by side, in lines for people."""
    head = f"{'task':<16} {'metric':<18} {'vs':<10} {'n':>5} {'ours':>8} {'theirs':>8} {'Δ':>8}"
    lines = [f"{head}  95 % interval, p of worse"]
    for row in comparison["tasks"]:
        ours, theirs = (
            f"{score['value']:.4f}" if score else "-" for score in row["scores"].values()
        )
        bounds = row["interval"]
        shown = f"{bounds['low']:+.4f} to {bounds['high']:+.4f}, {row['p']:.4f}" if bounds else "-"
        lines.append(
            f"{row['task']:<16} {row['metric']:<18} {row['reference']:<10} {row['n']:>5} "
            f"{ours:>8} {theirs:>8} {_signed(row['delta']):>8}  {shown}"
        )
        lines += [f"    {reason}" for reason in (*row["reasons"], *row["notes"])]
    return lines


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
