"""The gate's statistics: exact where they can be, pure Python throughout.

Everything here is a function of counts. Nothing is fitted, drawn or cached, so the auditor's
recomputation gives the same bits on any machine. Refuses impossible counts with ``ValueError``:
the callers count items themselves, so such a count is our fault and no user's.

Source: evaluation page, section 11; vectors in section 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

_NORMAL = NormalDist()
_BISECTIONS = 200


def mcnemar_worse(losses: int, gains: int) -> float:
    """One-sided exact McNemar p that the candidate is worse: P(Bin(losses + gains, ½) ≥ losses).

    Args:
        losses: items that the reference has right and the candidate wrong.
        gains: items that the candidate has right and the reference wrong.
    """
    _require_counts(losses, gains)
    n = losses + gains
    # the shorter tail in integers: exact, and half the terms at most
    if losses > gains:
        return _binomial_sum(n, 0, gains) / (1 << n)
    return 1.0 - _binomial_sum(n, 0, losses - 1) / (1 << n)


def _binomial_sum(n: int, low: int, high: int) -> int:
    if high < low:
        return 0
    term = math.comb(n, low)
    total = term
    for k in range(low, high):
        term = term * (n - k) // (k + 1)
        total += term
    return total


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given."""
    count = len(p_values)
    order = sorted(range(count), key=lambda index: (p_values[index], index))
    adjusted = [0.0] * count
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def wilson(right: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Two-sided Wilson score interval of a share, (low, high) in [0, 1].

    Args:
        right: number of hits; a tie may count ½.
        n: number of trials.
        level: of the interval.
    """
    _require_share(right, n)
    z = _NORMAL.inv_cdf(0.5 + level / 2)
    share = right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # the ends are exact at 0 and n; the formula leaves rounding dust there
    low = 0.0 if right == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if right == n else min(1.0, (centre + half) / scale)
    return low, high


def tango_lower(losses: int, gains: int, n: int, level: float = 0.95) -> float:
    """One-sided lower bound of (gains − losses) / n for paired shares, Tango's score method."""
    return _tango_bound(losses, gains, n, _NORMAL.inv_cdf(level))


def tango_interval(losses: int, gains: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of (gains − losses) / n for paired shares, Tango's score method."""
    z = _NORMAL.inv_cdf(0.5 + level / 2)
    return _tango_bound(losses, gains, n, z), -_tango_bound(gains, losses, n, z)


def _tango_bound(losses: int, gains: int, n: int, z: float) -> float:
    _require_counts(losses, gains)
    if n < 1 or losses + gains > n:
        raise ValueError(f"{losses} losses and {gains} gains do not fit {n} items")
    if losses == n:
        return -1.0
    # the score falls as the difference grows, so the bound lies where it equals z
    return _bisect(
        lambda difference: _tango_score(losses, gains, n, difference) > z,
        -1.0,
        (gains - losses) / n,
    )


def _tango_score(losses: int, gains: int, n: int, difference: float) -> float:
    """Score statistic of the hypothesis that the true difference is ``difference``.

    Source: Tango 1998, with the closed form of the restricted estimate of the loss share.
    """
    a = 2.0 * n
    b = -gains - losses + (2.0 * n - gains + losses) * difference
    c = -losses * difference * (1.0 - difference)
    loss_share = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
    variance = n * (2.0 * loss_share + difference * (1.0 - difference))
    excess = gains - losses - n * difference
    if variance <= 0.0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


def clopper_pearson(hits: int, n: int, level: float = 0.90) -> tuple[float, float]:
    """Two-sided exact interval of a share, (low, high) in [0, 1]."""
    _require_share(hits, n)
    tail = (1 - level) / 2
    low = 0.0
    if hits > 0:
        low = _bisect(lambda share: 1 - binomial_cdf(hits - 1, n, share) < tail, 0.0, 1.0)
    high = 1.0
    if hits < n:
        high = _bisect(lambda share: binomial_cdf(hits, n, share) > tail, 0.0, 1.0)
    return low, high


def binomial_cdf(hits: int, n: int, share: float) -> float:
    """P(Bin(n, share) ≤ hits)."""
    if hits < 0:
        return 0.0
    if hits >= n:
        return 1.0
    return min(1.0, math.fsum(binomial_pmf(k, n, share) for k in range(hits + 1)))


def binomial_pmf(hits: int, n: int, share: float) -> float:
    """P(Bin(n, share) = hits)."""
    if share <= 0.0:
        return 1.0 if hits == 0 else 0.0
    if share >= 1.0:
        return 1.0 if hits == n else 0.0
    log_ways = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    return math.exp(log_ways + hits * math.log(share) + (n - hits) * math.log1p(-share))


def items_needed(
    discordance: float, margin: float, *, level: float = 0.95, power: float = 0.80
) -> int:
    """Items that show non-inferiority within ``margin`` when nothing changed.

    Args:
        discordance: share of items on which candidate and reference differ, in (0, 1].
        margin: largest drop that is accepted, above 0.
        level: of the one-sided bound.
        power: probability of showing it.
    """
    if not 0 < discordance <= 1 or margin <= 0:
        raise ValueError(f"no sample size for discordance {discordance} and margin {margin}")
    z = _NORMAL.inv_cdf(level) + _NORMAL.inv_cdf(power)
    return math.ceil(z * z * discordance / (margin * margin))


def mcnemar_power(n: int, discordance: float, drop: float, *, alpha: float = 0.05) -> float:
    """Probability that the exact test calls a candidate worse which truly drops by ``drop``."""
    loss_share = (discordance + drop) / 2 / discordance
    total = []
    for pairs in range(n + 1):
        critical = next(
            (k for k in range(pairs // 2, pairs + 1) if mcnemar_worse(k, pairs - k) <= alpha), None
        )
        if critical is not None:
            reject = math.fsum(
                binomial_pmf(k, pairs, loss_share) for k in range(critical, pairs + 1)
            )
            total.append(binomial_pmf(pairs, n, discordance) * reject)
    return math.fsum(total)


def cohen_kappa(table: Sequence[Sequence[int]]) -> float | None:
    """Agreement of two raters beyond chance; ``None`` when chance alone explains everything."""
    total = sum(map(sum, table))
    if total < 1:
        raise ValueError("the table is empty")
    agreed = sum(row[index] for index, row in enumerate(table)) / total
    chance = sum(
        sum(row) * sum(other[index] for other in table) for index, row in enumerate(table)
    ) / (total * total)
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def _bisect(left_of_root: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``left_of_root`` turns from true to false in [low, high], to the last bit."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if left_of_root(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _require_counts(losses: int, gains: int) -> None:
    if losses < 0 or gains < 0:
        raise ValueError(f"counts below zero: {losses} losses, {gains} gains")


def _require_share(hits: float, n: int) -> None:
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is no share")
