"""Estimators for answers that were compared: Bradley–Terry, style control, length control.

All rest on one logistic regression with outcomes anywhere in [0, 1], fitted by Newton's method.
Refuses nothing and invents nothing: an estimate that does not exist (one-sided outcomes, separated
data) is ``None``, never NaN and never a boundary value.

The published estimator of AlpacaEval 2 (``lc_reference``) needs its authors' difficulty and
gamed-baseline tables, which may not be redistributed; it is not built, and asking for it says so.

Source: evaluation page, section 6; vectors V7 to V10 in section 16.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from forebear.errors import ConfigError

MIN_ITEMS = 50  # below, no length-controlled figure
LC_PENALTY = 0.01
_TOLERANCE = 1e-7  # of the last step; Newton's next error is its square
_MAX_STEPS = 60
_MAX_LOGIT = 30.0  # a coefficient this large is on its way to infinity

# from how often each prompt was drawn to the figure
Fitter = Callable[[Sequence[float]], float | None]

# how often each label counts, and what it says for answer A
_LABELS: Mapping[str, tuple[int, float]] = {
    "A>>B": (3, 1.0),
    "A>B": (1, 1.0),
    "A=B": (1, 0.5),
    "B>A": (1, 0.0),
    "B>>A": (3, 0.0),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """A logistic regression.

    Attributes:
        coefficients: in the order of the columns.
        curvature: negative second derivative of the log-likelihood, penalty included.
    """

    coefficients: tuple[float, ...]
    curvature: Sequence[Sequence[float]]

    @property
    def covariance(self) -> tuple[tuple[float, ...], ...]:
        """Inverse of the curvature.

        Raises:
            ValueError: it has none.
        """
        inverse = _inverse(self.curvature)
        if inverse is None:
            raise ValueError("the curvature is singular")
        return inverse


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A length-controlled win rate.

    Attributes:
        value: percent, at equal lengths.
        theta: preference for the candidate, in logits.
        phi: pull of the length.
        scale: sd of the length differences, in characters.
    """

    value: float
    theta: float
    phi: float
    scale: float


def logistic(
    rows: Sequence[Sequence[float]],
    targets: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    penalty: Sequence[float] | None = None,
    start: Sequence[float] | None = None,
) -> Fit | None:
    """Logistic regression of targets in [0, 1]; None where no finite fit exists.

    Args:
        rows: n × p; a column of ones is the caller's.
        targets: n shares.
        weights: n numbers of copies; all 1 when left out.
        penalty: p numbers; ``penalty · b²`` is taken from the log-likelihood.
        start: coefficients to begin at; 0 when left out.
    """
    width = len(rows[0]) if rows else 0
    if not width:
        return None
    copies = [1.0] * len(rows) if weights is None else list(weights)
    pull = [0.0] * width if penalty is None else list(penalty)
    at = [0.0] * width if start is None else list(start)
    height, slope, curve = _look(rows, targets, copies, pull, at)
    for _ in range(_MAX_STEPS):
        step = _solve(curve, slope)
        if step is None:
            return None
        if max(map(abs, step)) <= _TOLERANCE:
            # so near that another look would move nothing
            return Fit(tuple(one + move for one, move in zip(at, step, strict=True)), curve)
        for _ in range(_MAX_STEPS):
            there = [one + move for one, move in zip(at, step, strict=True)]
            higher, slope, curve = _look(rows, targets, copies, pull, there)
            if higher >= height - 1e-12 * abs(height):
                break
            step = [move / 2 for move in step]
        at, height = there, higher
        if max(map(abs, at)) > _MAX_LOGIT:
            return None
    return None


def _look(
    rows: Sequence[Sequence[float]],
    targets: Sequence[float],
    copies: Sequence[float],
    pull: Sequence[float],
    at: Sequence[float],
) -> tuple[float, list[float], list[list[float]]]:
    """Log-likelihood, its slope and its negative curvature at a point."""
    width = len(at)
    height = -sum_products([p * b for p, b in zip(pull, at, strict=True)], at)
    slope = [-2 * p * b for p, b in zip(pull, at, strict=True)]
    curve = [[2 * pull[i] if i == j else 0.0 for j in range(width)] for i in range(width)]
    for row, target, copy in zip(rows, targets, copies, strict=True):
        logit = 0.0
        for x, b in zip(row, at, strict=True):
            logit += x * b
        grown = math.exp(-abs(logit))
        share = 1.0 / (1.0 + grown) if logit >= 0 else grown / (1.0 + grown)
        height += copy * (target * logit - max(logit, 0.0) - math.log1p(grown))
        miss = copy * (target - share)
        spread = copy * share * (1 - share)
        for i, x in enumerate(row):
            slope[i] += miss * x
            line, scaled = curve[i], spread * x
            for j in range(i + 1):
                line[j] += scaled * row[j]
    for i in range(width):
        for j in range(i):
            curve[j][i] = curve[i][j]
    return height, slope, curve


def sum_products(left: Iterable[float], right: Iterable[float]) -> float:
    """Σ left·right, added in order: the built-in ``sum`` rounds differently by version."""
    total = 0.0
    for a, b in zip(left, right, strict=True):
        total += a * b
    return total


def sigmoid(logit: float) -> float:
    """1 / (1 + e^−x) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1.0 + grown)


def _solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float] | None:
    """Solution x of matrix·x = right by elimination; None where the matrix is singular."""
    size = len(right)
    work = [[*line, right[number]] for number, line in enumerate(matrix)]
    for column in range(size):
        best = max(range(column, size), key=lambda line: abs(work[line][column]))
        if abs(work[best][column]) < 1e-12:
            return None
        work[column], work[best] = work[best], work[column]
        for line in range(column + 1, size):
            factor = work[line][column] / work[column][column]
            for place in range(column, size + 1):
                work[line][place] -= factor * work[column][place]
    found = [0.0] * size
    for line in reversed(range(size)):
        rest = sum_products(work[line][line + 1 : size], found[line + 1 :])
        found[line] = (work[line][size] - rest) / work[line][line]
    return found


def _inverse(matrix: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...] | None:
    columns = []
    for number in range(len(matrix)):
        unit = [float(number == place) for place in range(len(matrix))]
        column = _solve(matrix, unit)
        if column is None:
            return None
        columns.append(column)
    return tuple(zip(*columns, strict=True))


# ── games ──────────────────────────────────────────────────────────────────────────────────────


def bradley_terry(games: Sequence[tuple[int, int, float]], n_players: int) -> list[float] | None:
    """Strengths in logits, player 0 at 0; None where no finite strengths exist.

    Args:
        games: (player, other player, outcome for the first: 1 won, 0 lost, ½ tie).
        n_players: their number.
    """
    rows, outcomes = [], []
    for one, other, outcome in games:
        row = [0.0] * n_players
        row[one] += 1.0
        row[other] -= 1.0
        rows.append(row[1:])
        outcomes.append(outcome)
    fitted = logistic(rows, outcomes)
    return None if fitted is None else [0.0, *fitted.coefficients]


def arena_outcomes(labels: Sequence[tuple[str, str]]) -> list[list[float]]:
    """Outcomes for the candidate, per prompt; "much better" stands three times.

    Args:
        labels: per prompt those of game 1 (baseline is A) and game 2 (candidate is A).

    Raises:
        ValueError: a label is none of ``A>>B`` … ``B>>A``.
    """
    prompts = []
    for label_1, label_2 in labels:
        outcomes: list[float] = []
        for label, candidate_is_a in ((label_1, False), (label_2, True)):
            if label not in _LABELS:
                raise ValueError(f"{label[:20]!r} is no label of a game")
            copies, for_a = _LABELS[label]
            outcomes += [for_a if candidate_is_a else 1.0 - for_a] * copies
        prompts.append(outcomes)
    return prompts


def style_features(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """How much longer and more marked up the candidate's answer is, each in [−1, 1].

    Args:
        ours: ``tokens``, ``headers``, ``lists`` and ``bold`` of the candidate's answer.
        theirs: of the baseline's.
    """
    total = ours["tokens"] + theirs["tokens"]
    features = {"x_length": (ours["tokens"] - theirs["tokens"]) / total if total else 0.0}
    for name in ("headers", "lists", "bold"):
        mine = ours[name] / (ours["tokens"] + 1)
        other = theirs[name] / (theirs["tokens"] + 1)
        features[f"x_{name}"] = (mine - other) / (mine + other + 1)
    return features


def style_control(
    values: Sequence[float],
    features: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
) -> float | None:
    """Win rate in [0, 1] at equal style; None where no finite fit exists.

    The features are scaled, never centred: a centred one would let the intercept swallow how
    verbose the candidate is on average.

    Args:
        values: per prompt, the mean outcome for the candidate.
        features: per prompt, as :func:`style_features` gives them.
        weights: per prompt, how many outcomes the value is the mean of.
    """
    return style_fitter(values, features, weights)([1.0] * len(values))


def style_fitter(
    values: Sequence[float],
    features: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
) -> Fitter:
    """:func:`style_control` as a function of how often each prompt was drawn."""
    scales = [_sd(column) for column in zip(*features, strict=True)]
    used = [place for place, scale in enumerate(scales) if scale > 0]
    rows = [[1.0, *(row[place] / scales[place] for place in used)] for row in features]
    copies = [1.0] * len(values) if weights is None else list(weights)
    whole = logistic(rows, values, weights=copies) if rows else None
    start = None if whole is None else whole.coefficients

    def fit(counts: Sequence[float]) -> float | None:
        drawn = [place for place, count in enumerate(counts) if count]
        fitted = logistic(
            [rows[place] for place in drawn],
            [values[place] for place in drawn],
            weights=[counts[place] * copies[place] for place in drawn],
            start=start,
        )
        return None if fitted is None else sigmoid(fitted.coefficients[0])

    return fit


def lc_native(  # noqa: PLR0913  # one argument per part of the estimator
    values: Sequence[float],
    lengths: Sequence[float],
    baseline_lengths: Sequence[float],
    *,
    penalty: float = LC_PENALTY,
    min_items: int = MIN_ITEMS,
    counts: Sequence[float] | None = None,
    start: Sequence[float] | None = None,
) -> LengthControlled | None:
    """Win rate in percent at equal lengths, by our own estimator of two parameters.

    Args:
        values: per item, the probability that the candidate's answer is preferred.
        lengths: of the candidate's answers, in characters.
        baseline_lengths: of the baseline's.
        penalty: on φ².
        min_items: fewer have no figure.
        counts: how often each item was drawn; once when left out.
        start: θ and φ to begin at.

    Returns:
        None for too few items, equal lengths throughout, or one-sided outcomes.
    """
    copies = [1.0] * len(values) if counts is None else counts
    drawn = [
        (value, base - ours, copy)
        for value, ours, base, copy in zip(values, lengths, baseline_lengths, copies, strict=True)
        if copy
    ]
    if math.fsum(copy for *_, copy in drawn) < max(min_items, 2):
        return None
    chosen = [value for value, *_ in drawn]
    if min(chosen) >= 0.5 or max(chosen) <= 0.5:
        return None
    scale = _sd([apart for _, apart, _ in drawn], [copy for *_, copy in drawn])
    if scale == 0:
        return None
    fitted = logistic(
        [(1.0, math.tanh(apart / scale)) for _, apart, _ in drawn],
        chosen,
        weights=[copy for *_, copy in drawn],
        penalty=(0.0, penalty),
        start=start,
    )
    if fitted is None:
        return None
    theta, phi = fitted.coefficients
    return LengthControlled(100 * sigmoid(theta), theta, phi, scale)


def lc_reference(*_tables: object) -> LengthControlled:
    """The published estimator, which this build does not have.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        "the published length control (lc_reference) is not built in",
        where="alpaca_eval",
        fix="use lc_native, and do not compare it with published LC win rates",
    )


def _sd(values: Sequence[float], counts: Sequence[float] | None = None) -> float:
    copies = [1.0] * len(values) if counts is None else counts
    n = math.fsum(copies)
    if n < 2:
        return 0.0
    centre = math.fsum(map(operator.mul, values, copies)) / n
    square = math.fsum(
        copy * (value - centre) ** 2 for value, copy in zip(values, copies, strict=True)
    )
    return math.sqrt(square / (n - 1))
