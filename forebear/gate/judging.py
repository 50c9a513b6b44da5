"""Figures about judges and about drawn solutions: pure functions of labels and counts.

``cohen_kappa`` stands in ``statistics``.

Source: evaluation page, sections 9, 10 and 16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

BINS = 10
MIN_LABELLED = 30  # below, a correction is shown and not used


@dataclass(frozen=True, slots=True)
class Corrected:
    """A judge's mean, corrected by items that people labelled, too.

    Attributes:
        estimate: prediction-powered mean, not clipped.
        se: its standard error.
        low: lower end of the interval, clipped to [0, 1].
        high: upper end, clipped.
        clipped: whether an end lay outside [0, 1].
        usable: whether enough items were labelled for it to be used.
    """

    estimate: float
    se: float
    low: float
    high: float
    clipped: bool
    usable: bool


def ece(confidences: Sequence[float], correct: Sequence[bool | int]) -> float | None:
    """Expected calibration error over ten bins of equal width; None without items.

    Args:
        confidences: in [0, 1]; a confidence of 1 belongs to the last bin.
        correct: whether each was right.
    """
    bins = calibration_bins(confidences, correct)
    n = len(confidences)
    if not n:
        return None
    return math.fsum(len(one) / n * abs(_mean(right) - _mean(sure)) for one, sure, right in bins)


def calibration_bins(
    confidences: Sequence[float], correct: Sequence[bool | int]
) -> list[tuple[list[int], list[float], list[float]]]:
    """Bins that hold anything, from low to high: item numbers, confidences, outcomes."""
    bins: dict[int, tuple[list[int], list[float], list[float]]] = {}
    for number, (sure, right) in enumerate(zip(confidences, correct, strict=True)):
        place = min(int(BINS * sure), BINS - 1)
        items, confident, outcomes = bins.setdefault(place, ([], [], []))
        items.append(number)
        confident.append(sure)
        outcomes.append(float(right))
    return [bins[place] for place in sorted(bins)]


def ppi(
    judged: Sequence[float],
    labelled_judged: Sequence[float],
    labelled: Sequence[float],
    *,
    level: float = 0.95,
) -> Corrected | None:
    """Mean of the judge's scores, corrected by people's labels of some of the items.

    Args:
        judged: the judge's scores of all items.
        labelled_judged: its scores of the items that people labelled.
        labelled: their labels, in the same order.
        level: of the interval.

    Returns:
        None where fewer than two items are judged or labelled.

    Source: Angelopoulos et al. 2023.
    """
    errors = [y - f for f, y in zip(labelled_judged, labelled, strict=True)]
    if len(judged) < 2 or len(errors) < 2:
        return None
    estimate = _mean(judged) + _mean(errors)
    se = math.sqrt(_variance(judged) / len(judged) + _variance(errors) / len(errors))
    half = NormalDist().inv_cdf(0.5 + level / 2) * se
    low, high = estimate - half, estimate + half
    return Corrected(
        estimate=estimate,
        se=se,
        low=min(max(low, 0.0), 1.0),
        high=min(max(high, 0.0), 1.0),
        clipped=low < 0 or high > 1,
        usable=len(errors) >= MIN_LABELLED,
    )


def pass_at_k(drawn: int, correct: int, k: int) -> float:
    """Probability that at least one of k solutions is right: 1 − C(n − c, k) / C(n, k).

    Args:
        drawn: solutions drawn for the problem.
        correct: how many of them pass.
        k: at most ``drawn``.
    """
    if not 0 <= correct <= drawn or not 1 <= k <= drawn:
        raise ValueError(f"no pass@{k} of {correct} right solutions among {drawn}")
    return 1.0 - math.comb(drawn - correct, k) / math.comb(drawn, k)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    centre = _mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)
