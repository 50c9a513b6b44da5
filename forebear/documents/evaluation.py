"""Facts of the evaluation: scores with intervals beside the reference's, and the gate's verdict.

Reads what the ``eval`` stage decided and decides nothing itself.

Source: compliance page, section 9.3; evaluation page, section 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebear.documents.values import (
    Interval,
    Row,
    Tables,
    Value,
    Values,
    not_applicable,
    unknown,
)

if TYPE_CHECKING:
    from forebear.documents.evidence import SignedFile

_NO_EVAL = "no evaluation is recorded"
_NO_SCORE = "not measured"
_NO_REASONS = not_applicable("the gate states reasons only where a test does not pass")


def collect_evaluation(
    values: Values,
    tables: Tables,
    gate: SignedFile | None,
    comparison: SignedFile | None,
) -> None:
    """Adds ``eval.results``, ``eval.gate.*``, ``eval.pairs`` and ``eval.waivers``."""
    tables["eval.results"] = () if comparison is None else _result_rows(comparison)
    tables["eval.pairs"] = () if gate is None else _pair_rows(gate)
    tables["eval.waivers"] = () if gate is None else _waiver_rows(gate)
    for name in ("verdict", "profile", "label"):
        values[f"eval.gate.{name}"] = (
            unknown(_NO_EVAL) if gate is None else _text(gate, f"/{name}", "none given")
        )
    values["eval.gate.waivers"] = (
        unknown(_NO_EVAL) if gate is None else _counted(gate.value("/waivers"))
    )


def _counted(value: Value) -> Value:
    """The number of entries of a list, resting on the list itself."""
    if not isinstance(value.value, list):
        return value
    return value.model_copy(update={"value": len(value.value), "method": "count"})


def _text(file: SignedFile, pointer: str, reason: str) -> Value:
    """The text at the pointer; an empty one says nothing, so it is unknown."""
    return file.value(pointer) if file.get(pointer) else unknown(reason)


def _result_rows(comparison: SignedFile) -> tuple[Row, ...]:
    rows = []
    tasks = comparison.get("/tasks")
    for number, task in enumerate(tasks if isinstance(tasks, list) else []):
        if not isinstance(task, dict):
            continue
        at = f"/tasks/{number}"
        rows.append(
            Row(
                key=f"{task.get('task')}:{task.get('reference')}",
                cells={
                    "task": comparison.value(f"{at}/task"),
                    "reference": comparison.value(f"{at}/reference"),
                    "candidate_score": _measured(comparison, f"{at}/scores/candidate", "value"),
                    "reference_score": _measured(comparison, f"{at}/scores/reference", "value"),
                    "delta": _measured(comparison, at, "delta"),
                    "n": comparison.value(f"{at}/n", unit="items", reason=_NO_SCORE),
                },
            )
        )
    return tuple(rows)


def _measured(file: SignedFile, at: str, name: str) -> Value:
    """A score with the interval that stands beside it."""
    value = file.value(f"{at}/{name}", reason=_NO_SCORE)
    if value.kind != "computed":
        return value
    return value.model_copy(update={"interval": _interval(file.get(f"{at}/interval"))})


def _interval(raw: Any) -> Interval | None:
    if not isinstance(raw, Mapping):
        return None
    low, high, level = raw.get("low"), raw.get("high"), raw.get("level")
    if not all(isinstance(bound, (int, float)) for bound in (low, high, level)):
        return None
    return Interval(
        low=float(low or 0), high=float(high or 0), level=float(level or 0),
        method=str(raw.get("method", "not stated")),
    )  # fmt: skip


def _pair_rows(gate: SignedFile) -> tuple[Row, ...]:
    rows = []
    pairs = gate.get("/pairs")
    for number, pair in enumerate(pairs if isinstance(pairs, list) else []):
        if not isinstance(pair, dict):
            continue
        at = f"/pairs/{number}"
        cells = {
            name: gate.value(f"{at}/{name}", reason="not set")
            for name in ("task", "reference", "margin", "delta", "lower", "p_holm", "verdict")
        }
        cells["reasons"] = gate.value(f"{at}/reasons") if pair.get("reasons") else _NO_REASONS
        rows.append(Row(key=f"{pair.get('task')}:{pair.get('reference')}", cells=cells))
    return tuple(rows)


def _waiver_rows(gate: SignedFile) -> tuple[Row, ...]:
    """Each fault that a named person let pass, why, and until when."""
    rows = []
    waivers = gate.get("/waivers")
    for number, waiver in enumerate(waivers if isinstance(waivers, list) else []):
        if not isinstance(waiver, dict):
            continue
        at = f"/waivers/{number}"
        names = ("task", "reference", "delta", "reason", "approver", "expires")
        cells = {name: gate.value(f"{at}/{name}", reason="not stated") for name in names}
        rows.append(Row(key=f"{waiver.get('task')}:{waiver.get('reference')}", cells=cells))
    return tuple(rows)
