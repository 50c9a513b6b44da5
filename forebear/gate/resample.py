"""Resampling with a generator of our own, so that an auditor draws what we drew.

The generator is PCG64 (XSL-RR, 128 bit), its state and stream taken from the SHA-256 of a text such
as ``seed|task|metric``; it gives what numpy's gives from the same state. Sums are exactly rounded,
so no order of addition and no version of Python moves a bound.

Source: evaluation page, section 11.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from statistics import NormalDist

DRAWS = 2000
FLIPS = 10_000
EXACT_DIFFERENCES = 16  # up to here all sign patterns are counted, beyond they are drawn
SEED = 20260101

_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_MASK_128 = (1 << 128) - 1
_MASK_64 = (1 << 64) - 1
_MASK_32 = (1 << 32) - 1
_NORMAL = NormalDist()

Statistic = Callable[[Sequence[int]], float | None]


class Pcg64:
    """Random 64 bit numbers, as numpy's ``PCG64`` gives them from the same state."""

    __slots__ = ("_half", "_increment", "_state")

    def __init__(self, key: str) -> None:
        digest = hashlib.sha256(key.encode()).digest()
        self._state = int.from_bytes(digest[:16], "big")
        self._increment = int.from_bytes(digest[16:], "big") | 1
        self._half: int | None = None

    @property
    def state(self) -> tuple[int, int]:
        """State and increment, both of 128 bits."""
        return self._state, self._increment

    def next64(self) -> int:
        """The next number in [0, 2^64)."""
        state = (self._state * _MULTIPLIER + self._increment) & _MASK_128
        self._state = state
        turn = state >> 122
        word = (state >> 64) ^ (state & _MASK_64)
        return ((word >> turn) | (word << (-turn & 63))) & _MASK_64

    def next32(self) -> int:
        """The next number in [0, 2^32): the low half of a word, then its high half."""
        if self._half is not None:
            half, self._half = self._half, None
            return half
        word = self.next64()
        self._half = word >> 32
        return word & _MASK_32

    def indices(self, n: int, count: int) -> list[int]:
        """``count`` numbers in [0, n), each equally likely; n is at most 2^32.

        Source: Lemire 2019, as in numpy's ``Generator.integers``.
        """
        if n == 1:
            return [0] * count
        threshold = (1 << 32) % n
        drawn = []
        for _ in range(count):
            product = self.next32() * n
            while product & _MASK_32 < threshold:
                product = self.next32() * n
            drawn.append(product >> 32)
        return drawn


@dataclass(frozen=True, slots=True)
class Bounds:
    """An interval and how it was made.

    Attributes:
        low: lower end.
        high: upper end.
        level: of the two-sided interval.
        method: in words.
        draws: number of draws; None where nothing was drawn.
    """

    low: float
    high: float
    level: float
    method: str
    draws: int | None


def bootstrap(n: int, statistic: Statistic, *, key: str, draws: int = DRAWS) -> list[float | None]:
    """The statistic of ``draws`` samples of size n, drawn with replacement.

    Args:
        n: number of units (clusters or items).
        statistic: of the indices drawn; None where it is undefined.
        key: what the generator starts from, ``seed|task|metric``.
        draws: how many.
    """
    generator = Pcg64(key)
    return [statistic(generator.indices(n, n)) for _ in range(draws)]


def interval(
    n: int, statistic: Statistic, *, key: str, level: float = 0.95, draws: int = DRAWS
) -> Bounds | None:
    """BCa interval of the statistic over n units; None where it is undefined.

    A statistic that is undefined on more than one draw in twenty has no interval.
    """
    estimate = statistic(range(n))
    drawn = defined(bootstrap(n, statistic, key=key, draws=draws))
    if estimate is None or drawn is None:
        return None
    low, high = bca(estimate, drawn, jackknife(n, statistic), level)
    return Bounds(low, high, level, "BCa", draws)


def defined(drawn: Sequence[float | None]) -> list[float] | None:
    """The draws on which the statistic is defined; None when that is not nearly all."""
    values = [value for value in drawn if value is not None]
    return values if values and len(values) >= 0.95 * len(drawn) else None


def jackknife(n: int, statistic: Statistic) -> list[float]:
    """The statistic without each unit in turn, where it is defined."""
    everyone = list(range(n))
    left = (statistic(everyone[:one] + everyone[one + 1 :]) for one in range(n)) if n > 1 else ()
    return [value for value in left if value is not None]


def bca(
    estimate: float, drawn: Sequence[float], left_out: Sequence[float], level: float
) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds, (low, high).

    Args:
        estimate: the statistic of the sample itself.
        drawn: of each bootstrap sample.
        left_out: of the sample without each unit in turn.
        level: of the two-sided interval.

    Source: Efron 1987.
    """
    count = len(drawn)
    below = sum(value < estimate for value in drawn) + 0.5 * drawn.count(estimate)
    # an estimate beyond every draw would have an infinite correction
    bias = _NORMAL.inv_cdf(min(max(below / count, 0.5 / count), 1 - 0.5 / count))
    speed = _acceleration(left_out)
    ordered = sorted(drawn)
    tail = (1 - level) / 2
    ends = []
    for share in (tail, 1 - tail):
        moved = bias + _NORMAL.inv_cdf(share)
        ends.append(quantile(ordered, _NORMAL.cdf(bias + moved / (1 - speed * moved))))
    return ends[0], ends[1]


def _acceleration(left_out: Sequence[float]) -> float:
    if not left_out:
        return 0.0
    centre = math.fsum(left_out) / len(left_out)
    away = [centre - value for value in left_out]
    square = math.fsum(one * one for one in away)
    return math.fsum(one**3 for one in away) / (6 * square**1.5) if square > 0 else 0.0


def quantile(ordered: Sequence[float], share: float) -> float:
    """The ``share`` quantile of sorted values, straight between neighbours."""
    place = share * (len(ordered) - 1)
    low = min(max(math.floor(place), 0), len(ordered) - 1)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def sign_flip(differences: Sequence[float], *, key: str, flips: int = FLIPS) -> float:
    """One-sided p that the differences are below 0 only by chance of their signs.

    All sign patterns are counted up to 16 differences that are not 0; beyond, ``flips`` are drawn.
    """
    sizes = _as_integers([one for one in differences if one])
    observed = sum(sizes)
    if not sizes:
        return 1.0
    if len(sizes) <= EXACT_DIFFERENCES:
        sums = [0]
        for size in sizes:
            sums = [total + one for total in sums for one in (-size, size)]
        return sum(total <= observed for total in sums) / len(sums)
    tables = [_flipped_sums(sizes[at : at + 8]) for at in range(0, len(sizes), 8)]
    generator = Pcg64(key)
    words = -(-len(tables) // 8)
    hits = 0
    for _ in range(flips):
        signs = b"".join(generator.next64().to_bytes(8, "little") for _ in range(words))
        hits += sum(table[byte] for table, byte in zip(tables, signs, strict=False)) <= observed
    return (1 + hits) / (flips + 1)


def swap_test(
    n: int, difference: Callable[[int], float | None], *, key: str, flips: int = FLIPS
) -> float | None:
    """As :func:`sign_flip`, for a difference that is no sum: both runs swapped in some units.

    Args:
        n: units in which the two runs differ.
        difference: candidate minus reference, sign-aligned, with the units of the bit mask swapped.
        key: what the generator starts from.
        flips: number of drawn patterns beyond 16 units.
    """
    observed = difference(0)
    if observed is None:
        return None
    edge = observed + 1e-12 * max(1.0, abs(observed))  # equal but for the last bits of a sum
    if n <= EXACT_DIFFERENCES:
        patterns = [difference(mask) for mask in range(1 << n)]
        return _share_below(patterns, edge, extra=0)
    generator = Pcg64(key)
    words = -(-n // 64)
    drawn = []
    for _ in range(flips):
        mask = 0
        for _ in range(words):
            mask = mask << 64 | generator.next64()
        drawn.append(difference(mask & ((1 << n) - 1)))
    return _share_below(drawn, edge, extra=1)


def _share_below(values: Sequence[float | None], edge: float, *, extra: int) -> float:
    """An undefined difference counts as one that could be as low: it speaks against nobody."""
    hits = sum(value is None or value <= edge for value in values)
    return (extra + hits) / (extra + len(values))


def _as_integers(values: Sequence[float]) -> list[int]:
    """The values times one power of two, exact, so that equal sums are equal."""
    shares = [Fraction(value) for value in values]
    scale = max((share.denominator for share in shares), default=1)
    return [int(share * scale) for share in shares]


def _flipped_sums(sizes: Sequence[int]) -> list[int]:
    """For each byte the sum of up to eight sizes, negative where its bit is set."""
    table = []
    for byte in range(256):
        signed = (-size if byte >> bit & 1 else size for bit, size in enumerate(sizes))
        table.append(list(accumulate(signed))[-1])
    return table
