"""What people declare: the strict reader of the file they write.

The reader refuses unknown keys, YAML anchors and repeated keys, all faults in one message. A field
with a placeholder, or with a value of the wrong type, counts as missing and is told as such, so
that a draft can still be written. It decides nothing about the truth of a statement.

Source: compliance page, sections 3.1 and 3.2.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebear.documents.fields import FIELDS, UNKNOWN_TEXT, Field
from forebear.documents.kinds import fault_of, is_date, is_placeholder
from forebear.documents.strictyaml import parse_mapping
from forebear.documents.values import Declarer, Missing, Row, Value, unknown
from forebear.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from forebear.documents.values import Facts

_BY = "declared_by"
_SHOWN_FAULTS = 3


@dataclass(frozen=True, slots=True)
class Declarations:
    """Every field of the registry as a value.

    Attributes:
        sha256: digest of the file; None when there is no file.
        values: by fact id; a field that is not declared is unknown.
        tables: fields that are lists of mappings.
        missing: required fields without a usable declaration, and all that cannot be used.
    """

    sha256: str | None
    values: dict[str, Value]
    tables: dict[str, tuple[Row, ...]]
    missing: tuple[Missing, ...]


def parse_declarations(data: bytes | None, *, where: str) -> Declarations:
    """The declarations in ``data``; all fields missing when it is None.

    Raises:
        ConfigError: every fault of the file's form, one line each.
    """
    tree: dict[str, Any] = {} if data is None else parse_mapping(data, where=where)
    sha256 = None if data is None else hashlib.sha256(data).hexdigest()
    faults: list[str] = []
    _check_keys(tree, "", faults)
    reader = _Reader(sha256 or "", {}, {}, [])
    for field in FIELDS:
        raw = _lookup(tree, field.id)
        code, detail = _absence(field, raw)
        if code is None:
            by = _declarer(tree, field.id, faults)
            if by is not None:
                reader.read(field, raw, by)
            continue
        reader.leave_out(field, raw, code, detail)
    if faults:
        raise ConfigError(
            f"{len(faults)} fault(s)\n" + "\n".join(f"  {line}" for line in sorted(set(faults))),
            where=where,
            fix="correct the keys named above; cards/declarations.example.yaml shows each field",
        )
    missing = tuple(sorted(reader.missing, key=lambda one: one.field))
    return Declarations(sha256, reader.values, reader.tables, missing)


def declared_in(facts: Facts) -> Declarations:
    """The declarations that facts were made with, taken back out of them."""
    values = {f.fact: facts.values[f.fact] for f in FIELDS if f.fact in facts.values}
    tables = {f.fact: facts.tables[f.fact] for f in FIELDS if f.fact in facts.tables}
    missing = tuple(one for one in facts.missing if not one.detail.startswith(CONDITION))
    return Declarations(facts.declarations_sha256, values, tables, missing)


CONDITION = "required because "


def missing_field(field: Field, code: Any, detail: str = "") -> Missing:
    """The notice that stands for a field in the documents."""
    return Missing(
        code=code, field=field.id, label=field.label, supplier=field.supplier, detail=detail
    )


def _absence(field: Field, raw: Any) -> tuple[str | None, str]:
    """Why the field has no usable value (a check code, what is wrong), or None when it has one."""
    if raw is None or (isinstance(raw, (list, dict)) and not raw):
        return "C101", ""
    items = raw if isinstance(raw, list) else [raw]
    if isinstance(raw, dict):
        items = list(raw.values())
    if any(isinstance(item, str) and is_placeholder(item, field.hint) for item in items):
        return "C102", ""
    if raw == UNKNOWN_TEXT and UNKNOWN_TEXT not in field.choices:
        return "C103", ""
    text = _fault_of_rows(field, raw) if field.kind == "rows" else fault_of(field, raw)
    return ("C104", text) if text else (None, "")


def _fault_of_rows(field: Field, raw: Any) -> str:
    names = [column.name for column in field.columns]
    if not isinstance(raw, list) or not all(isinstance(row, dict) for row in raw):
        return f"must be a list of mappings with {', '.join(names)}"
    faults: list[str] = []
    for number, row in enumerate(raw):
        for key in row:
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
                meant = f"; meant {near[0]}?" if near else ""
                faults.append(f"[{number}]: unknown key {_short(key)}{meant}")
        for column in field.columns:
            value = row.get(column.name)
            if value is None and not column.required:
                continue
            text = "is a placeholder" if isinstance(value, str) and is_placeholder(value) \
                else fault_of(column, value)  # fmt: skip
            if text:
                faults.append(f"[{number}].{column.name}: {text} (got {_short(value)})")
    keys = [str(row.get(field.key)) for row in raw if field.key]
    faults += [f"{key} stands twice" for key in sorted(set(keys)) if keys.count(key) > 1]
    more = len(faults) - _SHOWN_FAULTS
    return "; ".join(faults[:_SHOWN_FAULTS]) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Collects values while the fields are read."""

    sha256: str
    values: dict[str, Value]
    tables: dict[str, tuple[Row, ...]]
    missing: list[Missing]

    def read(self, field: Field, raw: Any, by: Declarer) -> None:
        """Keeps what is declared; it has been checked."""
        if field.kind != "rows":
            self.values[field.fact] = self._declared(raw, by)
            return
        self.tables[field.fact] = tuple(
            Row(
                key=str(row[field.key]) if field.key else str(number),
                cells={name: self._declared(value, by) for name, value in row.items()
                       if value is not None},
            )
            for number, row in enumerate(raw)
        )  # fmt: skip

    def leave_out(self, field: Field, raw: Any, code: str, detail: str) -> None:
        """Notes that a field has no value, and whether it should have one."""
        admitted = raw == UNKNOWN_TEXT and (field.unknown_ok or not field.required)
        if field.kind == "rows":
            self.tables[field.fact] = ()
        else:
            reason = f"not declared; {field.supplier} can supply it"
            self.values[field.fact] = unknown("declared as unknown" if admitted else reason)
        if code in ("C102", "C104") or (field.required and not admitted):
            if code == "C104" and field.kind != "rows":
                detail = f"{detail} (got {_short(raw)})"
            self.missing.append(missing_field(field, code, detail))

    def _declared(self, value: JsonValue, by: Declarer) -> Value:
        return Value(kind="declared", value=value, by=by, declarations_sha256=self.sha256)


def _lookup(tree: Mapping[str, Any], field_id: str) -> Any:
    here: Any = tree
    for part in field_id.split("."):
        if not isinstance(here, dict):
            return None
        here = here.get(part)
    return here


def _declarer(tree: Mapping[str, Any], field_id: str, faults: list[str]) -> Declarer | None:
    """Who declares the field: the nearest ``declared_by`` above it."""
    here: Any = tree
    found = here.get(_BY)
    at = _BY
    path: list[str] = []
    for part in field_id.split(".")[:-1]:
        path.append(part)
        here = here.get(part, {})
        if _BY in here:
            found, at = here[_BY], ".".join([*path, _BY])
    if not isinstance(found, dict) or set(found) != {"name", "role", "date"}:
        faults.append(f"{at}: must hold name, role and date of the person who declares")
        return None
    bad = [k for k, v in found.items() if not isinstance(v, str) or is_placeholder(v)]
    faults += [f"{at}.{key}: must be a text" for key in bad]
    if "date" not in bad and not is_date(found["date"]):
        faults.append(f"{at}.date: must be a date YYYY-MM-DD (got {_short(found['date'])})")
        return None
    return None if bad else Declarer(**found)


def _check_keys(tree: Any, at: str, faults: list[str]) -> None:
    """Adds a fault for each key that no field has, naming the nearest known one."""
    known = {field.id for field in FIELDS}
    inner = {
        field.rsplit(".", depth)[0] for field in known for depth in range(1, field.count(".") + 1)
    }
    for key, value in tree.items():
        path = f"{at}.{key}" if at else str(key)
        if key == _BY or path in known:
            continue
        if path not in inner:
            near = difflib.get_close_matches(path, sorted(known | inner), n=1, cutoff=0.5)
            faults.append(f"{_short(path)}: unknown key" + (f"; meant {near[0]}?" if near else ""))
        elif isinstance(value, dict):
            _check_keys(value, path, faults)
        elif value is not None:
            faults.append(f"{path}: must be a mapping (got {_short(value)})")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
