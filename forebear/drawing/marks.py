"""What all figures are made of: escaped text, round ticks, marks by verdict, one style sheet.

Colours are variables with a light and a dark value; a figure that stands alone brings them along.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

# Line ends, tabs, spaces of other widths, and the joiners that some scripts are written with.
_KEPT = "\n\t\u2009\u00a0\u200c\u200d"

_LIGHT = {
    "ink": "#1d2126",
    "soft": "#59636e",
    "rule": "#d5dbe1",
    "pass": "#1a7340",
    "fail": "#b3261e",
    "open": "#8a5a00",
    "ours": "#1f5fae",
    "theirs": "#7a8590",
    "paper": "#ffffff",
}
_DARK = {
    "ink": "#e6e9ec",
    "soft": "#a3adb8",
    "rule": "#3a424b",
    "pass": "#5cc98a",
    "fail": "#ff8d84",
    "open": "#e5b454",
    "ours": "#7fb2f5",
    "theirs": "#8f9aa6",
    "paper": "#16191d",
}


def _variables(values: dict[str, str]) -> str:
    return "".join(f"--fb-{name}:{value};" for name, value in values.items())


# For the page that holds the figures; a figure of its own repeats it.
STYLE = (
    f":root{{{_variables(_LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(_DARK)}}}}}"
    f"@media print{{:root{{{_variables(_LIGHT)}}}}}"
    "svg.fb{display:block;max-width:100%;height:auto;font-family:inherit}"
    ".fb text{fill:var(--fb-ink);font-size:13px}"
    ".fb .soft{fill:var(--fb-soft)}.fb .small{font-size:11.5px}"
    ".fb .num{font-variant-numeric:tabular-nums}"
    ".fb .end{text-anchor:end}.fb .mid{text-anchor:middle}"
    ".fb .rule{stroke:var(--fb-rule);stroke-width:1}"
    ".fb .zero{stroke:var(--fb-ink);stroke-width:1.25}"
    ".fb .margin{stroke:var(--fb-soft);stroke-width:1.75;stroke-dasharray:3 2.5}"
    ".fb .wanted{stroke:var(--fb-soft);stroke-width:1.75}"
    ".fb .line{stroke-width:2.25;fill:none}.fb .bar{stroke:none}"
    ".fb .thin{stroke-width:1.25;fill:none}"
    ".fb .PASS{stroke:var(--fb-pass);fill:var(--fb-pass)}"
    ".fb .FAIL{stroke:var(--fb-fail);fill:var(--fb-fail)}"
    ".fb .INCONCLUSIVE{stroke:var(--fb-open);fill:var(--fb-open)}"
    ".fb .REPORT{stroke:var(--fb-soft);fill:var(--fb-soft)}"
    ".fb .ours{stroke:var(--fb-ours);fill:var(--fb-ours)}"
    ".fb .theirs{stroke:var(--fb-theirs);fill:var(--fb-theirs)}"
    ".fb .hollow{fill:var(--fb-paper);stroke-width:2}"
    ".fb text.PASS,.fb text.FAIL,.fb text.INCONCLUSIVE,.fb text.REPORT{stroke:none}"
)


def escape(content: str) -> str:
    """A text for an element or an attribute, without control characters."""
    return html.escape(printable(content))


def printable(content: str) -> str:
    """The text without what has no form of its own; line ends and tabs stay."""
    return "".join(c for c in content if c.isprintable() or c in _KEPT)


def text(x: float, y: float, content: str, kind: str = "") -> str:
    """One line of text, escaped."""
    shown = f' class="{kind}"' if kind else ""
    return f'<text x="{at(x)}" y="{at(y)}"{shown}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    ends = f'x1="{at(x1)}" y1="{at(y1)}" x2="{at(x2)}" y2="{at(y2)}"'
    return f'<line {ends} class="{escape(kind)}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{at(x)}" y="{at(y)}" width="{at(max(0.0, width))}" height="{at(height)}" '
        f'class="{escape(kind)}"/>'
    )


def mark(x: float, y: float, verdict: str) -> str:
    """A point: circle for PASS, cross for FAIL, hollow triangle for INCONCLUSIVE, else square."""
    if verdict == "PASS":
        return f'<circle cx="{at(x)}" cy="{at(y)}" r="5" class="PASS"/>'
    if verdict == "FAIL":
        path = f"M{at(x - 5)} {at(y - 5)}L{at(x + 5)} {at(y + 5)}M{at(x - 5)} {at(y + 5)}"
        return f'<path d="{path}L{at(x + 5)} {at(y - 5)}" class="FAIL" stroke-width="3.5"/>'
    if verdict == "INCONCLUSIVE":
        path = f"M{at(x)} {at(y - 6)}L{at(x + 6)} {at(y + 5)}L{at(x - 6)} {at(y + 5)}Z"
        return f'<path d="{path}" class="INCONCLUSIVE hollow"/>'
    return f'<rect x="{at(x - 4.5)}" y="{at(y - 4.5)}" width="9" height="9" class="REPORT hollow"/>'


def whisker(x1: float, x2: float, y: float, kind: str, cap: float = 3.5) -> str:
    """An interval with its two ends."""
    return (
        line(x1, y, x2, y, f"{kind} line")
        + line(x1, y - cap, x1, y + cap, f"{kind} line")
        + line(x2, y - cap, x2, y + cap, f"{kind} line")
    )


@dataclass(frozen=True, slots=True)
class Named:
    """What a screen reader says of a figure.

    Attributes:
        name: unique on its page; ids are made of it.
        title: said first.
        about: the figure in words.
    """

    name: str
    title: str
    about: str


def figure(size: tuple[float, float], named: Named, body: str, *, alone: bool = False) -> str:
    """The whole figure.

    Args:
        size: width and height, in its own units.
        named: for who cannot see it.
        body: its elements.
        alone: whether it brings its style along, for use outside a page.
    """
    width, height = size
    key = "".join(c if c.isalnum() else "-" for c in named.name)
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    style = f"<style>{STYLE}</style>" if alone else ""
    return (
        f'<svg{space} class="fb" viewBox="0 0 {at(width)} {at(height)}" '
        f'width="{at(width)}" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{escape(named.title)}</title>'
        f'<desc id="{key}-d">{escape(named.about)}</desc>{style}{body}</svg>'
    )


def at(value: float) -> str:
    """A coordinate: two decimals at most, never ``-0``."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most``, zero among them if it is inside."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * k for k in (1, 2, 5, 10, 20) if span / (power * k) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Mark:
    """A value on a short axis.

    Attributes:
        name: whose it is.
        interval: its two ends, or None.
        kind: ``ours`` or ``theirs``.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    kind: str


def tracks(marks: Sequence[Mark], span: tuple[float, float]) -> str:
    """Values with their intervals below each other on one short axis, for a table's cell.

    Args:
        marks: from top to bottom.
        span: ends of the axis.
    """
    width, step, pad = 150.0, 13.0, 6.0
    height = step * len(marks) + 6

    def place(x: float) -> float:
        share = (x - span[0]) / ((span[1] - span[0]) or 1.0)
        return pad + min(1.0, max(0.0, share)) * (width - 2 * pad)

    body = "".join(line(place(x), 2, place(x), height - 2, "rule") for x in span)
    told = []
    for number, one in enumerate(marks):
        y = 3 + step * (number + 0.5)
        body += line(pad, y, width - pad, y, "rule")
        words = f"{one.name} {one.value:.3g}"
        if one.interval is not None:
            body += whisker(place(one.interval[0]), place(one.interval[1]), y, one.kind)
            words += f" ({one.interval[0]:.3g} to {one.interval[1]:.3g})"
        body += f'<circle cx="{at(place(one.value))}" cy="{at(y)}" r="4" class="{one.kind}"/>'
        told.append(words)
    return (
        f'<svg class="fb" viewBox="0 0 {at(width)} {at(height)}" width="{at(width)}" role="img" '
        f'aria-label="{escape("; ".join(told))}">{body}</svg>'
    )
