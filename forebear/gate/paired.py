"""One metric of two runs, paired by item: the difference, its bounds, the test of "worse".

Differences are sign-aligned: negative is worse, whichever way the metric runs. Binary items that
are their own cluster are judged by exact McNemar and Tango's score interval; other sums by a paired
BCa bootstrap over clusters and by swapping the runs within clusters; fits by a bootstrap that fits
both runs anew on the same draws.

A bootstrap knows nothing of what it has not seen: where fewer than five clusters differ, its lower
bound is not trusted and Tango's, with each difference as large as it can be, counts where it is
lower.

Source: evaluation page, section 11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from forebear.gate.aggregate import Fitted, aggregate, kind_of, number
from forebear.gate.resample import (
    Bounds,
    Pcg64,
    bca,
    defined,
    jackknife,
    quantile,
    sign_flip,
    swap_test,
)
from forebear.gate.runs import Item, Metric
from forebear.gate.scores import (
    is_binary,
    statistic,
    unit_of,
    unit_sums,
    units,
    why_undefined,
)
from forebear.gate.statistics import mcnemar_worse, tango_interval, tango_lower

LEVEL = 0.95
TRUSTED_DIFFERENCES = 5  # fewer differing units can never be significant: 2⁻⁴ is above 0.05


@dataclass(frozen=True, slots=True)
class Weighted:
    """The difference weighted back to the shares that the strata have in the whole set."""

    delta: float
    lower: float


@dataclass(frozen=True, slots=True)
class Paired:
    """What the paired items say.

    Attributes:
        n: items to which the metric applies.
        clusters: units that are drawn together.
        value: the candidate's figure.
        reference_value: the reference's.
        delta: candidate minus reference, negative when worse.
        interval: two-sided 95 % of the difference.
        lower: one-sided 95 % lower bound of it.
        p: of the test that the candidate is worse.
        method: in words.
        losses: binary items lost; None where items are graded.
        gains: binary items gained.
        lost: ids of items that are worse.
        gained: ids of items that are better.
        weighted: where strata were drawn out of proportion.
        discordance: variance of one unit's difference, for the items that a margin needs; 0 where
            nothing differs.
    """

    n: int
    clusters: int
    value: float
    reference_value: float
    delta: float
    interval: Bounds
    lower: float
    p: float
    method: str
    losses: int | None
    gains: int | None
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    weighted: Weighted | None
    discordance: float


def pair_items(  # noqa: PLR0913  # all that a comparison rests on
    ours: Sequence[Item],
    theirs: Sequence[Item],
    metric: Metric,
    *,
    key: str,
    draws: int,
    strata: Mapping[str, int] | None = None,
) -> Paired | str:
    """The comparison, or why there is none.

    Args:
        ours: the candidate's items, all scored.
        theirs: the reference's, in the same order.
        metric: which figure.
        key: what the generator starts from.
        draws: of the bootstrap.
        strata: items of the whole set by stratum, where only a part was measured.
    """
    mine, others = units(metric, ours), units(metric, theirs)
    if [[one.id for one in unit] for unit in mine] != [[one.id for one in unit] for unit in others]:
        return f"{metric.name} applies to some items in one run alone"
    value = aggregate(metric.aggregate, ours, metric.of)
    reference_value = aggregate(metric.aggregate, theirs, metric.of)
    if value is None or reference_value is None:
        side = "candidate" if value is None else "reference"
        return f"{metric.name} of the {side} is undefined: {why_undefined(metric)}"
    sides = _Sides(metric, mine, others, 1.0 if metric.direction == "up" else -1.0)
    found = _binary(sides) if sides.binary else _resampled(sides, key, draws)
    if isinstance(found, str):
        return found
    lost, gained = sides.moved()
    return Paired(
        n=sum(map(len, mine)),
        clusters=len(mine),
        value=value,
        reference_value=reference_value,
        delta=sides.sign * (value - reference_value),
        interval=found.interval,
        lower=found.lower,
        p=found.p,
        method=found.method,
        losses=len(lost) if sides.binary else None,
        gains=len(gained) if sides.binary else None,
        lost=lost,
        gained=gained,
        weighted=_weigh(sides, strata),
        discordance=sides.variance(),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    interval: Bounds
    lower: float
    p: float
    method: str


@dataclass(frozen=True, slots=True)
class _Sides:
    """Both runs' units, in one order.

    Attributes:
        sign: −1 where smaller is better.
    """

    metric: Metric
    ours: Sequence[Sequence[Item]]
    theirs: Sequence[Sequence[Item]]
    sign: float

    @property
    def binary(self) -> bool:
        return is_binary(self.metric, self.ours) and is_binary(self.metric, self.theirs)

    def item_differences(self) -> list[tuple[Item, float]]:
        """Each item's own difference, sign-aligned, where the metric is made of one number."""
        found = []
        for mine, others in zip(self.ours, self.theirs, strict=True):
            for one, other in zip(mine, others, strict=True):
                ours, theirs = (number(item, self.metric.of) for item in (one, other))
                if ours is not None and theirs is not None:
                    found.append((one, self.sign * (ours - theirs)))
        return found

    def moved(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Ids that are worse and better; none where an item alone says neither."""
        if self.metric.aggregate == "distance_from_half" or "bias" in self.metric.aggregate:
            return (), ()
        pairs = sorted((item.id, apart) for item, apart in self.item_differences() if apart)
        lost = tuple(name for name, apart in pairs if apart < 0)
        return lost, tuple(name for name, apart in pairs if apart > 0)

    def differing(self) -> list[int]:
        """Units in which the runs differ."""
        kind = kind_of(self.metric.aggregate)
        if isinstance(kind, Fitted):
            return [
                place
                for place, (mine, others) in enumerate(zip(self.ours, self.theirs, strict=True))
                if any(
                    (one.value, one.components) != (other.value, other.components)
                    for one, other in zip(mine, others, strict=True)
                )
            ]
        return [
            place
            for place, (mine, others) in enumerate(zip(self.ours, self.theirs, strict=True))
            if unit_sums(self.metric, mine) != unit_sums(self.metric, others)
        ]

    def variance(self) -> float:
        """Mean square of one item's difference over the metric's range, as a discordance."""
        apart = [one for _, one in self.item_differences()]
        width = self.metric.high - self.metric.low
        return math.fsum((one / width) ** 2 for one in apart) / len(apart) if apart else 0.0


def _binary(sides: _Sides) -> _Found:
    lost, gained = sides.moved()
    n, losses, gains = len(sides.ours), len(lost), len(gained)
    low, high = tango_interval(losses, gains, n)
    return _Found(
        Bounds(low, high, LEVEL, "Tango", None),
        tango_lower(losses, gains, n),
        mcnemar_worse(losses, gains),
        "exact McNemar, Tango",
    )


def _resampled(sides: _Sides, key: str, draws: int) -> _Found | str:
    ours, theirs = statistic(sides.metric, sides.ours), statistic(sides.metric, sides.theirs)
    n = len(sides.ours)

    def difference(drawn: Sequence[int]) -> float | None:
        mine, other = ours(drawn), theirs(drawn)
        return None if mine is None or other is None else sides.sign * (mine - other)

    generator = Pcg64(f"{key}|difference")
    found = defined([difference(generator.indices(n, n)) for _ in range(draws)])
    estimate = difference(range(n))
    if found is None or estimate is None:
        return f"{sides.metric.name} is undefined on too many draws of the bootstrap"
    if isinstance(kind_of(sides.metric.aggregate), Fitted):
        ordered = sorted(found)
        ends = (quantile(ordered, 0.025), quantile(ordered, 0.975))
        lower = quantile(ordered, 0.05)
        p = (1 + sum(one >= 0 for one in found)) / (len(found) + 1)
        method = "bootstrap, both fitted anew"
    else:
        left_out = jackknife(n, difference)
        ends = bca(estimate, found, left_out, LEVEL)
        lower = bca(estimate, found, left_out, 2 * LEVEL - 1)[0]
        p = _swapped(sides, key)
        method = "sign-flip, paired BCa bootstrap over clusters"
    interval = Bounds(*ends, LEVEL, "paired bootstrap", draws)
    return _Found(interval, _guarded(sides, lower), p, method)


def _swapped(sides: _Sides, key: str) -> float:
    """P of the test that swaps the runs within units."""
    flips = f"{key}|flips"
    if sides.metric.aggregate == "mean":
        per_unit = []
        for mine, others in zip(sides.ours, sides.theirs, strict=True):
            ours, theirs = unit_sums(sides.metric, mine), unit_sums(sides.metric, others)
            per_unit.append(sides.sign * (ours[0] - theirs[0]))
        return sign_flip(per_unit, key=flips)
    apart = sides.differing()
    swapped = _Swaps(sides, apart)
    p = swap_test(len(apart), swapped.difference, key=flips)
    return 1.0 if p is None else p


class _Swaps:
    """The difference with the runs swapped in some units, from sums kept beside each other."""

    def __init__(self, sides: _Sides, apart: Sequence[int]) -> None:
        kind = kind_of(sides.metric.aggregate)
        if isinstance(kind, Fitted):
            raise TypeError("a fit is not swapped")
        self._finish, self._sign = kind.finish, sides.sign
        ours = [unit_sums(sides.metric, rows) for rows in sides.ours]
        theirs = [unit_sums(sides.metric, rows) for rows in sides.theirs]
        self._ours = [math.fsum(column) for column in zip(*ours, strict=True)]
        self._theirs = [math.fsum(column) for column in zip(*theirs, strict=True)]
        self._moves = [
            tuple(b - a for a, b in zip(ours[place], theirs[place], strict=True)) for place in apart
        ]

    def difference(self, mask: int) -> float | None:
        """Candidate minus reference with the units of the mask swapped."""
        moved = [0.0] * len(self._ours)
        for place, move in enumerate(self._moves):
            if mask >> place & 1:
                moved = [a + b for a, b in zip(moved, move, strict=True)]
        ours = self._finish([a + b for a, b in zip(self._ours, moved, strict=True)])
        theirs = self._finish([a - b for a, b in zip(self._theirs, moved, strict=True)])
        return None if ours is None or theirs is None else self._sign * (ours - theirs)


def _guarded(sides: _Sides, lower: float) -> float:
    """The lower bound, or Tango's of the units that differ where they are too few to trust it."""
    apart = sides.differing()
    if len(apart) >= TRUSTED_DIFFERENCES:
        return lower
    width = sides.metric.high - sides.metric.low
    return min(lower, width * tango_lower(len(apart), 0, len(sides.ours)))


def _weigh(sides: _Sides, strata: Mapping[str, int] | None) -> Weighted | None:
    """The difference of means, weighted; its bound by linearisation over the units."""
    if strata is None or sides.metric.aggregate != "mean":
        return None
    apart = sides.item_differences()
    counts: dict[str, int] = {}
    for item, _ in apart:
        counts[item.stratum] = counts.get(item.stratum, 0) + 1
    if not apart or not counts.keys() <= strata.keys():
        return None
    weights = {name: strata[name] / count for name, count in counts.items()}
    if max(weights.values()) == min(weights.values()):
        return None  # drawn in proportion: nothing to weigh
    total = math.fsum(weights[item.stratum] for item, _ in apart)
    delta = math.fsum(weights[item.stratum] * one for item, one in apart) / total
    shares: dict[str, list[float]] = {}
    for item, one in apart:
        shares.setdefault(unit_of(item), []).append(weights[item.stratum] * (one - delta) / total)
    n, width = len(shares), sides.metric.high - sides.metric.low
    if n < 2:
        return Weighted(delta, -width)
    square = math.fsum(math.fsum(unit) ** 2 for unit in shares.values())
    se = math.sqrt(square * n / (n - 1))
    return Weighted(delta, delta - NormalDist().inv_cdf(LEVEL) * se)
