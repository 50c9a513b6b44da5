"""Values that a document derives: sums, ratios, unit changes, roundings and look-ups.

Each names its inputs, so that a reader can go back to the figure it came from; what rests on an
unknown is unknown.

Source: compliance page, section 1, rule 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from forebear.documents.values import Facts, Row, Value, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KWH_PER_MWH = 1000
SECONDS_PER_DAY = 86_400
_TWO = 2


def fact(facts: Facts, name: str) -> Value:
    """A fact, unknown when nothing is recorded."""
    return facts.values.get(name, unknown("not recorded"))


def cell(row: Row, name: str) -> Value:
    """A cell of a table's row, unknown when nothing is recorded."""
    return row.cells.get(name, unknown("not recorded"))


def derived(
    value: Value, inputs: Sequence[str], method: str, change: Callable[[Any], Any], *,
    unit: str | None = None,
) -> Value:  # fmt: skip
    """The value changed; what is unknown or does not apply stays so.

    Args:
        value: to change.
        inputs: ids of the facts that it is.
        method: in words.
        change: of the bare value.
        unit: of the result.
    """
    if value.kind in ("unknown", "not_applicable"):
        return value
    return value.model_copy(
        update={
            "value": change(value.value),
            "unit": unit,
            "interval": None,
            "method": method,
            "inputs": tuple(inputs),
            "evidence": (),
        }
    )


def joined(parts: Sequence[tuple[str, Value]], method: str, separator: str = "; ") -> Value:
    """The texts of the known values as one."""
    known = [(name, value) for name, value in parts if value.value not in (None, "", [])]
    if not known:
        return parts[0][1]
    if len(known) == 1 and not isinstance(known[0][1].value, list):
        return known[0][1]
    text = separator.join(_text(value.value).rstrip(".") for _, value in known)
    first = known[0][1]
    if first.kind == "declared" and all(value.by == first.by for _, value in known):
        return first.model_copy(update={"value": text})
    return Value(kind="computed", value=text, method=method, inputs=tuple(n for n, _ in known))


def _text(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def total(parts: Mapping[str, Value], unit: str) -> Value:
    """Sum of numbers; unknown as soon as one of them is."""
    for value in parts.values():
        if not isinstance(value.value, (int, float)):
            return unknown(value.reason or "a part of the sum is not recorded")
    if not parts:
        return unknown("nothing is recorded")
    numbers = [value.value for value in parts.values() if isinstance(value.value, (int, float))]
    return Value(kind="computed", value=sum(numbers), unit=unit, method="sum", inputs=tuple(parts))


def two_figures(number: float) -> float:
    """Rounded to two significant figures."""
    return significant(number, _TWO)


def significant(number: float, figures: int) -> float:
    """Rounded to so many significant figures; a whole number stays one."""
    if not number:
        return number
    digits = figures - 1 - math.floor(math.log10(abs(number)))
    rounded = round(number, digits)
    return int(rounded) if isinstance(number, int) or float(rounded).is_integer() else rounded


def magnitude(number: float) -> float:
    """The power of ten at or below a positive number; 0 for 0."""
    return 10 ** math.floor(math.log10(number)) if number > 0 else 0


def month(text: str) -> str:
    """``YYYY-MM`` or ``YYYY-MM-DD`` as ``MM/YYYY``."""
    year, number = text.split("-")[:2]
    return f"{number}/{year}"


def day(text: str) -> str:
    """``YYYY-MM-DD…`` as ``DD/MM/YYYY``."""
    year, number, last = text[:10].split("-")
    return f"{last}/{number}/{year}"
