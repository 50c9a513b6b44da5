"""The forest plot: every difference with its interval, its margin and what decided it.

Two layouts of the same rows: one for a page, one for a narrow screen. Zero is a solid line, the
margin of a row a dashed one, a required gain a short solid one, the one-sided bound that decides a
tick on the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebear.drawing.marks import Named, figure, line, mark, text, ticks, whisker

_WORDS = {
    "PASS": "pass",
    "FAIL": "fail",
    "INCONCLUSIVE": "inconclusive",
    "REPORT": "reported only",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One row: candidate minus reference, negative when the candidate is worse.

    Attributes:
        label: task and metric.
        note: what stands beside it, as the reference's name.
        delta: in points of a hundred or in the metric's own unit; None when not measured.
        low, high: ends of the two-sided interval.
        bound: the one-sided lower bound.
        margin: largest accepted drop, above 0.
        wanted: a required gain.
        verdict: one of PASS, FAIL, INCONCLUSIVE, REPORT.
    """

    label: str
    note: str = ""
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    margin: float | None = None
    wanted: float | None = None
    verdict: str = "REPORT"


@dataclass(frozen=True, slots=True)
class _Layout:
    width: float
    left: float
    right: float
    row: float
    most_ticks: int
    narrow: bool


_WIDE = _Layout(width=866, left=282, right=592, row=30, most_ticks=8, narrow=False)
_NARROW = _Layout(width=350, left=10, right=340, row=66, most_ticks=5, narrow=True)
_TOP, _FOOT = 12.0, 42.0
# Characters of a label: beside a note, and alone.
_BESIDE, _LONGEST = 28, 41


@dataclass(frozen=True, slots=True)
class Words:
    """What stands around the rows.

    Attributes:
        name: unique on the page.
        title: for who cannot see it.
        unit: of the differences.
        digits: decimals of the numbers.
    """

    name: str = "forest"
    title: str = "Differences between candidate and references"
    unit: str = "points"
    digits: int = 1


def forest(
    rows: Sequence[Difference],
    words: Words | None = None,
    *,
    narrow: bool = False,
    alone: bool = False,
) -> str:
    """The rows as SVG; with no row, a figure that says so.

    Args:
        rows: from top to bottom.
        words: title and unit.
        narrow: two lines a row, for a small screen.
        alone: whether the figure brings its style along, for use outside the report.
    """
    said = words or Words()
    layout = _NARROW if narrow else _WIDE
    axis = _Axis(layout, *_span(rows))
    height = _TOP + layout.row * max(1, len(rows)) + _FOOT
    body = axis.draw(height, said.unit)
    if not rows:
        body += text(layout.left, _TOP + 18, "nothing was compared", "soft")
    for number, row in enumerate(rows):
        body += _row(row, _TOP + layout.row * number, axis, said.digits)
    about = "; ".join(_in_words(row, said) for row in rows) or "nothing was compared"
    named = Named(said.name, said.title, about)
    return figure((layout.width, height), named, body, alone=alone)


@dataclass(frozen=True, slots=True)
class _Axis:
    layout: _Layout
    low: float
    high: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        left, right = self.layout.left, self.layout.right
        return left + min(1.0, max(0.0, share)) * (right - left)

    def draw(self, height: float, unit: str) -> str:
        layout, bottom = self.layout, height - _FOOT + 4
        body = ""
        for tick in ticks(self.low, self.high, layout.most_ticks):
            x = self.place(tick)
            body += "" if layout.narrow else line(x, _TOP - 4, x, bottom, "rule")
            body += text(x, bottom + 14, _signed(tick, 0, short=True), "soft small mid num")
        # on a narrow screen texts stand above and below each row: lines stay within it
        zero = self.place(0)
        body += "" if layout.narrow else line(zero, _TOP - 4, zero, bottom, "zero")
        middle = (layout.left + layout.right) / 2
        said = f"← worse   Δ in {unit}   better →"
        return body + text(middle, bottom + 31, said, "soft small mid")


def _span(rows: Sequence[Difference]) -> tuple[float, float]:
    """Ends of the axis: all that is drawn, zero, and some air."""
    found = [0.0]
    for row in rows:
        ends = (row.delta, row.low, row.high, row.bound, row.wanted)
        found += [value for value in ends if value is not None]
        found += [-row.margin] if row.margin is not None else []
    low, high = min(found), max(found)
    air = (high - low) * 0.06 or 1.0
    return low - air, high + air


def _row(row: Difference, top: float, axis: _Axis, digits: int) -> str:
    layout, place = axis.layout, axis.place
    numbers, verdict = _numbers(row, digits), _WORDS.get(row.verdict, row.verdict)
    if layout.narrow:
        y = top + 30
        body = line(layout.left, y, layout.right, y, "rule")
        body += line(place(0), y - 10, place(0), y + 10, "zero")
        body += text(10, top + 14, _cut(row.label, 33))
        body += text(340, top + 14, verdict, f"{row.verdict} end")
        body += text(10, top + 53, row.note, "soft small") if row.note else ""
        body += text(340, top + 53, numbers, "end num small")
    else:
        y = top + layout.row / 2
        body = text(0, y + 4.5, _cut(row.label, _BESIDE if row.note else _LONGEST))
        body += text(layout.left - 10, y + 4.5, row.note, "soft small end") if row.note else ""
        body += text(756, y + 4.5, numbers, "end num")
        body += text(768, y + 4.5, verdict, row.verdict)
    for value, kind in (
        (None if row.margin is None else -row.margin, "margin"),
        (row.wanted, "wanted"),
    ):
        if value is not None:
            body += line(place(value), y - 9, place(value), y + 9, kind)
    if row.low is not None and row.high is not None:
        body += whisker(place(row.low), place(row.high), y, row.verdict)
    if row.bound is not None:
        body += line(place(row.bound), y - 6.5, place(row.bound), y + 6.5, f"{row.verdict} thin")
    if row.delta is not None:
        body += mark(place(row.delta), y, row.verdict)
    return f"<g>{body}</g>"


def _numbers(row: Difference, digits: int) -> str:
    if row.delta is None:
        return "not measured"
    shown = _signed(row.delta, digits)
    if row.low is None or row.high is None:
        return shown
    return f"{shown} ({_signed(row.low, digits)} to {_signed(row.high, digits)})"


def _in_words(row: Difference, said: Words) -> str:
    words = f"{row.label} {row.note}".rstrip() + f": {_numbers(row, said.digits)} {said.unit}"
    if row.margin is not None:
        words += f", margin {row.margin:.{said.digits}f}"
    return f"{words}, {_WORDS.get(row.verdict, row.verdict)}"


def _signed(value: float, digits: int, *, short: bool = False) -> str:
    """A number with its sign, and a true minus."""
    shown = f"{value:+g}" if short else f"{value:+.{digits}f}"
    if float(shown) == 0:
        shown = shown.lstrip("+-")
    return shown.replace("-", "\u2212")


def _cut(label: str, longest: int = _LONGEST) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"
