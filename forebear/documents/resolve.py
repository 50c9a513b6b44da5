"""Whether a shown value is what its evidence says: the pointer followed, or the sum made again.

Knows the shape of values, not where evidence lies: the caller brings the content of a place.

Source: compliance page, sections 1 and 3, and 13.7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forebear.documents.ancestors import PRESENT
from forebear.documents.derive import OPERATIONS
from forebear.documents.evidence import ABSENT, follow
from forebear.documents.labels import EACH
from forebear.documents.rules import FAMILIES, RULE, again
from forebear.formats import strictjson

if TYPE_CHECKING:
    from forebear.documents.values import EvidenceRef, Interval, Value

COUNT = "count"
SUM_OF_ENTRIES = "sum of the entries"
NAME_OF_KEY = "name of the key"
NAMED = "named "
FAMILY = "family by model type"


def fault(value: Value, leaves: Mapping[str, Value], content: Callable[[EvidenceRef], Any]) -> str:
    """What does not hold about a computed value; empty when it is what its evidence says.

    Args:
        value: of kind ``computed``.
        leaves: every value by its id, for those that are made of others.
        content: the parsed file of a place; what it raises passes through.
    """
    if value.inputs:
        return _fault_of_inputs(value, leaves)
    if value.method == EACH:
        said = [follow(content(ref), ref.pointer) for ref in value.evidence]
        return (
            ""
            if said == value.value
            else f"is {_short(value.value)}, the places say {_short(said)}"
        )
    return _fault_of_place(value, content)


def _fault_of_place(value: Value, content: Callable[[EvidenceRef], Any]) -> str:
    if len(value.evidence) != 1:
        return f"cites {len(value.evidence)} places, where one belongs"
    ref = value.evidence[0]
    file = content(ref)
    found = follow(file, ref.pointer)
    if found is ABSENT:
        return f"cites {ref.path} at {ref.pointer}, where nothing stands"
    said = _derived(value.method, ref, found)
    if not _equal(said, value.value):
        return f"is {_short(value.value)}, {ref.path} says {_short(said)} at {ref.pointer}"
    return _fault_of_interval(value.interval, file, ref)


def _derived(method: str | None, ref: EvidenceRef, found: Any) -> Any:
    """What follows from the place's content by the few ways in which it is not shown as it is."""
    if method == COUNT and isinstance(found, list):
        return len(found)
    if method == SUM_OF_ENTRIES and isinstance(found, dict):
        return sum(n for n in found.values() if isinstance(n, int) and not isinstance(n, bool))
    if method is not None and method.startswith(NAMED):
        return method.removeprefix(NAMED)
    words = {
        NAME_OF_KEY: ref.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~"),
        PRESENT: True,
        FAMILY: FAMILIES.get(str(found)),
    }
    return words.get(method or "", found)


def _fault_of_inputs(value: Value, leaves: Mapping[str, Value]) -> str:
    lacking = [name for name in value.inputs if name not in leaves]
    if lacking:
        return f"is made of {lacking[0]}, which does not exist"
    method = value.method or ""
    if method.startswith(RULE):
        return _fault_of_rule(value, leaves)
    if method not in OPERATIONS:
        return f"is derived by {_short(value.method)}, which is not known"
    parts = [leaves[name].value for name in value.inputs]
    try:
        said = OPERATIONS[method](parts)
    except TypeError:
        return "is made of values that are no numbers"
    if not _equal(said, value.value):
        return f"is {_short(value.value)}, the {value.method} of its inputs is {_short(said)}"
    return ""


def _fault_of_rule(value: Value, leaves: Mapping[str, Value]) -> str:
    """A rule looks at more than one value, so all of them are derived again."""
    name = next((name for name, leaf in leaves.items() if leaf is value), "")
    said = _derived_again(leaves).get(name)
    if said is None:
        return "is given by no rule"
    return "" if said == value else f"is {_short(value.value)}, the rule gives {_short(said.value)}"


_kept: list[tuple[tuple[tuple[str, Value], ...], dict[str, Value]]] = []


def _derived_again(leaves: Mapping[str, Value]) -> dict[str, Value]:
    """What the rules give, kept for as long as the same leaves are asked about."""
    key = tuple(leaves.items())
    if not _kept or _kept[0][0] != key:
        _kept[:] = [(key, again(leaves))]
    return _kept[0][1]


def _fault_of_interval(interval: Interval | None, file: Any, ref: EvidenceRef) -> str:
    """An interval stands beside the value that it is about."""
    if interval is None:
        return ""
    beside = follow(file, f"{ref.pointer.rpartition('/')[0]}/interval")
    said = beside if isinstance(beside, dict) else {}
    for name in ("low", "high", "level"):
        if not _equal(said.get(name), getattr(interval, name)):
            return (
                f"has an interval whose {name} is {getattr(interval, name)}, "
                f"{ref.path} says {_short(said.get(name))}"
            )
    return ""


def _equal(one: Any, other: Any) -> bool:
    return strictjson.canonical(one) == strictjson.canonical(other)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
