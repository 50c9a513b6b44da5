"""Facts of the training data: sources, kept rows by role, filters, ledger roots.

Sources come from the params that a stage's link signs, counts from the stages' figures. A count
that a stage did not make is unknown; nothing is counted here.

Source: compliance page, section 9.1.
"""

from __future__ import annotations

from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer, value_of
from forebear.documents.values import Row, Tables, Value, Values, leaf_id, unknown

_NO_FIGURES = "the stage writes no figures"


def collect_data(
    values: Values, tables: Tables, evidence: Evidence, ledger: SignedFile | None
) -> None:
    """Adds ``data.sets``, ``data.roles``, ``data.filters`` and the values about all of them."""
    tables["data.sets"] = tuple(
        row for stage in evidence.stages for row in _set_rows(evidence, stage)
    )
    tables["data.roles"] = tuple(
        row for stage in evidence.stages for row in _role_rows(evidence, stage)
    )
    tables["data.filters"] = tuple(
        row for stage in evidence.stages for row in _filter_rows(evidence, stage)
    )
    values["data.latest_collection"] = _latest(tables["data.sets"])
    roots = value_of(ledger, "no ledger is recorded")
    for name in ("kept", "intake"):
        values[f"data.ledger.{name}"] = roots(f"/{name}/root")
        values[f"data.ledger.{name}_documents"] = roots(f"/{name}/documents", unit="documents")
    for name, unit in (("entries", "entries"), ("documents", "documents")):
        found = evidence.search(f"/takedown/{name}")
        if found.kind == "computed":
            found = found.model_copy(update={"unit": unit})
        values[f"data.takedown.{name}"] = found
    values["data.replay_share"] = evidence.search("/replay_share/realised")


def _latest(rows: tuple[Row, ...]) -> Value:
    """The end of the latest collection period; unknown while any is."""
    periods = [
        (leaf_id("data.sets", row.key, "collected_to"), row.cells["collected_to"]) for row in rows
    ]
    known = [(name, str(cell.value)) for name, cell in periods if cell.kind == "computed"]
    if not known or len(known) < len(periods):
        return unknown("the collection period of a set is not recorded")
    return Value(
        kind="computed",
        value=max(text for _, text in known),
        method="maximum",
        inputs=tuple(name for name, _ in known),
    )


def _set_rows(evidence: Evidence, stage: str) -> list[Row]:
    """One row per source that the stage's signed params declare."""
    link = evidence.link(stage)
    at = pointer(*RUN, "params", stage, "sources")
    listed = link.get(at)
    figures = value_of(evidence.metrics(stage), _NO_FIGURES)
    rows = []
    for number, source in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(source, dict):
            continue
        name = str(source.get("id", number))
        cells = {
            column: link.value(f"{at}/{number}/{column}", reason="not declared for the source")
            for column in (
                "id", "role", "publisher", "licence", "modality", "version",
                "collected_from", "collected_to",
            )
        }  # fmt: skip
        for column in ("documents", "derived"):
            cells[column] = figures(
                pointer("read", name, column), unit="documents", reason="not counted by source"
            )
        rows.append(Row(key=f"{stage}:{name}", cells=cells))
    return rows


def _role_rows(evidence: Evidence, stage: str) -> list[Row]:
    """Rows and bytes kept for each role."""
    figures = evidence.metrics(stage)
    counted = None if figures is None else figures.get("/rows")
    if figures is None or not isinstance(counted, dict):
        return []
    return [
        Row(
            key=f"{stage}:{role}",
            cells={
                "role": _label(figures, pointer("rows", role), role),
                "rows": figures.value(pointer("rows", role), unit="documents"),
                "bytes": figures.value(pointer("bytes", role), unit="bytes"),
            },
        )
        for role in sorted(counted)
    ]


def _filter_rows(evidence: Evidence, stage: str) -> list[Row]:
    """How many documents each filter dropped, over all of its rules."""
    figures = evidence.metrics(stage)
    dropped = None if figures is None else figures.get("/dropped")
    if figures is None or not isinstance(dropped, dict):
        return []
    rows = []
    for name in sorted(dropped):
        at = pointer("dropped", name)
        rules = figures.value(at, unit="documents", method="sum of the entries")
        counts = list(rules.value.values()) if isinstance(rules.value, dict) else []
        total = sum(count for count in counts if isinstance(count, int))
        cells = {
            "filter": _label(figures, at, name),
            "dropped": rules.model_copy(update={"value": total}),
        }
        rows.append(Row(key=f"{stage}:{name}", cells=cells))
    return rows


def _label(figures: SignedFile, at: str, name: str) -> Value:
    """The name of a key, resting on the place that it names."""
    return Value(kind="computed", value=name, method="name of the key", evidence=(figures.ref(at),))
