"""What a plan of measurements can show: the items that its margins need.

Uses the share of items on which candidate and reference differed last time; says nothing where
nothing was measured yet.

Source: evaluation page, section 11, on power.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forebear.gate.statistics import items_needed


def add_power(
    rows: Sequence[Mapping[str, Any]],
    comparison: Mapping[str, Any] | None,
    margins: Mapping[str, float],
) -> list[dict[str, Any]]:
    """The rows with ``margin``, ``discordance``, ``needed`` and ``warning``.

    Args:
        rows: one per suite, with ``suite`` and ``items``.
        comparison: value of the last ``comparison.json``; None where there is none.
        margins: of the params, by task.
    """
    seen = _discordances(comparison)
    planned = []
    for row in rows:
        task = str(row["suite"])
        margin = margins.get(task)
        discordance = seen.get(task)
        needed = items_needed(discordance, margin) if margin and discordance else None
        warning = None
        if needed is not None and row["items"] < needed and not row.get("reason"):
            warning = (
                f"INCONCLUSIVE is likely if nothing changed: {row['items']} items, "
                f"about {needed} are needed"
            )
        planned.append(
            {
                **row,
                "margin": margin,
                "discordance": discordance,
                "needed": needed,
                "warning": warning,
            }
        )
    return planned


def _discordances(comparison: Mapping[str, Any] | None) -> dict[str, float]:
    """By task, the largest share of binary items that differed from a reference."""
    found: dict[str, float] = {}
    for row in (comparison or {}).get("tasks", ()):
        if row["b"] is not None and row["n"]:
            share = (row["b"] + row["c"]) / row["n"]
            found[row["task"]] = max(share, found.get(row["task"], 0.0))
    return found


def render_plan(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The plan in lines for people, totals last."""
    head = f"{'suite':<22} {'items':>6} {'requests':>9} {'judged':>7} {'tokens in':>10}"
    lines = [f"{head} {'out':>9} {'USD':>8} {'min':>7} {'needed':>7}"]
    for row in rows:
        needed = "-" if row["needed"] is None else str(row["needed"])
        lines.append(
            f"{row['shown_name']:<22} {row['items']:>6} {row['requests']:>9} "
            f"{row['judge_requests']:>7} {row['prompt_tokens']:>10} {row['completion_tokens']:>9} "
            f"{row['usd']:>8.2f} {row['minutes']:>7.1f} {needed:>7}"
        )
        lines += [f"    not run: {row['reason']}"] if row.get("reason") else []
        lines += [f"    {row['warning']}"] if row["warning"] else []
    totals = {
        name: sum(row[name] for row in rows)
        for name in ("items", "requests", "judge_requests", "usd", "minutes")
    }
    lines.append(
        f"in all: {totals['items']} items, {totals['requests']} requests, "
        f"{totals['judge_requests']} judged, {totals['usd']:.2f} USD, "
        f"{totals['minutes']:.1f} min for each checkpoint"
    )
    return lines
