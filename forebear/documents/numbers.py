"""Numbers as a reader wants them: three or four significant figures, with the unit in words.

Source: compliance page, section 12.
"""

from __future__ import annotations

import math

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_EXACT = 10_000
_WORDS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"))
_SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_MINUTE_S, _HOUR_S = 60, 3600


def format_number(number: float, unit: str | None) -> str:
    """The number with its unit; counts below ten thousand are exact."""
    if number < 0:
        return "−" + format_number(-number, unit)
    if unit == "bytes":
        return _size(number)
    if unit == "seconds":
        return _duration(number)
    if unit == "FLOP":
        return f"{_power(number)} FLOP"
    whole = float(number).is_integer() or abs(number) >= _EXACT
    text = _count(round(number)) if whole else _decimal(number)
    return f"{text} {unit}" if unit else text


def _decimal(number: float) -> str:
    if not number:
        return "0"
    if abs(number) < 1e-4:  # below, decimals are harder to read than powers
        return _power(number)
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    return f"{number:.{digits}f}"


def _count(number: float) -> str:
    if abs(number) < _EXACT:
        return f"{number:.0f}"
    for size, word in _WORDS:
        if abs(number) >= size:
            return f"{number / size:.4g} {word}"
    return f"{number:,.0f}"


def _power(number: float) -> str:
    if not number:
        return "0"
    exponent = math.floor(math.log10(abs(number)))
    return f"{number / 10**exponent:.2f} × 10{str(exponent).translate(_SUPERSCRIPT)}"


def _size(number: float) -> str:
    for size, name in _SIZES:
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:.0f} bytes"


def _duration(seconds: float) -> str:
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.3g} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.3g} min"
    return f"{seconds / _HOUR_S:.3g} h"
