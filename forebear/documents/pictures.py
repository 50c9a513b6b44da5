"""Pictures that stand beside tables in HTML and PDF: differences of scores with their intervals.

Drawn from the document's own table, so that picture and figures cannot disagree. Markdown has the
table alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents.body import Body, TableBlock
from forebear.documents.locale import load_locale
from forebear.documents.tables import PAIRS, RESULTS
from forebear.drawing import Difference, Words, forest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebear.documents.locale import Locale
    from forebear.documents.values import Value

_POINTS = 100  # of a share


def pictures_of(document: Body) -> dict[str, str]:
    """SVG by the caption of the table that it belongs to."""
    locale = load_locale(document.language)
    tables = {
        block.fact: block
        for section in document.sections
        for block in section.blocks
        if isinstance(block, TableBlock)
    }
    results = tables.get(RESULTS.fact)
    if results is None:
        return {}
    tested = _tested(tables.get(PAIRS.fact))
    rows = [row for row in (_difference(cells, tested, locale) for cells in _cells(results)) if row]
    if not rows:
        return {}
    words = Words(
        name="scores", title=locale.text("picture.scores"), unit=locale.text("picture.points")
    )
    return {results.caption: forest(rows, words)}


def _cells(table: TableBlock) -> Iterable[dict[str, Value]]:
    names = RESULTS.cells if table.fact == RESULTS.fact else PAIRS.cells
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def _tested(table: TableBlock | None) -> dict[tuple[object, ...], dict[str, Value]]:
    if table is None:
        return {}
    return {_key(cells): cells for cells in _cells(table)}


def _key(cells: Mapping[str, Value]) -> tuple[object, ...]:
    return tuple(cells[name].value for name in ("task", "metric", "reference"))


def _difference(
    cells: Mapping[str, Value],
    tested: Mapping[tuple[object, ...], Mapping[str, Value]],
    locale: Locale,
) -> Difference | None:
    """One row; None for a figure that is no share, or was not measured."""
    delta, shares = cells["delta"], (cells["candidate_score"], cells["reference_score"])
    known = [one.value for one in (delta, *shares)]
    if not all(isinstance(one, (int, float)) and -1 <= one <= 1 for one in known):
        return None
    pair = tested.get(_key(cells), {})
    interval = delta.interval
    return Difference(
        label=locale.word("name", str(cells["task"].value)),
        note=locale.text(
            "picture.against", name=locale.word("name", str(cells["reference"].value))
        ),
        delta=_points(delta.value),
        low=None if interval is None else _points(interval.low),
        high=None if interval is None else _points(interval.high),
        bound=_points(pair["lower"].value) if "lower" in pair else None,
        margin=_points(pair["margin"].value) if "margin" in pair else None,
        verdict=str(pair["verdict"].value) if "verdict" in pair else "REPORT",
    )


def _points(share: object) -> float | None:
    return _POINTS * share if isinstance(share, (int, float)) else None
