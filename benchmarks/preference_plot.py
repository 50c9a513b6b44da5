"""Draws the comparison of preference methods as one SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 260, 210  # of one panel, in pixels
_LEFT, _TOP, _BOTTOM = 14, 46, 28
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # Tol's bright set
_TITLE = 'font-size="13" font-weight="bold"'
_MIDDLE = 'text-anchor="middle"'
_AXIS = 'stroke="#666666"'
_TICK = 'stroke="#222222" stroke-width="2"'


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one figure.

    Attributes:
        title: what is measured.
        unit: how, in a few words.
        names: of the bars.
        values: heights.
        marks: a tick beside each bar, such as the value before; none when left out.
    """

    title: str
    unit: str
    names: Sequence[str]
    values: Sequence[float]
    marks: Sequence[float] | None = None


def bars(heading: str, panels: Sequence[Panel], last: str = "") -> str:
    """An SVG with ``panels`` in rows of three, and ``last`` (from :func:`lines`) after them."""
    drawn = [_bars(panel) for panel in panels] + ([last] if last else [])
    rows = -(-len(drawn) // 3)
    width, height = 3 * _WIDTH, 34 + rows * _HEIGHT
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT, 22, heading, 'font-size="15" font-weight="bold"'),
    ]
    for number, drawing in enumerate(drawn):
        x, y = number % 3 * _WIDTH, 34 + number // 3 * _HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{drawing}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(panel: Panel) -> str:
    low, high = _range([*panel.values, *(panel.marks or ()), 0.0])
    slot = (_WIDTH - 2 * _LEFT) / len(panel.values)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [_text(_LEFT, 16, panel.title, _TITLE), _text(_LEFT, 31, panel.unit)]
    for number, (name, value) in enumerate(zip(panel.names, panel.values, strict=True)):
        x, top, foot = _LEFT + number * slot, y(max(value, 0)), y(min(value, 0))
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(
            f'<rect x="{x + 0.15 * slot:.1f}" y="{top:.1f}" width="{0.7 * slot:.1f}" '
            f'height="{foot - top:.1f}" fill="{colour}"/>'
        )
        where = top - 5 if value >= 0 else foot + 13
        if panel.marks is not None:
            at = y(panel.marks[number])
            parts.append(_line((x + 0.05 * slot, at), (x + 0.95 * slot, at), _TICK))
            if -4 <= where - at <= 14:  # its figure would stand on the tick
                where = at - 5
        shown = f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.1g}"
        parts.append(_text(x + slot / 2, where, shown, _MIDDLE))
        parts.append(_text(x + slot / 2, _HEIGHT - 8, name, _MIDDLE))
    parts.append(_line((_LEFT, y(0)), (_WIDTH - _LEFT, y(0)), _AXIS))
    return "".join(parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A panel of one line for each series, each scaled to its own first and extreme values."""
    parts = [
        _text(_LEFT, 16, title, _TITLE),
        _text(_LEFT, 31, "each on its own scale: losses differ in kind"),
    ]
    wide, tall = _WIDTH - 2 * _LEFT - 60, _HEIGHT - _TOP - _BOTTOM
    for number, (name, points) in enumerate(series.items()):
        low, high = _range([value for _, value in points])
        last = max(1.0, points[-1][0] - points[0][0])
        path = " ".join(
            f"{_LEFT + wide * (step - points[0][0]) / last:.1f},"
            f"{_TOP + tall * (high - value) / (high - low):.1f}"
            for step, value in points
        )
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(_WIDTH - _LEFT - 52, _TOP + 14 + 16 * number, name, f'fill="{colour}"'))
    parts.append(_line((_LEFT, _TOP + tall), (_LEFT + wide, _TOP + tall), _AXIS))
    return "".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.12 * (high - low) or 1.0
    return (low - room if low < 0 else low), high + room


def _line(start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _text(x: float, y: float, text: str, style: str = "") -> str:
    fill = "" if "fill" in style else ' fill="#222222"'
    size = "" if "font-size" in style else ' font-size="11"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{size}{fill} {style}>{escape(text)}</text>'
