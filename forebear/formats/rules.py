"""In-toto's artifact rules, read by ourselves: fast where a layout has many steps.

Stock in-toto keeps a copy of its whole queue for every rule, so that a step with 20,000 rules over
20,000 artifacts takes gigabytes. This reader knows the five rules that our layouts use and refuses
every other; a property test holds it to what stock in-toto says.

Source: in-toto specification v1.0, section 4.3.3 "Artifact rules".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from forebear.errors import FormatError

Rule = Sequence[str]
Products = Callable[[str], Mapping[str, str] | None]

_ESCAPED = re.compile(r"\[([\[*?])\]")
_GLOB = re.compile(r"[\[*?]")


def broken_rule(
    rules: Sequence[Rule],
    artifacts: Mapping[str, str],
    created: Collection[str],
    products_of: Products,
) -> str | None:
    """The first rule that does not hold, in words; None when all do.

    Args:
        rules: expected materials or expected products of a step, in their order.
        artifacts: the step's own materials or products, name to digest: what the rules consume.
        created: names among the step's products that are not among its materials.
        products_of: products of another step's link, by its name; None when there is no such link.

    Raises:
        FormatError: a rule is none of REQUIRE, CREATE, ALLOW, DISALLOW and
            MATCH … WITH PRODUCTS FROM ….
    """
    queue = set(artifacts)
    for rule in rules:
        kind, pattern = _read(rule)
        if kind == "REQUIRE":
            if pattern not in queue:
                return f"'REQUIRE {pattern}' finds no such artifact"
        elif kind == "DISALLOW":
            left = sorted(matching(pattern, queue))
            if left:
                return f"'DISALLOW {pattern}' finds {', '.join(left[:5])}"
        elif kind == "MATCH":
            made = products_of(rule[5])
            if made is not None:
                queue -= {
                    name for name in matching(pattern, queue) if made.get(name) == artifacts[name]
                }
        else:
            found = matching(pattern, queue)
            queue -= found if kind == "ALLOW" else found.intersection(created)
    return None


def matching(pattern: str, names: Collection[str]) -> set[str]:
    """The names that a glob pattern matches; ``*`` crosses ``/``."""
    literal = _literal(pattern)
    if literal is not None:
        return {literal} if literal in names else set()
    if pattern == "*":
        return set(names)
    start = _literal(pattern[:-1]) if pattern.endswith("*") else None
    if start is not None:
        return {name for name in names if name.startswith(start)}
    return set(fnmatch.filter(names, pattern))


def _read(rule: Rule) -> tuple[str, str]:
    """Kind and pattern of a rule, when it is one of ours."""
    kind = rule[0].upper() if rule else ""
    simple = kind in {"REQUIRE", "CREATE", "ALLOW", "DISALLOW"} and len(rule) == 2
    match = (
        kind == "MATCH"
        and len(rule) == 6  # MATCH p WITH PRODUCTS FROM s
        and [word.upper() for word in rule[2:5]] == ["WITH", "PRODUCTS", "FROM"]
    )
    if not (simple or match):
        raise FormatError(f"is no rule that our layouts use: {' '.join(rule)[:80]!a}", "layout")
    return kind, rule[1]


def _literal(pattern: str) -> str | None:
    """The one name that a pattern matches; None for a pattern with a wildcard in it."""
    if _GLOB.search(_ESCAPED.sub("", pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)
