"""What people declare: the fields, their guidance, and the strict reader of the file they write.

The reader refuses unknown keys, values of the wrong type, YAML anchors and repeated keys, all
faults in one message. It decides nothing about the truth of a statement, and never fills one in:
a placeholder counts as missing.

Source: compliance page, sections 3.1 and 3.2.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from forebear.documents.fields import FIELDS, UNKNOWN_TEXT, Field
from forebear.documents.strictyaml import parse_mapping
from forebear.documents.values import Declarer, Missing, Row, Value, unknown
from forebear.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

_BY = "declared_by"
_WEB = re.compile(r"https?://[!#-&(-;=?-\[\]_a-z~|]+")
_MAIL = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
_PLAIN = Field("", "date", "", "")
_PLACEHOLDERS = {"", "todo", "tbd", "fixme", "lorem", "xxx", "..."}


@dataclass(frozen=True, slots=True)
class Declarations:
    """Every field of the registry as a value.

    Attributes:
        sha256: digest of the file; None when there is no file.
        values: by fact id; a field that is not declared is unknown.
        tables: fields that are lists of mappings.
        missing: required fields without a usable declaration, sorted by field.
    """

    sha256: str | None
    values: dict[str, Value]
    tables: dict[str, tuple[Row, ...]]
    missing: tuple[Missing, ...]


def parse_declarations(data: bytes | None, *, where: str) -> Declarations:
    """The declarations in ``data``; all fields missing when it is None.

    Raises:
        ConfigError: every fault of the file, one line each.
    """
    tree: dict[str, Any] = {} if data is None else parse_mapping(data, where=where)
    sha256 = None if data is None else hashlib.sha256(data).hexdigest()
    faults: list[str] = []
    _check_keys(tree, "", faults)
    values: dict[str, Value] = {}
    tables: dict[str, tuple[Row, ...]] = {}
    missing: list[Missing] = []
    reader = _Reader(sha256 or "", values, tables, faults)
    for field in FIELDS:
        raw = _lookup(tree, field.id)
        code = _absence(field, raw)
        if code is None:
            by = _declarer(tree, field.id, faults)
            reader.read(field, raw, by)
            continue
        reason = f"not declared; {field.supplier} can supply it"
        if raw == UNKNOWN_TEXT:
            reason = "declared as unknown"
        if field.kind != "rows":
            values[field.id] = unknown(reason)
        else:
            tables[field.id] = ()
        if field.required and not (raw == UNKNOWN_TEXT and field.unknown_ok):
            missing.append(
                Missing(code=code, field=field.id, label=field.label, supplier=field.supplier)
            )
    if faults:
        raise ConfigError(
            f"{len(faults)} fault(s)\n" + "\n".join(f"  {line}" for line in sorted(set(faults))),
            where=where,
            fix="correct the keys named above; cards/declarations.example.yaml shows each field",
        )
    return Declarations(sha256, values, tables, tuple(sorted(missing, key=lambda m: m.field)))


def _absence(field: Field, raw: Any) -> Any:
    """Why the field has no usable value (a check code), or None when it has one."""
    if raw is None or (isinstance(raw, (list, dict)) and not raw):
        return "C101"
    items = raw if isinstance(raw, list) else [raw]
    texts = [item.strip().lower() for item in items if isinstance(item, str)]
    if any(text in _PLACEHOLDERS or text == field.hint.strip().lower() for text in texts):
        return "C102"
    if raw == UNKNOWN_TEXT and UNKNOWN_TEXT not in field.choices:
        return "C103"
    return None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Collects values and faults while the fields are read."""

    sha256: str
    values: dict[str, Value]
    tables: dict[str, tuple[Row, ...]]
    faults: list[str]

    def read(self, field: Field, raw: Any, by: Declarer | None) -> None:
        if field.kind == "rows":
            self._read_rows(field, raw, by)
            return
        fault = _fault(field, raw)
        if fault:
            self.faults.append(f"{field.id}: {fault} (got {_short(raw)})")
        elif by is not None:
            self.values[field.id] = self._declared(raw, by)

    def _declared(self, value: JsonValue, by: Declarer) -> Value:
        return Value(kind="declared", value=value, by=by, declarations_sha256=self.sha256)

    def _read_rows(self, field: Field, raw: Any, by: Declarer | None) -> None:
        columns = ", ".join(field.columns)
        if not isinstance(raw, list) or not all(isinstance(row, dict) for row in raw):
            self.faults.append(f"{field.id}: must be a list of mappings with {columns}")
            return
        for number, row in enumerate(raw):
            where = f"{field.id}[{number}]"
            unknown_keys = [_short(key) for key in row if key not in field.columns]
            self.faults.extend(f"{where}: unknown key {key}" for key in unknown_keys)
            for column in field.columns:
                text = row.get(column)
                if not isinstance(text, str) or text.strip().lower() in _PLACEHOLDERS:
                    self.faults.append(f"{where}.{column}: must be a text (got {_short(text)})")
        if by is not None:
            self.tables[field.id] = tuple(
                Row(
                    key=str(number),
                    cells={c: self._declared(str(row.get(c)), by) for c in field.columns},
                )
                for number, row in enumerate(raw)
            )


def _fault(field: Field, raw: Any) -> str:
    """What is wrong with the value's type; empty when nothing is."""
    if field.kind in _PLAIN_TYPES:
        holds, fault = _PLAIN_TYPES[field.kind]
        return "" if holds(raw) else fault
    return _TYPES[field.kind](field, raw)


def _is_country(raw: Any) -> bool:
    return isinstance(raw, str) and re.fullmatch(r"[A-Z]{2}", raw) is not None


def _is_list(raw: Any) -> bool:
    return isinstance(raw, list) and all(isinstance(item, str) for item in raw)


def _is_count(raw: Any) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0


def _choice(field: Field, raw: Any) -> str:
    return "" if raw in field.choices else f"must be one of {', '.join(field.choices)}"


def _date(field: Field, raw: Any) -> str:
    if isinstance(raw, str) and raw in field.choices:
        return ""
    try:
        held = isinstance(raw, str) and date.fromisoformat(raw).isoformat() == raw
    except ValueError:
        held = False
    also = f" or {' or '.join(field.choices)}" if field.choices else ""
    return "" if held else f"must be a date YYYY-MM-DD{also}"


def _address(field: Field, raw: Any) -> str:
    if isinstance(raw, str):
        web = re.fullmatch(_WEB, raw)
        mail = re.fullmatch(_MAIL, raw)
        if raw in field.choices or web or (mail and field.kind == "contact"):
            return ""
    return "must be an http(s) address" + (" or e-mail" if field.kind == "contact" else "")


_PLAIN_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "text": (lambda raw: isinstance(raw, str), "must be a text"),
    "list": (_is_list, "must be a list of texts"),
    "bool": (lambda raw: isinstance(raw, bool), "must be true or false"),
    "int": (_is_count, "must be a whole number"),
    "country": (_is_country, "must be a country code of two capitals (ISO 3166-1)"),
}
_TYPES: Mapping[str, Callable[[Field, Any], str]] = {
    "choice": _choice,
    "date": _date,
    "url": _address,
    "contact": _address,
}


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
    bad = [k for k, v in found.items() if not isinstance(v, str) or v.lower() in _PLACEHOLDERS]
    faults += [f"{at}.{key}: must be a text" for key in bad]
    if "date" not in bad and _date(_PLAIN, found["date"]):
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
