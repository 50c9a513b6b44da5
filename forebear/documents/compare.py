"""Two releases compared, by their facts: what was added, removed, changed, or only bound anew.

Facts are matched by id and table rows by their key, never by position. What matters to whoever uses
or oversees the model comes first. Times and machines of a run are no change of the release.

Source: compliance page, section 11 (versions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from forebear.documents.values import Facts, Row, Value, leaf_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["added", "removed", "changed", "evidence"]
Bump = Literal["none", "patch", "minor", "major"]

# in the order shown; the first match counts
_AREAS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("licence", ("model.licence", "licences.", "copyright.", "model.labels")),
    ("code", ("use.software",)),
    ("base", ("model.ancestors", "model.base.", "train.flop_base", "train.energy_base")),
    ("weights", ("model.digest", "model.files", "model.params", "model.dtype",
                 "model.architecture", "model.vocab", "model.context", "use.chat_template")),
    ("use", ("use.",)),
    ("data", ("data.",)),
    ("scores", ("eval.",)),
    ("limits", ("limit.",)),
    ("risks", ("risk.", "oversight.", "security.")),
    ("params", ("train.objective", "train.rationale", "train.assumptions")),
    ("law", ("applicability.", "legal.")),
    ("compute", ("train.",)),
    ("provider", ("provider.", "model.", "publish.", "standards", "approvals.", "annex_iv.")),
)  # fmt: skip
AREAS = (
    "weights", "base", "data", "licence", "use", "limits", "scores", "params", "code", "risks",
    "provider", "law", "compute", "release",
)  # fmt: skip
MATERIAL = frozenset({"weights", "data", "licence", "use", "limits"})
_MAJOR = frozenset({"base", "licence", "use"})
_MINOR = frozenset({"weights", "data", "limits", "scores", "params"})
_NAMING = (
    "name",
    "text",
    "duty",
    "rule",
    "item",
    "label",
    "id",
    "path",
    "task",
    "group",
    "channel",
)
_CODE = ("commit", "uncommitted")
_RECIPE = ("method", "params", "steps", "seed", "tokens", "tokens_padded", "takes")
_LEARNED = ("loss_first", "loss_last")
_OF_A_RUN = frozenset({"train.wall_seconds", "train.cpu_seconds", "train.device_seconds",
                       "train.peak_memory"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        fact: id of a fact, of a cell, or of a row: ``table[key]``.
        area: one of :data:`AREAS`.
        old: before; None when added, or when a row is meant.
        new: now; None when removed, or when a row is meant.
        overlap: for two measured values with intervals, whether these overlap.
        cells: of a row that was added or removed.
    """

    kind: Kind
    fact: str
    area: str
    old: Value | None = None
    new: Value | None = None
    overlap: bool | None = None
    cells: Mapping[str, Value] | None = None

    @property
    def material(self) -> bool:
        """Whether it touches weights, data, licence, intended use or limitations."""
        return self.kind != "evidence" and self.area in MATERIAL

    @property
    def row(self) -> Value | None:
        """For a row that came or went, the cell that says best which it is."""
        cells = self.cells or {}
        known = (cells[name] for name in _NAMING if name in cells)
        return next((value for value in known if value.value is not None), None)

    def to_json(self) -> dict[str, Any]:
        """JSON values, exact."""
        body: dict[str, Any] = {
            "kind": self.kind, "fact": self.fact, "area": self.area, "material": self.material,
        }  # fmt: skip
        for name, value in (("old", self.old), ("new", self.new)):
            if value is not None:
                body[name] = value.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        if self.overlap is not None:
            body["intervals_overlap"] = self.overlap
        if self.cells is not None:
            body["cells"] = {name: value.value for name, value in self.cells.items()}
        return body


def compare_facts(old: Facts, new: Facts) -> tuple[Change, ...]:
    """Every difference, material ones first, then by area, kind and fact."""
    changes = [*_values(old, new), *_tables(old, new)]
    order = {area: number for number, area in enumerate(AREAS)}
    kinds = ("added", "removed", "changed", "evidence")
    return tuple(
        sorted(
            changes,
            key=lambda c: (not c.material, order[c.area], kinds.index(c.kind), c.fact),
        )
    )


def suggested_bump(changes: tuple[Change, ...]) -> Bump:
    """Which part of the version should rise, by what changed.

    Base, licence or intended use: major. Weights, data, limitations, scores or params: minor.
    Anything else that is shown otherwise than before: patch.
    """
    areas = {change.area for change in changes if change.kind != "evidence"}
    if areas & _MAJOR:
        return "major"
    if areas & _MINOR:
        return "minor"
    return "patch" if areas else "none"


def _values(old: Facts, new: Facts) -> Iterator[Change]:
    for name in sorted(old.values.keys() | new.values.keys()):
        if name not in _OF_A_RUN and name != "release.previous":
            yield from _leaf(name, _area(name), old.values.get(name), new.values.get(name))


def _tables(old: Facts, new: Facts) -> Iterator[Change]:
    for table in sorted(old.tables.keys() | new.tables.keys()):
        before = {row.key: row for row in old.tables.get(table, ())}
        after = {row.key: row for row in new.tables.get(table, ())}
        for key in sorted(before.keys() | after.keys()):
            if key not in before or key not in after:
                row = after.get(key) or before[key]
                kind: Kind = "added" if key not in before else "removed"
                yield Change(kind, f"{table}[{key}]", _area(table), cells=row.cells)
            else:
                yield from _row(table, before[key], after[key])


def _row(table: str, old: Row, new: Row) -> Iterator[Change]:
    for cell in sorted(old.cells.keys() | new.cells.keys()):
        area = _area_of_stage(cell) if table == "train.stages" else _area(table)
        if area is not None:
            name = leaf_id(table, old.key, cell)
            yield from _leaf(name, area, old.cells.get(cell), new.cells.get(cell))


def _leaf(name: str, area: str, old: Value | None, new: Value | None) -> Iterator[Change]:
    if old is None or new is None:
        known = new or old
        if known is not None and known.kind != "unknown":
            yield Change("added" if old is None else "removed", name, area, old, new)
        return
    if _shown(old) != _shown(new):
        yield Change("changed", name, area, old, new, _overlap(old, new))
    elif _bound(old) != _bound(new):
        yield Change("evidence", name, area, old, new)


def _shown(value: Value) -> tuple[Any, ...]:
    """What a reader sees; why something is unknown is no part of it."""
    kind = value.kind if value.value is None else ""
    return kind, repr(value.value), value.unit, value.estimate, value.interval


def _bound(value: Value) -> tuple[Any, ...]:
    """What it rests on; the file of declarations as a whole says nothing about one of them."""
    return value.kind, value.evidence, value.inputs, value.method, value.by, value.source


def _overlap(old: Value, new: Value) -> bool | None:
    if old.interval is None or new.interval is None:
        return None
    return old.interval.low <= new.interval.high and new.interval.low <= old.interval.high


def _area(name: str) -> str:
    for area, beginnings in _AREAS:
        if name.startswith(beginnings):
            return area
    return "release"


def _area_of_stage(cell: str) -> str | None:
    """Area of a stage's figure; None for times and machines, which differ with every run."""
    if cell in _CODE:
        return "code"
    if cell in _RECIPE:
        return "params"
    if cell in _LEARNED:
        return "weights"
    return "compute" if cell.startswith(("flop", "energy")) else None
