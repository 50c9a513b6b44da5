"""Two smaller figures: scores by category, and how far a judge's confidence can be believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forebear.drawing.marks import Named, at, figure, line, rect, text

_LONGEST = 24
_Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Bar:
    """One category of one task, as shares in [0, 1].

    Attributes:
        label: the category.
        n: its items.
        ours: (value, low, high) of the candidate; ends may be None.
        theirs: of the reference, or None.
    """

    label: str
    n: int
    ours: tuple[float, float | None, float | None]
    theirs: tuple[float, float | None, float | None] | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a calibration curve: mean confidence and share correct of ``n`` answers."""

    n: int
    confidence: float
    accuracy: float


def bars(rows: Sequence[Bar], *, name: str, title: str, sides: tuple[str, str]) -> str:
    """Two bars a category with their intervals, on an axis from 0 to 100 %."""
    width, left, right, step = 420.0, 168.0, 380.0, 34.0
    height = step * len(rows) + 26

    def place(share: float) -> float:
        return left + min(1.0, max(0.0, share)) * (right - left)

    body = ""
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        body += line(place(tick), 2, place(tick), height - 22, "rule")
        shown = f"{tick:.0%}" if tick in (0.0, 0.5, 1.0) else ""
        body += text(place(tick), height - 7, shown, "soft small mid") if shown else ""
    told = []
    for number, row in enumerate(rows):
        top = step * number + 4
        label = row.label if len(row.label) <= _LONGEST else f"{row.label[: _LONGEST - 1]}…"
        body += text(0, top + 13, label, "small")
        body += text(0, top + 26, f"n = {row.n}", "soft small")
        body += _bar(row.ours, "ours", top + 2, place)
        body += _bar(row.theirs, "theirs", top + 15, place) if row.theirs else ""
        told.append(_told(row, *sides))
    return figure((width, height), Named(name, title, "; ".join(told)), body)


def _bar(
    value: tuple[float, float | None, float | None], kind: str, top: float, place: _Place
) -> str:
    share, low, high = value
    body = rect(place(0), top, place(share) - place(0), 10, f"{kind} bar")
    if low is not None and high is not None:
        body += line(place(low), top + 5, place(high), top + 5, "zero")
        body += line(place(low), top + 2.5, place(low), top + 7.5, "zero")
        body += line(place(high), top + 2.5, place(high), top + 7.5, "zero")
    return body


def _told(row: Bar, ours: str, theirs: str) -> str:
    told = f"{row.label}, {row.n} items: {ours} {row.ours[0]:.0%}"
    return f"{told}, {theirs} {row.theirs[0]:.0%}" if row.theirs else told


def reliability(bins: Sequence[Bin], *, name: str, title: str) -> str:
    """Share correct over confidence: on the dashed diagonal the judge means what it says."""
    size, pad, foot = 240.0, 34.0, 38.0
    height = 10 + size - pad + foot

    def x(share: float) -> float:
        return pad + share * (size - pad)

    def y(share: float) -> float:
        return 10 + (1 - share) * (size - pad)

    body = ""
    for tick in (0.0, 0.5, 1.0):
        body += line(x(tick), y(0), x(tick), y(1), "rule") + line(
            x(0), y(tick), x(1), y(tick), "rule"
        )
        body += text(x(tick), y(0) + 15, f"{tick:g}", "soft small mid")
        body += text(pad - 6, y(tick) + 4, f"{tick:g}", "soft small end")
    body += line(x(0), y(0), x(1), y(1), "margin")
    body += text(x(0.5), y(0) + 31, "confidence  (up: share correct)", "soft small mid")
    filled = [one for one in bins if one.n]
    most = max((one.n for one in filled), default=1)
    points = " ".join(f"{at(x(one.confidence))},{at(y(one.accuracy))}" for one in filled)
    body += f'<polyline points="{points}" class="ours line" style="fill:none"/>'
    for one in filled:
        radius = 3 + 4 * (one.n / most) ** 0.5
        body += (
            f'<circle cx="{at(x(one.confidence))}" cy="{at(y(one.accuracy))}" r="{at(radius)}" '
            'class="ours"/>'
        )
    told = "; ".join(
        f"confidence {one.confidence:.2f}: {one.accuracy:.2f} correct of {one.n}" for one in filled
    )
    named = Named(name, title, told or "no answer had a probability")
    return figure((size + 10, height), named, body)
