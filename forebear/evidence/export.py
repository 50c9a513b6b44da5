"""A walk through the graph as text, as JSON values, as Graphviz and as Mermaid.

Equal walks give equal bytes. JSON is flat, with a row's parent by number, since a chain may be
longer than a parser nests. Names come from the evidence: each format escapes what would steer it.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from forebear.evidence.graph import Row, Walk

SCHEMA = "forebear.trace/v2"
FORMATS = ("tree", "json", "dot", "mermaid")

_SHORT = 12
# deeper rows say their depth instead: ten thousand stages in a row would indent by 20 kB a line
_INDENTED = 40
_MERMAID_PLAIN = set(" ./_-:@+,=")


def render_tree(walk: Walk) -> Iterator[str]:
    """Lines of an indented tree, then the broken edges and what has no known origin."""
    for row in walk.rows:
        yield f"{_indent(row.depth)}{_label(row)}"
    for at, (_, _, text) in enumerate(walk.broken):
        yield f"{'first broken edge' if at == 0 else 'broken edge'}: {text}"


def to_json(walk: Walk) -> dict[str, Any]:
    """The walk as JSON values: ``found`` is where it began, ``rows`` all that it met."""
    return {
        "schema": SCHEMA,
        "direction": walk.direction,
        "found": [
            {"path": row.path, "digest": row.digest} for row in walk.rows if row.parent is None
        ],
        "rows": [
            {
                "path": row.path,
                "digest": row.digest,
                "depth": row.depth,
                "parent": row.parent,
                "via": row.via,
                "origin": row.origin,
                "made_by": list(row.made_by),
                "again": row.again,
                "broken": row.broken,
            }
            for row in walk.rows
        ],
        "broken": [
            {"stage": stage, "path": path, "text": text} for stage, path, text in walk.broken
        ],
    }


def render_dot(walk: Walk) -> Iterator[str]:
    """Lines of a Graphviz digraph: ellipses are artifacts, boxes are stages."""
    drawn = _draw(walk)
    yield "digraph forebear {"
    yield "  rankdir=LR;"
    for name, number in drawn.stages.items():
        yield f'  s{number} [shape=box, label="{_dot(name)}"];'
    for (path, digest), number in drawn.artifacts.items():
        label = f"{_dot(path)}\\n{digest[:_SHORT]}"
        style = drawn.styles.get(number, "")
        yield f'  a{number} [shape=ellipse, label="{label}"{_DOT_STYLES[style]}];'
    for one, other, broken in drawn.edges:
        yield f"  {one} -> {other}{' [color=red, style=dashed]' if broken else ''};"
    yield "}"


def render_mermaid(walk: Walk) -> Iterator[str]:
    """Lines of a Mermaid flowchart: rounded are artifacts, rectangles are stages."""
    drawn = _draw(walk)
    yield "flowchart LR"
    for name, number in drawn.stages.items():
        yield f'  s{number}["{_mermaid(name)}"]'
    for (path, digest), number in drawn.artifacts.items():
        yield f'  a{number}("{_mermaid(path)}<br/>{digest[:_SHORT]}")'
    for one, other, broken in drawn.edges:
        yield f"  {one} {'-. broken .->' if broken else '-->'} {other}"
    for style, css in _MERMAID_STYLES.items():
        numbers = [f"a{number}" for number, own in drawn.styles.items() if own == style]
        if numbers:
            yield f"  classDef {style} {css}"
            yield f"  class {','.join(numbers)} {style}"


RENDERERS: dict[str, Callable[[Walk], Iterator[str]]] = {
    "tree": render_tree,
    "dot": render_dot,
    "mermaid": render_mermaid,
}

_DOT_STYLES = {
    "": "",
    "start": ", style=bold",
    "source": ", style=dotted",
    "unknown": ", color=red",
}
_MERMAID_STYLES = {
    "start": "stroke-width:3px",
    "source": "stroke-dasharray:3",
    "unknown": "stroke:#c00",
}


@dataclass(slots=True)
class _Drawing:
    """Nodes by number and edges by node name, in the order in which the walk met them."""

    artifacts: dict[tuple[str, str], int] = field(default_factory=dict)
    stages: dict[str, int] = field(default_factory=dict)
    styles: dict[int, str] = field(default_factory=dict)
    edges: dict[tuple[str, str, bool], None] = field(default_factory=dict)


def _draw(walk: Walk) -> _Drawing:
    drawn = _Drawing()
    for row in walk.rows:
        via = _stage(drawn, row.via) if row.via else ""
        if walk.direction == "forward" and row.parent is not None:
            drawn.edges[_artifact(drawn, walk.rows[row.parent]), via, False] = None
        if not row.path:
            continue
        node = _artifact(drawn, row)
        if row.origin == "stage":
            for name in row.made_by:
                drawn.edges[_stage(drawn, name), node, False] = None
        if walk.direction == "back" and via:
            drawn.edges[node, via, bool(row.broken)] = None
    return drawn


def _artifact(drawn: _Drawing, row: Row) -> str:
    number = drawn.artifacts.setdefault((row.path, row.digest), len(drawn.artifacts))
    style = "start" if row.parent is None else row.origin
    if style in _MERMAID_STYLES:
        drawn.styles.setdefault(number, style)
    return f"a{number}"


def _stage(drawn: _Drawing, name: str) -> str:
    return f"s{drawn.stages.setdefault(name, len(drawn.stages))}"


def _indent(depth: int) -> str:
    return "  " * depth if depth <= _INDENTED else f"{'  ' * _INDENTED}({depth}) "


def _label(row: Row) -> str:
    if not row.path:
        return f"stage {row.via} wrote nothing"
    origin = {
        "source": "source",
        "link": "a link, whose stage is traced by its files",
        "parts": "several outs, file by file",
        "unknown": "unknown origin",
    }.get(row.origin, f"made by {' and '.join(row.made_by)}")
    again = ", shown above" if row.again else ""
    broken = ", BROKEN" if row.broken else ""
    return f"{row.path}  {row.digest[:_SHORT]}  {origin}{again}{broken}"


def _dot(text: str) -> str:
    """Text inside a quoted Graphviz label, where a backslash or a quote would mean something."""
    return "".join(
        f"\\{one}" if one in '"\\' else one if one.isprintable() else _visible(one) for one in text
    )


def _visible(one: str) -> str:
    return f"&#{ord(one)};"


def _mermaid(text: str) -> str:
    """Text inside a quoted Mermaid label: everything but plain characters by its number."""
    return "".join(
        one if one.isalnum() or one in _MERMAID_PLAIN else f"#{ord(one)};" for one in text
    )
