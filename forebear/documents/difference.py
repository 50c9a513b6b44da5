"""Names the first place in which a document is not what its facts give, and the figure there.

For people who read the answer: it says line and figure, and both texts, shortened.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from forebear.documents.locale import load_locale

_LABEL = re.compile(r"(?:[-*] \*\*|<li><strong>)(.+?):?(?:\*\*|</strong>) ")
_CAPTION = re.compile(r"(?:\*\*|<caption>)(.+?)(?:\*\*|</caption>)")
_ROW = re.compile(r"\| (.*?)\s\[|<th scope=\"row\">(.*?)\s<a")
_SHOWN = 90


def first_difference(name: str, expected: bytes, found: bytes) -> str:
    """What differs first between a document as it should be and as it is.

    Args:
        name: of the file; its ending says how it is read.
        expected: what the facts give.
        found: what lies there.
    """
    if name.endswith(".json"):
        return _difference_in_json(expected, found)
    lines = expected.decode().split("\n")
    others = found.decode("utf-8", errors="replace").split("\n")
    for number, (line, other) in enumerate(itertools.zip_longest(lines, others, fillvalue="")):
        if line != other:
            about = _figure(lines, number) or _figure(others, number)
            said = f"line {number + 1} says {_short(other)}, the facts give {_short(line)}"
            return f"{about}: {said}" if about else said
    return "is written in other bytes"


def _figure(lines: Sequence[str], number: int) -> str:
    """The figure that stands in a line: fact id, and for a table its row."""
    if number >= len(lines):
        return ""
    line = lines[number]
    label = _LABEL.match(line)
    if label is not None:
        return _ids("fact").get(label[1], label[1])
    row = next((m for m in map(_ROW.match, reversed(lines[: number + 1])) if m), None)
    if row is None:
        return ""
    for above in reversed(lines[: number + 1]):
        caption = _CAPTION.fullmatch(above)
        if caption is not None:
            table = _ids("table").get(caption[1], caption[1])
            return f"{table}[{_short(row[1] or row[2])}]"
    return ""


def _ids(kind: str) -> dict[str, str]:
    """Id of a fact or a table by its label."""
    beginning = f"{kind}."
    labels = load_locale().labels.items()
    return {text: key.removeprefix(beginning) for key, text in labels if key.startswith(beginning)}


def _difference_in_json(expected: bytes, found: bytes) -> str:
    try:
        place = _walk(json.loads(expected), json.loads(found), "", "")
    except (ValueError, RecursionError):
        return "is no JSON that the facts give"
    return place or "is written in other bytes"


def _walk(one: Any, other: Any, at: str, about: str) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        fact = one.get("fact")
        about = fact if isinstance(fact, str) else about
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                return _walk(one.get(key), other.get(key), f"{at}/{key}", about)
        return ""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                return _walk(left, right, f"{at}/{index}", about)
        return ""
    if one == other:
        return ""
    said = f"{at} says {_short(other)}, the facts give {_short(one)}"
    return f"{about}: {said}" if about else said


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(one if one.isprintable() else " " for one in text)
    return f"'{text}'" if len(text) <= _SHOWN else f"'{text[: _SHOWN - 1]}…'"
