"""Facts of the training data: sets, kept rows by role, filters, ledger roots, lists that bind.

Sources come from the params that a stage's link signs, counts from the stages' figures; what only
a person can know (origin, legal basis, bias) from the declarations, by the id of the set. A count
that a stage did not make is unknown; the one estimate is tokens, from bytes and tokens per byte.

Source: compliance page, section 9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents.derive import PRODUCT, RATIO, SHARE, derived, total
from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer, value_of
from forebear.documents.fields import DECLARED
from forebear.documents.values import (
    Row,
    Tables,
    Value,
    Values,
    leaf_id,
    not_applicable,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SETS = "data.sets"
NOT_TRAINED = ("eval", "golden", "test", "validation")
SUM_OF_ENTRIES = "sum of the entries"
_NO_FIGURES = "the stage writes no figures"
_DECLARED = (
    "origin", "source_url", "licence_url", "legal_basis", "content_types", "languages",
    "redistribution", "sensitive", "known_bias", "crawler_name", "crawler_user_agent",
    "crawler_behaviour", "crawler_purpose",
)  # fmt: skip
_EITHER = ("publisher", "licence", "collected_from", "collected_to")
_SIGNED = (*_EITHER, "id", "role", "modality", "kind")
_PERIODS = ("collected_from", "collected_to")
_DERIVED = "instruction"  # role of the rows that a stage writes from its own sources
_TEXT_LIKE = {"domain": "domain", "instruction": "domain", "replay": "replay"}

Declared = dict[str, Row]


def collect_data(
    values: Values,
    tables: Tables,
    evidence: Evidence,
    ledger: SignedFile | None,
    declared: Mapping[str, tuple[Row, ...]],
) -> None:
    """Adds ``data.sets`` and the tables beside it, and the values about all of them."""
    said = {row.key: row for row in declared.get(f"{DECLARED}{SETS}", ())}
    for role in ("domain", "replay"):
        values[f"data.tokens_per_byte.{role}"] = evidence.search(
            f"/fertility/{role}/tokens_per_byte"
        )
    rows = [row for stage in evidence.stages for row in _set_rows(evidence, stage, said)]
    _add_tokens(rows, values)
    made = [row for stage in evidence.stages for row in _made_rows(evidence, stage)]
    tables[SETS] = (*rows, *made)
    tables["data.roles"] = _over(evidence, _role_rows)
    tables["data.filters"] = _over(evidence, _filter_rows)
    tables["data.decontamination"] = _over(evidence, _decontamination_rows)
    tables["data.languages"] = _over(evidence, _language_rows)
    values["data.latest_collection"] = _latest(tables[SETS])
    _add_totals(values, tables[SETS])
    synthetic = {
        leaf_id(SETS, row.key, "documents"): row.cells["documents"]
        for row in made
        if row.cells["origin"].value == "synthetic"
    }
    values["data.synthetic_documents"] = total(
        synthetic, unit="documents", what="documents", of="set"
    )
    values["data.synthetic_share"] = derived(
        RATIO, {n: values[n] for n in ("data.synthetic_documents", "data.documents")},
        reason="the documents of a set are not counted",
    )  # fmt: skip
    roots = value_of(ledger, "no ledger is recorded")
    for name in ("kept", "intake"):
        values[f"data.ledger.{name}"] = roots(f"/{name}/root")
        values[f"data.ledger.{name}_documents"] = roots(f"/{name}/documents", unit="documents")
    values["data.replay_share"] = evidence.search("/replay_share/realised")
    _add_lists(values, evidence)


def _over(evidence: Evidence, make: Any) -> tuple[Row, ...]:
    return tuple(row for stage in evidence.stages for row in make(evidence, stage))


def _latest(rows: tuple[Row, ...]) -> Value:
    """The end of the latest collection period; unknown while any is."""
    periods = [
        (leaf_id(SETS, row.key, "collected_to"), row.cells["collected_to"])
        for row in rows
        if row.cells["collected_to"].kind != "not_applicable"
    ]
    known = [(name, str(cell.value)) for name, cell in periods if cell.value is not None]
    if not known or len(known) < len(periods):
        return unknown("the collection period of a set is not recorded")
    return Value(
        kind="computed",
        value=max(text for _, text in known),
        method="maximum",
        inputs=tuple(name for name, _ in known),
    )


# ── sources ────────────────────────────────────────────────────────────────────────────────────


def _set_rows(evidence: Evidence, stage: str, said: Declared) -> list[Row]:
    """One row per source that the stage's signed params declare."""
    link = evidence.link(stage)
    at = pointer(*RUN, "params", stage, "sources")
    listed = link.get(at)
    sources = [
        (f"{at}/{number}", one)
        for number, one in enumerate(listed if isinstance(listed, list) else [])
        if isinstance(one, dict)
    ]
    roles = [str(one.get("role")) for _, one in sources]
    return [
        _source_row(evidence, stage, place, one, said.get(str(one.get("id"))),
                    alone=roles.count(str(one.get("role"))) == 1)
        for place, one in sources
    ]  # fmt: skip


def _source_row(  # noqa: PLR0913  # one argument for each place that a cell comes from
    evidence: Evidence,
    stage: str,
    at: str,
    source: Mapping[str, Any],
    said: Row | None,
    *,
    alone: bool,
) -> Row:
    link = evidence.link(stage)
    figures = evidence.metrics(stage)
    name, role = str(source.get("id", at.rpartition("/")[2])), str(source.get("role"))
    cells = {c: link.value(f"{at}/{c}", reason="not declared for the source") for c in _SIGNED}
    cells["version"] = link.value(
        f"{at}/version", f"{at}/revision", reason="not declared for the source"
    )
    own = {} if said is None else said.cells
    lacking = unknown("not declared; the data owner can supply it")
    cells |= {column: own.get(column, lacking) for column in _DECLARED}
    for column in _EITHER:
        if cells[column].value is None and column in own:
            cells[column] = own[column]
    counted = value_of(figures, _NO_FIGURES)
    for column, place in (("documents_read", "documents"), ("derived", "derived")):
        cells[column] = counted(
            pointer("read", name, place), unit="documents", reason="not counted by source"
        )
    cells |= _kept(figures, name, role, alone=alone)
    return Row(key=f"{stage}:{name}", cells=cells)


def _kept(figures: SignedFile | None, name: str, role: str, *, alone: bool) -> dict[str, Value]:
    """Documents and bytes that are left of a source, in all roles and in its own."""
    names = ("documents", "bytes", "documents_derived", "bytes_derived")
    if role in NOT_TRAINED:
        return dict.fromkeys(names, not_applicable("the set is measured on, never trained on"))
    counted = value_of(figures, _NO_FIGURES)
    by_role = {"documents": pointer("rows", role), "bytes": pointer("bytes", role)}
    cells = {}
    for column, unit in (("documents", "documents"), ("bytes", "bytes")):
        places = [pointer("kept", name, role, column)]
        if alone:
            places.append(by_role[column])
        cells[column] = counted(*places, unit=unit, reason="not counted by source")
        at = pointer("kept", name, _DERIVED, column)
        cells[f"{column}_derived"] = counted(at, unit=unit, reason="not counted by source")
        if role == _DERIVED or (
            figures is not None and not figures.get(pointer("read", name, "derived"))
        ):
            cells[f"{column}_derived"] = not_applicable("nothing is derived from the set")
    return cells


def _add_tokens(rows: list[Row], values: Values) -> None:
    """Tokens of each source as bytes times tokens per byte, and the share of each in all."""
    reason = "neither tokens nor bytes are counted by set"
    for row in rows:
        role = str(row.cells["role"].value)
        like = f"data.tokens_per_byte.{_TEXT_LIKE.get(role, 'domain')}"
        for ending in ("", "_derived"):
            size = row.cells[f"bytes{ending}"]
            parts = {leaf_id(SETS, row.key, f"bytes{ending}"): size, like: values[like]}
            row.cells[f"tokens{ending}"] = (
                size
                if size.kind == "not_applicable"
                else derived(PRODUCT, parts, unit="tokens", estimate=True, reason=reason)
            )
    trained = {leaf_id(SETS, row.key, "tokens"): row.cells["tokens"] for row in rows
               if row.cells["tokens"].kind != "not_applicable"}  # fmt: skip
    for row in rows:
        own = leaf_id(SETS, row.key, "tokens")
        row.cells["share"] = (
            derived(SHARE, trained, of=own, reason="the tokens of a set are not known")
            if own in trained
            else row.cells["tokens"]
        )


def _add_totals(values: Values, rows: tuple[Row, ...]) -> None:
    for column, unit in (("documents", "documents"), ("bytes", "bytes"), ("tokens", "tokens")):
        values[f"data.{column}"] = total(
            {
                leaf_id(SETS, row.key, name): row.cells[name]
                for row in rows
                for name in (column, f"{column}_derived")
            },
            unit=unit, what=column, of="set", estimate=column == "tokens",
        )  # fmt: skip


# ── sets that a stage makes ────────────────────────────────────────────────────────────────────


def _made_rows(evidence: Evidence, stage: str) -> list[Row]:
    """Held-out, distilled and preference sets: what the stages made of the sources."""
    figures = evidence.metrics(stage)
    if figures is None:
        return []
    rows = []
    if figures.get("/golden/n") is not None:
        rows.append(_made(figures, stage, "golden", "/golden/n", trained=False))
    if figures.get("/teacher") is not None and figures.get("/yield/kept") is not None:
        rows.append(_made(figures, stage, "trajectories", "/yield/kept"))
    if figures.get("/pairs") is not None:
        rows.append(_made(figures, stage, "pairs", "/pairs"))
    return rows


_MADE = {
    "golden": ("golden", "held out of the sources of the same stage"),
    "trajectories": ("distillation", "written by a model; see the generators"),
    "pairs": ("preference", "answers of the model, ordered by a verifier; see the generators"),
}


def _made(figures: SignedFile, stage: str, name: str, at: str, *, trained: bool = True) -> Row:
    role, origin = _MADE[name]
    label = Value(kind="computed", value=f"{stage}-{name}", method=f"named {stage}-{name}",
                  evidence=(figures.ref(at),))  # fmt: skip
    made = not_applicable(f"made by the stage {stage}: {origin}")
    cells: dict[str, Value] = dict.fromkeys(
        (*_SIGNED, *_DECLARED, "version", "documents_read", "derived", "documents_derived",
         "bytes_derived", "share"), made,
    )  # fmt: skip
    cells |= {
        "id": label,
        "role": label.model_copy(update={"value": role, "method": f"named {role}"}),
        "origin": label.model_copy(update={"value": "synthetic", "method": "named synthetic"})
        if trained else made,
        "documents": figures.value(at, unit="documents"),
        "bytes": made,
        "tokens": made,
        "tokens_derived": made,
    }  # fmt: skip
    if not trained:
        cells["documents"] = not_applicable("the set is measured on, never trained on")
        cells["documents_read"] = figures.value(at, unit="documents")
    return Row(key=f"{stage}:{name}", cells=cells)


# ── beside the sets ────────────────────────────────────────────────────────────────────────────


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
    """How many documents each filter dropped, over all of its rules, and what it was set to."""
    figures = evidence.metrics(stage)
    dropped = None if figures is None else figures.get("/dropped")
    if figures is None or not isinstance(dropped, dict):
        return []
    link = evidence.link(stage)
    rows = []
    for name in sorted(dropped):
        at = pointer("dropped", name)
        cells = {
            "filter": _label(figures, at, name),
            "dropped": _summed(figures.value(at, unit="documents")),
            "params": link.value(
                pointer(*RUN, "params", stage, name), reason="its defaults were used"
            ),
        }
        rows.append(Row(key=f"{stage}:{name}", cells=cells))
    return rows


def _decontamination_rows(evidence: Evidence, stage: str) -> list[Row]:
    """The sets that training text was held against."""
    figures = evidence.metrics(stage)
    against = None if figures is None else figures.get("/decontaminated_against")
    if figures is None or not isinstance(against, dict):
        return []
    link = evidence.link(stage)
    ngram = link.value(pointer(*RUN, "params", stage, "decontamination", "ngram"), unit="words")
    hits = _summed(figures.value("/dropped/decontamination", unit="documents"))
    return [
        Row(
            key=f"{stage}:{name}",
            cells={
                "suite": _label(figures, pointer("decontaminated_against", name), name),
                "items": figures.value(pointer("decontaminated_against", name), unit="items"),
                "ngram": ngram,
                "removed": hits,
            },
        )
        for name in sorted(against)
    ]


def _language_rows(evidence: Evidence, stage: str) -> list[Row]:
    figures = evidence.metrics(stage)
    counted = None if figures is None else figures.get("/languages")
    if figures is None or not isinstance(counted, dict):
        return []
    return [
        Row(
            key=f"{stage}:{name}",
            cells={
                "language": _label(figures, pointer("languages", name), name),
                "documents": figures.value(pointer("languages", name), unit="documents"),
                "tokens": unknown("tokens are not counted by language"),
            },
        )
        for name in sorted(counted)
    ]


def _add_lists(values: Values, evidence: Evidence) -> None:
    """What was taken out of the data by filters for personal data, and for people who asked."""
    for name, unit in (("entries", "entries"), ("documents", "documents"), ("list_sha256", None)):
        values[f"data.takedown.{name}"] = _with_unit(evidence.search(f"/takedown/{name}"), unit)
    silent = not_applicable("no opt-out list with entries was given")
    asked = evidence.search("/opt_out/entries").kind == "computed"
    for name, unit in (("entries", "entries"), ("list_sha256", None)):
        found = _with_unit(evidence.search(f"/opt_out/{name}"), unit)
        values[f"data.optout.{name}"] = found if asked else silent
    removed = _summed(_with_unit(evidence.search("/dropped/opt_out"), "documents"))
    values["data.optout.removed_documents"] = removed if asked else silent
    found = evidence.search("/pii")
    off = not_applicable("no filter for personal data was switched on")
    values["data.pii.removed"] = _summed(_with_unit(found, "places")) if found.value else off
    values["data.pii.entities"] = found if found.value else off
    for name in ("detector", "recall"):
        values[f"data.pii.{name}"] = off if not found.value else unknown("not measured")
    values["data.illegal_content.removed"] = not_applicable(
        "the pipeline has no filter for illegal content"
    )
    for name in ("exact_copy", "near_copies"):
        at = f"/dropped/{name}"
        values[f"data.dedup.{name}"] = _summed(_with_unit(evidence.search(at), "documents"))


def _with_unit(value: Value, unit: str | None) -> Value:
    return value.model_copy(update={"unit": unit}) if value.kind == "computed" else value


def _summed(value: Value) -> Value:
    """The sum of a mapping's whole numbers, resting on the mapping."""
    if not isinstance(value.value, dict):
        return value
    counts = [n for n in value.value.values() if isinstance(n, int) and not isinstance(n, bool)]
    return value.model_copy(update={"value": sum(counts), "method": SUM_OF_ENTRIES})


def _label(figures: SignedFile, at: str, name: str) -> Value:
    """The name of a key, resting on the place that it names."""
    return Value(kind="computed", value=name, method="name of the key", evidence=(figures.ref(at),))
