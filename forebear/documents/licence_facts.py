"""The licences of everything the model was made of, as tables: items, duties, conflicts, reviews.

Gathers the items from the other facts and asks :func:`forebear.documents.licences.combine`.

Source: compliance page, section 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents.data import NOT_TRAINED
from forebear.documents.licences import Context, Item, Report, Review, combine
from forebear.documents.values import Row, Tables, Value, Values, leaf_id, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.documents.legal import LegalFile

_RULE = "rule licences"
_NOTICE = "NOTICE"


def add(values: Values, tables: Tables, law: LegalFile) -> None:
    """Adds ``licences.*``."""
    base, merged = _ancestors(tables)
    sets, teachers, judges = _sets(tables), _teachers(tables), _judges(tables)
    declared = _declared(values)
    report = combine(
        base, sets, teachers, merged, declared, _context(values, tables, law),
        judges=judges, reviews=_reviews(tables),
    )  # fmt: skip
    everything = [name for item in (*base, *merged, *sets, *teachers) for name in item.inputs]
    inputs = list(dict.fromkeys([*everything, *(declared.inputs if declared else ())]))
    _write(values, tables, report, inputs or ["model.base.name"])


def _write(values: Values, tables: Tables, report: Report, inputs: list[str]) -> None:
    values["licences.status"] = _ruled(report.status, inputs)
    values["licences.open_eu"] = _ruled(report.open_eu, inputs)
    values["licences.user_cap"] = _ruled(report.capped, inputs)
    values["licences.notices"] = _ruled(list(report.notices), inputs)
    tables["licences.items"] = tuple(
        Row(
            key=f"{one.item.use}:{one.item.path}",
            cells={
                "item": _ruled(one.item.name, one.item.inputs),
                "path": _ruled(one.item.path, one.item.inputs),
                "licence": unknown("no licence is recorded")
                if one.item.licence is None
                else _ruled(one.item.licence, one.item.inputs),
                "use": _ruled(one.item.use, one.item.inputs),
                "class": _ruled(
                    ", ".join(dict.fromkeys(e.kind for e in one.entries)), one.item.inputs
                )
                if one.entries
                else unknown("not in the licence table"),
                "status": _ruled(one.status, one.item.inputs),
                "reason": _ruled(one.reason, one.item.inputs),
                "source": _ruled(one.entries[0].source.url, one.item.inputs)
                if one.entries
                else unknown("not in the licence table"),
            },
        )
        for one in report.items
    )
    tables["licences.obligations"] = tuple(
        Row(
            key=f"{duty.origin}:{duty.kind}:{number}",
            cells={
                "duty": _ruled(duty.text, duty.inputs),
                "kind": _ruled(duty.kind, duty.inputs),
                "origin": _ruled(duty.origin, duty.inputs),
                "met": unknown("cannot be told from the facts")
                if duty.met is None
                else _ruled(duty.met, [*duty.inputs, "model.name"]),
                "source": _ruled(duty.source, duty.inputs),
            },
        )
        for number, duty in enumerate(report.duties)
    )
    tables["licences.conflicts"] = tuple(
        Row(
            key=str(number),
            cells={
                "rule": _ruled(one.rule, one.inputs),
                "items": _ruled(list(one.items), one.inputs),
                "reason": _ruled(one.reason, one.inputs),
                "source": _ruled(one.source, one.inputs),
            },
        )
        for number, one in enumerate(report.conflicts)
    )


def _ruled(value: Any, inputs: Sequence[str]) -> Value:
    return Value(kind="computed", value=value, method=_RULE, inputs=tuple(inputs))


def _text(value: Value | None) -> str | None:
    return None if value is None or value.value is None else str(value.value)


# ── items ──────────────────────────────────────────────────────────────────────────────────────


def _ancestors(tables: Tables) -> tuple[list[Item], list[Item]]:
    """The original, and parents of a merge that are not checkpoints of this pipeline."""
    base, merged = [], []
    for row in tables.get("model.ancestors", ()):
        use = _text(row.cells.get("use"))
        name, licence = _text(row.cells["name"]), row.cells["licence"]
        inputs = tuple(leaf_id("model.ancestors", row.key, c) for c in ("name", "licence"))
        if use == "finetune":
            base.append(Item(name or "the original", "original model", _text(licence), "base",
                             inputs))  # fmt: skip
        elif use == "merge" and licence.kind != "not_applicable":
            merged.append(Item(name or row.key, f"parent of the merge: {name}", _text(licence),
                               "merge", inputs))  # fmt: skip
    return base, merged


def _sets(tables: Tables) -> list[Item]:
    items = []
    for row in tables.get("data.sets", ()):
        licence = row.cells["licence"]
        if licence.kind == "not_applicable":
            continue
        role, name = _text(row.cells["role"]), _text(row.cells["id"]) or row.key
        inputs = tuple(leaf_id("data.sets", row.key, c) for c in ("id", "licence", "role"))
        use = "evaluation" if role in NOT_TRAINED else "dataset"
        items.append(Item(name, f"data set {name}", _text(licence), use, inputs))  # type: ignore[arg-type]  # one of two literals
    return items


def _teachers(tables: Tables) -> list[Item]:
    items = []
    for row in tables.get("data.generators", ()):
        if row.cells["own"].value is True:
            continue
        name = _text(row.cells["model"]) or row.key
        inputs = tuple(leaf_id("data.generators", row.key, c) for c in ("model", "terms"))
        items.append(Item(name, f"answers of {name} in the stage {row.key}",
                          _text(row.cells["terms"]), "teacher", inputs))  # fmt: skip
    return items


def _judges(tables: Tables) -> list[Item]:
    return [
        Item(row.key, f"judge {row.key}", None, "judge",
             (leaf_id("eval.judges", row.key, "judge"),))
        for row in tables.get("eval.judges", ())
    ]  # fmt: skip


def _declared(values: Values) -> Item | None:
    licence = _text(values.get("model.licence"))
    if licence is None:
        return None
    return Item(licence, "licence declared for the model", licence, "output", ("model.licence",))


def _context(values: Values, tables: Tables, law: LegalFile) -> Context:
    def flag(name: str) -> bool | None:
        found = values.get(name)
        return found.value if found is not None and isinstance(found.value, bool) else None

    country = _text(values.get("provider.country"))
    mau = values.get("provider.mau")
    files = tables.get("model.files", ())
    return Context(
        in_union=None if country is None else country in law.eu_countries,
        monetised=flag("model.open.monetised"),
        mau=mau.value if mau is not None and isinstance(mau.value, int) else None,
        distributed=flag("model.open.weights_public"),
        name=_text(values.get("model.name")) or "",
        has_notice=any(row.key.upper().startswith(_NOTICE) for row in files) if files else None,
    )


def _reviews(tables: Tables) -> dict[str, Review]:
    found = {}
    for row in tables.get("licences.reviews", ()):
        said = {name: _text(row.cells.get(name)) or "" for name in
                ("item", "conclusion", "by", "role", "date", "lifts")}  # fmt: skip
        found[said["item"]] = Review(
            said["item"], said["conclusion"], said["by"], said["role"], said["date"],
            lifts=said["lifts"] == "yes",
        )  # fmt: skip
    return found
