"""Hard limits: what the candidate alone must not exceed, whatever the reference does.

A limit is held against the upper end of the two-sided 90 % interval, Clopper–Pearson's for shares
of items, so that few items cannot hide a rate: none of 100 still allows 2.95 %.

Source: evaluation page, section 11.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forebear.errors import ConfigError
from forebear.gate.aggregate import aggregate, number
from forebear.gate.fitness import is_error, unfit
from forebear.gate.gating import wanted_limits
from forebear.gate.pairs import INCONCLUSIVE
from forebear.gate.runs import Metric, Run
from forebear.gate.scores import (
    bootstrap_bounds,
    is_binary,
    resampling_key,
    units,
    why_undefined,
)
from forebear.gate.settings import GateSettings
from forebear.gate.statistics import clopper_pearson

LEVEL = 0.90
_PASS, _FAIL = "PASS", "FAIL"


@dataclass(slots=True)
class Limit:
    """One figure of the candidate held against its limit.

    Attributes:
        hits: items that count; None where they are graded.
        upper: upper end of the interval.
    """

    task: str
    metric: str
    limit: float
    n: int = 0
    hits: int | None = None
    value: float | None = None
    upper: float | None = None
    verdict: str = INCONCLUSIVE
    reasons: list[str] = field(default_factory=list)

    def entry(self) -> dict[str, Any]:
        """How it stands in ``gate.json``."""
        return {
            name: getattr(self, name)
            for name in (
                "task", "metric", "n", "hits", "value", "upper", "limit", "verdict", "reasons",
            )
        }  # fmt: skip


def judge_limits(candidate: Run, settings: GateSettings) -> list[Limit]:
    """Every limit, judged.

    Raises:
        ConfigError: a limit on a figure that is better when larger.
    """
    found = []
    for task, name, bound in wanted_limits(candidate, settings):
        limit = Limit(task, name, bound)
        metric = _measure(limit, candidate, settings)
        if metric is not None and limit.upper is not None:
            if limit.upper > bound:
                limit.verdict = _FAIL
                limit.reasons.append(
                    f"up to {limit.upper:.4f} cannot be ruled out, the limit is {bound:g}"
                )
            else:
                limit.verdict = _PASS
        found.append(limit)
    return found


def _measure(limit: Limit, candidate: Run, settings: GateSettings) -> Metric | None:
    """Fills in the figure; None, with a reason, where it cannot decide."""
    task = candidate.tasks.get(limit.task)
    metric = task.metric(limit.metric) if task else None
    if task is None or metric is None:
        why = candidate.not_run.get(limit.task)
        limit.reasons.append("was not measured" + (f": {why}" if why else ""))
        return None
    if metric.direction != "down":
        raise ConfigError(
            f"{limit.task}.{metric.name} is better when larger, so it has no upper limit",
            where=f"params.yaml: eval.limits.{limit.task}",
            fix="give it a margin",
        )
    rows = [item for item in task.items.values() if not is_error(item)]
    groups = units(metric, rows)
    limit.n = sum(map(len, groups))
    limit.value = aggregate(metric.aggregate, rows, metric.of)
    limit.reasons += unfit(candidate, task, settings, side="candidate", lineage=(candidate.tree,))
    if limit.n < settings.min_items:
        limit.reasons.append(f"{limit.n} items, at least {settings.min_items} are needed")
    if limit.value is None:
        limit.reasons.append(f"is undefined: {why_undefined(metric)}")
        return None
    if is_binary(metric, groups):
        limit.hits = sum(number(unit[0], metric.of) == 1.0 for unit in groups)
        limit.upper = clopper_pearson(limit.hits, len(groups), LEVEL)[1]
    else:
        key = resampling_key(settings.resampling_seed, limit.task, metric.name)
        bounds = bootstrap_bounds(metric, groups, key=key, level=LEVEL, draws=settings.draws)
        if bounds is None:
            limit.reasons.append("has no interval")
            return None
        limit.upper = bounds.high
    return None if limit.reasons else metric
