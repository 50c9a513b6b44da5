"""Facts of the evaluation: scores with intervals beside the reference's, judges, gate, waivers.

Reads what ``measure`` and ``eval`` wrote and decides nothing itself. A suite that was asked for and
did not run stands in ``eval.not_run`` with the reason, never as a score.

Source: compliance page, section 9.3; evaluation page, section 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forebear.documents.evidence import pointer
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
    from forebear.documents.evidence import Evidence, SignedFile

_NO_EVAL = "no evaluation is recorded"
_NO_SCORE = "not measured"
_NO_REASONS = not_applicable("the gate states reasons only where a test does not pass")
_RECORD = (
    ("suite", "suite"), ("setting", "setting"), ("decoding", "decoding"),
    ("licence", "licence"), ("prompts_sha256", "prompt_sha256"), ("data_sha256", "data_sha256"),
    ("task_sha256", "task_sha256"), ("n_population", "n_population"), ("seed", "seed"),
    ("published_setting", "published_setting"), ("software", "software"), ("judge", "judge"),
    ("direction", "direction"), ("errors", "error_count"), ("unparsed_rate", "unparsed_rate"),
    ("truncated_rate", "truncated_rate"),
)  # fmt: skip
_JUDGE: dict[str, tuple[str, ...]] = {
    "kind": ("kind",),
    "model": ("model",),
    "digest": ("digest",),
    "revision": ("identity/revision", "model"),
    "provider": ("identity/provider", "kind"),
    "prompt_sha256": ("identity/prompts_sha256",),
    "temperature": ("identity/decoding/temperature",),
    "label": ("label",),
    "may_compare": ("may_gate/compare",),
    "may_classify": ("may_gate/classify",),
    "reasons_compare": ("reasons/compare",),
    "reasons_classify": ("reasons/classify",),
    "judge_lineage": ("lineage/judge",),
    "candidate_lineage": ("lineage/candidate",),
    "position_bias": ("figures/position_bias/value",),
    "position_consistency": ("figures/position_consistency/value",),
}


class EvalFiles:
    """What the evaluation left; each is None where there is none.

    Args:
        summary: scores of the candidate, with settings.
        run: how the candidate was measured.
        calibration: how judges agree with people.
        contamination: overlap of the items with training text.
    """

    def __init__(
        self,
        evidence: Evidence,
        gate: SignedFile | None,
        comparison: SignedFile | None,
    ) -> None:
        self.gate, self.comparison = gate, comparison
        self.summary = self.run = self.calibration = self.contamination = None
        name = None if gate is None else gate.get("/candidate")
        for stage in evidence.stages:
            run = evidence.named(stage, "run.json")
            if run is not None and run.get("/name") == name:
                self.run = run
                self.summary = evidence.named(stage, "summary.json")
                self.calibration = evidence.named(stage, "calibration.json")
            self.contamination = self.contamination or evidence.named(stage, "contamination.json")


def collect_evaluation(values: Values, tables: Tables, files: EvalFiles) -> None:
    """Adds ``eval.results`` and the tables and values beside it."""
    gate, comparison = files.gate, files.comparison
    records = _records(files.summary)
    tables["eval.results"] = () if comparison is None else tuple(
        _result_row(files, number, task, records) for number, task in _listed(comparison, "/tasks")
    )  # fmt: skip
    tables["eval.slices"] = tuple(_slice_rows(files.summary))
    tables["eval.pairs"] = () if gate is None else _pair_rows(gate)
    tables["eval.limits"] = () if gate is None else _limit_rows(gate)
    tables["eval.waivers"] = () if gate is None else _waiver_rows(gate)
    tables["eval.not_run"] = tuple(_not_run_rows(files.run))
    tables["eval.judges"] = tuple(_judge_rows(files.calibration))
    tables["eval.contamination"] = tuple(_contamination_rows(files.contamination))
    for name in ("verdict", "profile", "label"):
        values[f"eval.gate.{name}"] = (
            unknown(_NO_EVAL) if gate is None else _text(gate, f"/{name}", "none given")
        )
    values["eval.gate.alpha"] = unknown(_NO_EVAL) if gate is None else gate.value("/alpha")
    values["eval.gate.waivers"] = (
        unknown(_NO_EVAL) if gate is None else _counted(gate.value("/waivers"))
    )


def _listed(file: SignedFile, at: str) -> list[tuple[int, Mapping[str, Any]]]:
    found = file.get(at)
    rows = found if isinstance(found, list) else []
    return [(number, one) for number, one in enumerate(rows) if isinstance(one, dict)]


def _counted(value: Value) -> Value:
    """The number of entries of a list, resting on the list itself."""
    if not isinstance(value.value, list):
        return value
    return value.model_copy(update={"value": len(value.value), "method": "count"})


def _text(file: SignedFile, at: str, reason: str) -> Value:
    """The text at the pointer; an empty one says nothing, so it is unknown."""
    return file.value(at) if file.get(at) else unknown(reason)


def _records(summary: SignedFile | None) -> dict[tuple[str, str], int]:
    """Place of each record of the summary, by task and metric; by task alone under an empty one."""
    places: dict[tuple[str, str], int] = {}
    for number, record in _listed(summary, "/records") if summary is not None else []:
        task = str(record.get("task"))
        places.setdefault((task, ""), number)
        places[task, str(record.get("metric"))] = number
    return places


def _result_row(
    files: EvalFiles,
    number: int,
    task: Mapping[str, Any],
    records: Mapping[tuple[str, str], int],
) -> Row:
    comparison = files.comparison
    assert comparison is not None  # noqa: S101  # the caller goes through its rows
    at = f"/tasks/{number}"
    name, metric = str(task.get("task")), task.get("metric")
    key = (
        f"{name}:{metric}:{task.get('reference')}" if metric else f"{name}:{task.get('reference')}"
    )
    cells = {
        "task": comparison.value(f"{at}/task"),
        "reference": comparison.value(f"{at}/reference"),
        "candidate_score": _measured(comparison, f"{at}/scores/candidate", "value"),
        "reference_score": _measured(comparison, f"{at}/scores/reference", "value"),
        "delta": _measured(comparison, at, "delta"),
        "n": comparison.value(f"{at}/n", unit="items", reason=_NO_SCORE),
        "gates": comparison.value(f"{at}/gates", reason="not said"),
        "p": comparison.value(f"{at}/p", reason="not tested"),
    }
    place = records.get((name, str(metric)), records.get((name, "")))
    summary = files.summary if place is not None else None
    for cell, source in _RECORD:
        cells[cell] = (
            unknown("not recorded by the measurement")
            if summary is None
            else summary.value(f"/records/{place}/{source}", reason="none")
        )
    cells["metric"] = (
        comparison.value(f"{at}/metric") if metric
        else summary.value(f"/records/{place}/metric") if summary is not None
        else unknown("not named")
    )  # fmt: skip
    cells["shown_name"] = (
        unknown("not named")
        if files.run is None
        else files.run.value(pointer("tasks", name, "shown_name"), reason="not named")
    )
    cells["p_adjusted"] = _adjusted(files.gate, name, metric, str(task.get("reference")))
    cells["contamination"] = (
        unknown("overlap with training text was not measured")
        if files.contamination is None
        else files.contamination.value(
            pointer("sets", name, "rate"), reason="overlap with training text was not measured"
        )
    )
    return Row(key=key, cells=cells)


def _adjusted(gate: SignedFile | None, task: str, metric: Any, reference: str) -> Value:
    for number, pair in _listed(gate, "/pairs") if gate is not None else []:
        same = metric is None or pair.get("metric") == metric
        if gate is not None and same and (pair.get("task"), pair.get("reference")) == (
            task, reference,
        ):  # fmt: skip
            return gate.value(f"/pairs/{number}/p_holm", reason="not tested")
    return not_applicable("the gate does not test it")


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


def _slice_rows(summary: SignedFile | None) -> list[Row]:
    """The candidate's score in each part of a set: a chapter, a language, a group."""
    rows = []
    for number, record in _listed(summary, "/records") if summary is not None else []:
        if summary is None:
            break
        for place, part in _listed(summary, f"/records/{number}/slices"):
            at = f"/records/{number}/slices/{place}"
            cells = {
                "task": summary.value(f"/records/{number}/task"),
                "metric": summary.value(f"/records/{number}/metric"),
                "slice": summary.value(f"{at}/stratum"),
                "score": _measured(summary, at, "value"),
                "n": summary.value(f"{at}/n", unit="items"),
            }
            key = f"{record.get('task')}:{record.get('metric')}:{part.get('stratum')}"
            rows.append(Row(key=key, cells=cells))
    return rows


def _pair_rows(gate: SignedFile) -> tuple[Row, ...]:
    rows: list[Row] = []
    for number, pair in _listed(gate, "/pairs"):
        at = f"/pairs/{number}"
        names = ("task", "metric", "reference", "margin", "delta", "lower", "p_holm", "verdict")
        cells = {name: gate.value(f"{at}/{name}", reason="not set") for name in names}
        cells["reasons"] = gate.value(f"{at}/reasons") if pair.get("reasons") else _NO_REASONS
        key = f"{pair.get('task')}:{pair.get('reference')}"
        if any(row.key == key for row in rows):
            key = f"{pair.get('task')}:{pair.get('metric')}:{pair.get('reference')}"
        rows.append(Row(key=key, cells=cells))
    return tuple(rows)


def _limit_rows(gate: SignedFile) -> tuple[Row, ...]:
    """Absolute limits, such as the share of harmful answers."""
    names = ("task", "metric", "n", "hits", "value", "upper", "limit", "verdict")
    return tuple(
        Row(
            key=f"{one.get('task')}:{one.get('metric')}",
            cells={c: gate.value(f"/limits/{number}/{c}", reason="not set") for c in names},
        )
        for number, one in _listed(gate, "/limits")
    )


def _waiver_rows(gate: SignedFile) -> tuple[Row, ...]:
    """Each fault that a named person let pass, why, and until when."""
    rows = []
    names = ("task", "reference", "delta", "reason", "approver", "expires")
    for number, waiver in _listed(gate, "/waivers"):
        at = f"/waivers/{number}"
        cells = {name: gate.value(f"{at}/{name}", reason="not stated") for name in names}
        rows.append(Row(key=f"{waiver.get('task')}:{waiver.get('reference')}", cells=cells))
    return tuple(rows)


def _not_run_rows(run: SignedFile | None) -> list[Row]:
    found = None if run is None else run.get("/not_run")
    if run is None or not isinstance(found, dict):
        return []
    return [
        Row(
            key=name,
            cells={
                "task": _label(run, pointer("not_run", name), name),
                "reason": run.value(pointer("not_run", name)),
            },
        )
        for name in sorted(found)
    ]


def _judge_rows(calibration: SignedFile | None) -> list[Row]:
    """Each judge with its agreement with people."""
    found = None if calibration is None else calibration.get("/judges")
    if calibration is None or not isinstance(found, dict):
        return []
    rows = []
    for name in sorted(found):
        at = pointer("judges", name)
        cells = {
            cell: calibration.value(*(f"{at}/{one}" for one in places), reason="not recorded")
            for cell, places in _JUDGE.items()
        }
        cells["judge"] = cells["name"] = _label(calibration, at, name)
        for use, figure in (("", "kappa"), ("refusal_", "refusal_kappa")):
            place = f"{at}/figures/{figure}"
            for cell, part in (("kappa", "value"), ("kappa_low", "low"), ("kappa_high", "high")):
                cells[f"{use}{cell}"] = calibration.value(f"{place}/{part}", reason="not measured")
            cells[f"{use}n"] = calibration.value(f"{place}/n", unit="items", reason="none")
        rows.append(Row(key=name, cells=cells))
    return rows


def _contamination_rows(contamination: SignedFile | None) -> list[Row]:
    found = None if contamination is None else contamination.get("/sets")
    if contamination is None or not isinstance(found, dict):
        return []
    rows = []
    for name in sorted(found):
        at = pointer("sets", name)
        cells = {
            "task": _label(contamination, at, name),
            "rate": _measured(contamination, at, "rate"),
            "n": contamination.value(f"{at}/n", unit="items", reason="not counted"),
            "max_rate": contamination.value(f"{at}/max_rate", reason="no limit is set"),
            "over": contamination.value(f"{at}/over", reason="no limit is set"),
            "checked": contamination.value(f"{at}/checked", reason="not said"),
            "reason": contamination.value(f"{at}/reason", reason="nothing is said"),
            "unknown": contamination.value(f"{at}/unknown", reason="nothing is said"),
        }
        rows.append(Row(key=name, cells=cells))
    return rows


def _label(file: SignedFile, at: str, name: str) -> Value:
    """The name of a key, resting on the place that it names."""
    return Value(kind="computed", value=name, method="name of the key", evidence=(file.ref(at),))
