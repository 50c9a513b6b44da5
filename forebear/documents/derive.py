"""The few ways in which a value may follow from other values, each with its name.

The name stands in the value as its ``method``, so that a reader, and the verifier, can do it again.
Sums, shares and products only: nothing here knows what a figure means.

Source: compliance page, sections 1 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forebear.documents.values import Value, unknown

_MAX_EXACT = 2**53  # larger integers have no canonical JSON form

SUM, MAXIMUM, RATIO, PRODUCT, SHARE = "sum", "maximum", "ratio", "product", "share"
TRAINED = "6·N·D"
GENERATED = "2·N·D"


def total_of(numbers: Sequence[Any], *, largest: bool) -> Any:
    """Sum, or maximum, in the order given; as a float where an integer has no canonical form.

    Raises:
        TypeError: they cannot be added or compared.
    """
    if not numbers:
        raise TypeError("nothing is to be added")
    return _plain(max(numbers) if largest else sum(numbers))


def _plain(number: Any) -> Any:
    """A whole number that JSON cannot hold exactly, as a float."""
    if isinstance(number, int) and abs(number) >= _MAX_EXACT:
        return float(number)
    return number


def _ratio(parts: Sequence[Any]) -> Any:
    whole, part = parts[1], parts[0]
    if not whole:
        raise TypeError("nothing is to be divided by")
    return part / whole


OPERATIONS: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    SUM: lambda parts: total_of(parts, largest=False),
    MAXIMUM: lambda parts: total_of(parts, largest=True),
    PRODUCT: lambda parts: _plain(math.prod(parts)),
    RATIO: _ratio,
    # the part first, then everything that makes up the whole, itself included
    SHARE: lambda parts: _ratio([parts[0], sum(parts[1:])]),
    # N parameters, D tokens; the tokens may stand in several parts
    TRAINED: lambda parts: _plain(6 * parts[0] * sum(parts[1:])),
    GENERATED: lambda parts: _plain(2 * parts[0] * sum(parts[1:])),
}


def derived(  # noqa: PLR0913  # each said by name
    method: str,
    parts: Mapping[str, Value],
    *,
    unit: str | None = None,
    estimate: bool = False,
    reason: str = "not recorded",
    of: str | None = None,
) -> Value:
    """What follows from the parts by the method; unknown when one of them is.

    Args:
        method: a key of :data:`OPERATIONS`.
        parts: the values by their ids, in the order that the method wants.
        unit: of what follows.
        estimate: whether it follows from a formula over other figures.
        reason: why it is unknown, when a part is.
        of: id of a part that stands before all of them, for a share.
    """
    names = (*([of] if of is not None else []), *parts)
    numbers = [parts[name].value for name in names]
    if not parts or any(number is None for number in numbers):
        return unknown(reason)
    try:
        value = OPERATIONS[method](numbers)
    except TypeError:
        return unknown(reason)
    return Value(
        kind="computed",
        value=value,
        unit=unit,
        estimate=estimate or any(part.estimate for part in parts.values()),
        lower_bound=any(part.lower_bound for part in parts.values()),
        method=method,
        inputs=names,
    )


def total(  # noqa: PLR0913  # each said by name
    cells: Mapping[str, Value],
    *,
    unit: str,
    what: str,
    of: str = "stage",
    estimate: bool = False,
    largest: bool = False,
) -> Value:
    """Sum or maximum of the cells that are known; a lower bound where one is not.

    Cells that do not apply add nothing.
    """
    n = sum(cell.kind == "unknown" for cell in cells.values())
    known = {
        name: cell for name, cell in cells.items() if cell.kind not in ("unknown", "not_applicable")
    }
    reason = f"{what} is not recorded for {n} {of}{'s' if n != 1 else ''}"
    made = derived(MAXIMUM if largest else SUM, known, unit=unit, estimate=estimate, reason=reason)
    if n and made.kind == "computed":
        return made.model_copy(update={"lower_bound": True, "reason": reason})
    return made
