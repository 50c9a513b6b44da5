"""How often the gate is wrong: ``python -m benchmarks.gate_rates [--draws N] [--seed S]``.

Draws losses and gains of paired binary items with a known true difference and has the gate's own
rule judge them. A pass of a candidate that is truly worse than the margin is a false pass; anything
but a pass of a candidate that is truly equal is a false block. Graded metrics are drawn as item
scores and judged by the same bootstrap and sign flips as in a run. Prints Markdown tables; the same
seed gives the same tables. Pure Python.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial

from forebear.gate.paired import Paired, pair_items
from forebear.gate.pairs import Pair
from forebear.gate.resample import Bounds
from forebear.gate.runs import Item, Metric
from forebear.gate.settings import GateSettings
from forebear.gate.statistics import binomial_pmf, items_needed, mcnemar_worse, tango_lower
from forebear.gate.verdict import judge_pairs, overall

SEED = 20260101
SETTINGS = GateSettings(first_release=True)
_ORDER = ("PASS", "INCONCLUSIVE", "FAIL")
# (discordance, margin, items): the shipped screening gate first, then what margins need
SINGLE = [
    (0.35, 0.10, 140), (0.35, 0.10, 200), (0.20, 0.10, 124), (0.20, 0.05, 280), (0.20, 0.05, 495),
    (0.10, 0.05, 495), (0.20, 0.02, 3092), (0.10, 0.02, 1546),
]  # fmt: skip


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_rates", description=__doc__)
    parser.add_argument("--draws", type=int, default=4000, help="gates for each line")
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    for table in (_needed, _single, _several, _graded):
        print(table(random.Random(asked.seed), asked.draws))  # noqa: S311  # no secret is drawn


def _needed(_generator: random.Random, _draws: int) -> str:
    """Items for 80 % power at a true difference of 0, for one pair and for twelve."""
    rows = [
        [f"{margin:g}", f"{discordance:g}", *(str(n) for n in _sizes(discordance, margin))]
        for margin, discordance in itertools.product((0.10, 0.05, 0.02), (0.1, 0.2, 0.35))
    ]
    head = ["margin", "discordance", "one pair", "four pairs", "twelve pairs"]
    return _table(
        "Items that each pair needs, so that equal models pass in four of five gates", head, rows
    )


def _sizes(discordance: float, margin: float) -> list[int]:
    # all of k independent pairs pass with 0.8 when each does with 0.8 ** (1 / k)
    return [items_needed(discordance, margin, power=0.8 ** (1 / k)) for k in (1, 4, 12)]


def _single(generator: random.Random, draws: int) -> str:
    rows = []
    for discordance, margin, n in SINGLE:
        line = [f"{margin:g}", f"{discordance:g}", str(n)]
        for share in (0.0, -0.5, -1.0, -2.0):
            gate = partial(_gate, generator, n, discordance, [share * margin])
            found = _count(draws, gate, margin)
            line.append(_percent(found, draws))
        rows.append(line)
    head = ["margin", "discordance", "items", "Δ = 0", "Δ = −m/2", "Δ = −m", "Δ = −2m"]
    return _table("One pair: pass / inconclusive / fail, in percent", head, rows)


def _several(generator: random.Random, draws: int) -> str:
    rows = []
    for k, n in ((4, 495), (4, 800), (12, 495), (12, 1120)):
        for drop in (0.0, -0.05, -0.10):
            gate = partial(_gate, generator, n, 0.2, [drop, *[0.0] * (k - 1)])
            found = _count(draws, gate, 0.05)
            named = found["first alone fails"] / draws if drop else None
            rows.append(
                [
                    str(k), str(n), f"{drop:g}", _percent(found, draws),
                    "–" if named is None else f"{100 * named:.1f}",
                ]
            )  # fmt: skip
    head = [
        "pairs",
        "items each",
        "true Δ of one pair",
        "pass / inconclusive / fail",
        "only it FAILs",
    ]
    return _table("Several pairs, margin 0.05, discordance 0.2, in percent", head, rows)


def _graded(generator: random.Random, draws: int) -> str:
    metric = Metric("score", low=1.0, high=10.0)
    few = max(draws // 20, 20)
    rows = []
    for n in (80, 240):
        line = [str(n)]
        for drop in (0.0, -0.3, -0.6):
            found = _count(few, partial(_grades, generator, n, drop, metric), 0.3)
            line.append(_percent(found, few))
        rows.append(line)
    head = ["questions", "Δ = 0", "Δ = −m", "Δ = −2m"]
    said = f"Grades 1 to 10, margin 0.3, sd of a difference about 1.3, in percent of {few} gates"
    return _table(said, head, rows)


# ── draws ──────────────────────────────────────────────────────────────────────────────────────


def _gate(
    generator: random.Random, n: int, discordance: float, deltas: Sequence[float]
) -> list[Pair]:
    """One pair of n binary items for each true difference."""
    return [_draw(generator, n, discordance, delta) for delta in deltas]


def _grades(generator: random.Random, n: int, drop: float, metric: Metric) -> list[Pair]:
    return [_grade(generator, n, drop, metric)]


def _draw(generator: random.Random, n: int, discordance: float, delta: float) -> Pair:
    """A pair of n binary items with this true difference."""
    differing = _binomial(generator, n, discordance)
    losses = _binomial(generator, differing, (discordance - delta) / 2 / discordance)
    pair = Pair("task", "acc", "base")
    pair.found = _judged(losses, differing - losses, n)
    return pair


@cache
def _judged(losses: int, gains: int, n: int) -> Paired:
    delta = (gains - losses) / n
    lower = tango_lower(losses, gains, n)
    return Paired(
        n=n, clusters=n, value=0.5 + delta, reference_value=0.5, delta=delta,
        interval=Bounds(lower, 1.0, 0.95, "not asked", None), lower=lower,
        p=mcnemar_worse(losses, gains), method="exact McNemar, Tango", losses=losses, gains=gains,
        lost=(), gained=(), weighted=None, discordance=(losses + gains) / n,
    )  # fmt: skip


def _binomial(generator: random.Random, n: int, share: float) -> int:
    return bisect.bisect(_cumulated(n, round(share, 12)), generator.random())


@cache
def _cumulated(n: int, share: float) -> list[float]:
    return list(itertools.accumulate(binomial_pmf(k, n, share) for k in range(n)))


def _grade(generator: random.Random, n: int, drop: float, metric: Metric) -> Pair:
    """A pair of n graded questions, grades in halves as the mean of two turns."""
    ours: list[Item] = []
    theirs: list[Item] = []
    for number in range(n):
        base = generator.choice((4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0))
        moved = round(2 * (base + drop + generator.gauss(0.0, 1.3))) / 2
        for side, value in ((ours, moved), (theirs, base)):
            side.append(Item(f"{number:04}", "", min(max(value, 1.0), 10.0), ()))
    pair = Pair("task", metric.name, "base")
    found = pair_items(ours, theirs, metric, key=f"{generator.random()}", draws=400)
    if isinstance(found, Paired):
        pair.found = found
    return pair


def _count(draws: int, gate: Callable[[], list[Pair]], margin: float) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(draws):
        pairs = gate()
        for pair in pairs:
            pair.margin = margin
        judge_pairs(pairs, SETTINGS)
        found[overall(pairs, [], SETTINGS)] += 1
        failed = [place for place, pair in enumerate(pairs) if pair.verdict == "FAIL"]
        found["first alone fails"] += failed == [0]
    return found


def _percent(found: Counter[str], draws: int) -> str:
    return " / ".join(f"{100 * found[name] / draws:.1f}" for name in _ORDER)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"{title}:", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


if __name__ == "__main__":
    main()
