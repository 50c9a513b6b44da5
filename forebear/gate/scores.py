"""One metric of one run: the figure, its interval, and how the interval was made.

Binary items that are their own cluster have a Wilson interval; other sums a BCa bootstrap over
clusters; fits a bootstrap over prompts, fitted anew on each draw.

Source: evaluation page, section 11.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any, TypeVar

from forebear.gate.aggregate import Fitted, Row, aggregate, kind_of, number
from forebear.gate.resample import (
    DRAWS,
    SEED,
    Bounds,
    Statistic,
    bootstrap,
    defined,
    interval,
    quantile,
)
from forebear.gate.runs import Metric
from forebear.gate.statistics import wilson

RowT = TypeVar("RowT", bound=Row)

_UNDEFINED = {
    "lc_native": "fewer than 50 items, equal lengths, or one-sided outcomes",
    "style_controlled": "no finite fit: the outcomes are one-sided",
    "bbq_bias_ambiguous": "no answer names a group",
    "bbq_bias_disambiguated": "no answer names a group",
}


def resampling_key(seed: int, task: str, metric: str) -> str:
    """What the generator of a metric's draws starts from."""
    return f"{seed}|{task}|{metric}"


def score(
    rows: Sequence[Row],
    metric: Metric | Mapping[str, Any],
    *,
    task: str,
    seed: int = SEED,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Value, items, interval and, where there is no value, the reason.

    Args:
        rows: as ``measure`` writes them, or items as ``runs`` reads them.
        metric: which figure.
        task: its name, for the generator's key.
        seed: of the draws.
        draws: of the bootstrap.
    """
    which = metric if isinstance(metric, Metric) else Metric(**metric)
    value = aggregate(which.aggregate, rows, which.of)
    groups = units(which, rows)
    bounds = None
    if value is not None:
        key = resampling_key(seed, task, which.name)
        bounds = _bounds(which, groups, key=key, draws=draws)
    return {
        "value": value,
        "n": sum(map(len, groups)),
        "interval": None if bounds is None else asdict(bounds),
        "reason": None if value is not None else why_undefined(which),
    }


def weighted_mean(
    rows: Sequence[Row], metric: Metric, strata: Mapping[str, int] | None
) -> float | None:
    """The mean weighted back to the shares that the strata have in the whole set.

    Args:
        rows: as for :func:`score`.
        metric: which figure.
        strata: items of the whole set by stratum; None where all of it was measured.

    Returns:
        None where there is nothing to weigh: another kind of figure, or strata in proportion.
    """
    if strata is None or metric.aggregate != "mean":
        return None
    groups: dict[str, list[float]] = {}
    for unit in units(metric, rows):
        for row in unit:
            name = row.get("stratum", "") if isinstance(row, Mapping) else row.stratum
            groups.setdefault(str(name), []).append(number(row, metric.of) or 0.0)
    if not groups or not groups.keys() <= strata.keys():
        return None
    if len({strata[name] / len(values) for name, values in groups.items()}) == 1:
        return None  # drawn in proportion
    total = math.fsum(strata[name] for name in groups)
    means = (strata[name] * math.fsum(one) / len(one) for name, one in groups.items())
    return math.fsum(means) / total if total else None


def why_undefined(metric: Metric) -> str:
    """Why the figure has no value."""
    return _UNDEFINED.get(metric.aggregate, "no item was scored")


def _bounds(
    metric: Metric, groups: Sequence[Sequence[Row]], *, key: str, draws: int
) -> Bounds | None:
    if is_binary(metric, groups):
        hits = sum(number(rows[0], metric.of) == 1.0 for rows in groups)
        low, high = wilson(hits, len(groups))
        return Bounds(low, high, 0.95, "Wilson", None)
    return bootstrap_bounds(metric, groups, key=key, level=0.95, draws=draws)


def bootstrap_bounds(
    metric: Metric, groups: Sequence[Sequence[Row]], *, key: str, level: float, draws: int
) -> Bounds | None:
    """Bootstrap interval of one metric over its units; None where it is undefined."""
    figure = statistic(metric, groups)
    if not isinstance(kind_of(metric.aggregate), Fitted):
        return interval(len(groups), figure, key=key, level=level, draws=draws)
    drawn = defined(bootstrap(len(groups), figure, key=key, draws=draws))
    if drawn is None:
        return None
    drawn.sort()
    tail = (1 - level) / 2
    low, high = quantile(drawn, tail), quantile(drawn, 1 - tail)
    return Bounds(low, high, level, "bootstrap, fitted anew", draws)


# ── units ──────────────────────────────────────────────────────────────────────────────────────


def units(metric: Metric, rows: Sequence[RowT]) -> list[list[RowT]]:
    """Clusters in which the metric applies, by name; only items to which it applies."""
    kind = kind_of(metric.aggregate)
    groups: dict[str, list[RowT]] = {}
    for row in rows:
        if isinstance(kind, Fitted):
            applies = number(row, "value") is not None
        else:
            applies = kind.parts(row, metric.of) is not None
        if applies:
            groups.setdefault(unit_of(row), []).append(row)
    return [groups[name] for name in sorted(groups)]


def unit_of(row: Row) -> str:
    """The cluster of an item; its id where it is its own."""
    if isinstance(row, Mapping):
        return str(row.get("cluster") or row["id"])
    return str(getattr(row, "cluster", "") or getattr(row, "id", ""))


def is_binary(metric: Metric, groups: Sequence[Sequence[Row]]) -> bool:
    """Whether the figure is a share of items, each its own cluster."""
    return metric.aggregate == "mean" and all(
        len(rows) == 1 and number(rows[0], metric.of) in {0.0, 1.0} for rows in groups
    )


def statistic(metric: Metric, groups: Sequence[Sequence[Row]]) -> Statistic:
    """The figure as a function of the units drawn."""
    kind = kind_of(metric.aggregate)
    if isinstance(kind, Fitted):
        return _fitted(kind, metric, groups)
    finish = kind.finish
    columns = [
        Column(sums) for sums in zip(*(unit_sums(metric, rows) for rows in groups), strict=True)
    ]
    return lambda drawn: finish([column.total(drawn) for column in columns])


def _fitted(kind: Fitted, metric: Metric, groups: Sequence[Sequence[Row]]) -> Statistic:
    fit = kind.prepare([row for rows in groups for row in rows], metric.of)
    ends = list(accumulate(map(len, groups), initial=0))

    def figure(drawn: Sequence[int]) -> float | None:
        counts = [0.0] * ends[-1]
        for unit in drawn:
            for place in range(ends[unit], ends[unit + 1]):
                counts[place] += 1.0
        return fit(counts)

    return figure


class Column:
    """Numbers of which many sums are wanted; whole numbers are added as such, which is faster."""

    __slots__ = ("_add", "_numbers")

    def __init__(self, numbers: Sequence[float]) -> None:
        whole = all(one.is_integer() for one in numbers)
        self._numbers: list[float] = [int(one) for one in numbers] if whole else list(numbers)
        self._add: Callable[[Iterable[float]], float] = sum if whole else math.fsum

    def total(self, drawn: Iterable[int]) -> float:
        """Sum of the numbers at these places, exactly rounded."""
        return self._add(map(self._numbers.__getitem__, drawn))


def unit_sums(metric: Metric, rows: Sequence[Row]) -> tuple[float, ...]:
    """What a unit adds to each sum of an additive figure."""
    kind = kind_of(metric.aggregate)
    if isinstance(kind, Fitted):
        raise TypeError(f"{metric.aggregate} is no sum")
    parts = [one for one in (kind.parts(row, metric.of) for row in rows) if one is not None]
    return tuple(math.fsum(column) for column in zip(*parts, strict=True))
