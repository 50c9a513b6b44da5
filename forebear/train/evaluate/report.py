"""Run folders: items, texts, identities and a summary; strict JSON, nothing about time or host.

Items are sorted by id and compressed without a timestamp, so equal measurements of one checkpoint
on one configured machine are the same bytes. A value that is not finite is refused at the writer.

Source: evaluation page, sections 2 and 13.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.gate.aggregate import aggregate
from forebear.gate.runs import CALIBRATION_FILE, RUN_SCHEMA, comparable_key
from forebear.gate.scores import score
from forebear.train.evaluate.measured import Measured, Metric

SUMMARY_SCHEMA = "forebear/summary/v2"
_FACTS = ("notes", "not_meaningful")


def write_run(
    out: Path,
    *,
    name: str,
    model: Mapping[str, Any],
    tasks: Sequence[Measured],
    not_run: Mapping[str, str],
    calibration: Mapping[str, Any] | None,
    private: Path | None,
) -> None:
    """Writes the run folder.

    Args:
        out: folder to write; made when missing.
        name: what the gate calls this run.
        model: identity of the model, with ``tree_sha256`` and ``chat_template_sha256``.
        tasks: what was measured.
        not_run: reasons of what was asked for and not measured, by task.
        calibration: how far the judges can be trusted, when there are any.
        private: folder for texts that must not leave the machine; they are dropped without one.

    Raises:
        FormatError: a figure is not finite; the task is named.
    """
    for folder in ("items", "texts"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    records: dict[str, Any] = {}
    summary: list[dict[str, Any]] = []
    for one in sorted(tasks, key=lambda measured: measured.task):
        lines = _lines(one.rows, one.task)
        _write_packed(out / "items" / f"{one.task}.jsonl.gz", lines)
        texts_sha256 = _write_texts(one, out, private)
        records[one.task] = _record(one, lines, texts_sha256)
        summary += _summary_records(one, records[one.task], model)
    run = {
        "schema": RUN_SCHEMA,
        "name": name,
        "model": dict(model),
        "tasks": records,
        "not_run": dict(not_run),
        "calibration_sha256": _write_calibration(out, calibration),
    }
    (out / "run.json").write_bytes(strictjson.dumps(run))
    value = {"schema": SUMMARY_SCHEMA, "name": name, "records": summary, "not_run": dict(not_run)}
    (out / "summary.json").write_bytes(strictjson.dumps(value))


def _lines(rows: Sequence[Mapping[str, Any]], task: str) -> bytes:
    try:
        return b"".join(strictjson.dumps(dict(row)) for row in rows)
    except FormatError as error:
        raise FormatError(f"an item cannot be written: {error.what}", where=task) from error


def _write_packed(file: Path, lines: bytes) -> None:
    # mtime 0, so equal items are equal bytes
    file.write_bytes(gzip.compress(lines, mtime=0))


def _write_texts(one: Measured, out: Path, private: Path | None) -> str | None:
    """Digest of the texts that stay in the run; ``None`` when there are none."""
    if one.texts is None:
        return None
    lines = _lines(sorted(one.texts, key=lambda text: str(text["id"])), one.task)
    if not one.private:
        _write_packed(out / "texts" / f"{one.task}.jsonl.gz", lines)
        return hashlib.sha256(lines).hexdigest()
    if private is not None:
        private.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = private / f"{one.task}.jsonl"
        file.unlink(missing_ok=True)
        # only for the owner from its first byte on
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(lines)
    return None


def _write_calibration(out: Path, calibration: Mapping[str, Any] | None) -> str | None:
    if calibration is None:
        return None
    data = strictjson.dumps(dict(calibration))
    (out / CALIBRATION_FILE).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _rate(rows: Sequence[Mapping[str, Any]], flag: str) -> float:
    return sum(flag in row["flags"] for row in rows) / len(rows) if rows else 0.0


def _record(one: Measured, lines: bytes, texts_sha256: str | None) -> dict[str, Any]:
    identity, facts = dict(one.identity), one.facts
    record = {
        "identity": identity,
        "comparable_key": comparable_key(identity),
        "direction": one.metrics[0].direction,
        "n": len(one.rows),
        "n_population": facts["n_population"],
        "items_sha256": hashlib.sha256(lines).hexdigest(),
        "texts_sha256": texts_sha256,
        "metrics": [asdict(metric) for metric in one.metrics],
        "judge": facts["judge"],
        "shown_name": facts["shown_name"],
        "unparsed_rate": _rate(one.rows, "unparsed"),
        "truncated_rate": _rate(one.rows, "truncated"),
        "error_count": sum("error" in row["flags"] for row in one.rows),
        **{key: facts[key] for key in _FACTS if facts.get(key)},
    }
    if facts.get("strata"):
        record["strata"] = dict(facts["strata"])
    return record


def _summary_records(
    one: Measured, record: Mapping[str, Any], model: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One record a metric; only the first carries the figures by stratum."""
    return [
        {
            **_summary_record(one, metric, record, model),
            "slices": _slices(one, metric) if metric is one.metrics[0] else [],
        }
        for metric in one.metrics
    ]


def _summary_record(
    one: Measured, metric: Metric, record: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, Any]:
    identity, facts = record["identity"], one.facts
    found = score(one.rows, asdict(metric), task=one.task, seed=int(identity["seed"]))
    for figure in (found["value"], *(found["interval"] or {}).values()):
        if isinstance(figure, float) and figure - figure != 0:
            raise FormatError(f"{metric.name} is not a finite number", where=one.task)
    source = str(identity["source"]).split("/")[0]
    return {
        "suite": "golden" if source == "golden" else one.task,
        "task": one.task,
        "shown_name": record["shown_name"],
        "setting": facts["setting"],
        "metric": metric.name,
        "direction": metric.direction,
        "value": found["value"],
        "n": found["n"],
        "interval": found["interval"],
        "n_population": record["n_population"],
        "unparsed_rate": record["unparsed_rate"],
        "truncated_rate": record["truncated_rate"],
        "error_count": record["error_count"],
        "task_sha256": identity["task_sha256"],
        "data_sha256": identity["data_sha256"],
        "prompt_sha256": identity["prompt_sha256"],
        "decoding": facts["decoding"],
        "model_tree_sha256": model["tree_sha256"],
        "chat_template_sha256": identity["chat_template_sha256"],
        "judge": facts.get("judge_identity"),
        "seed": identity["seed"],
        "repeats": 1,
        "software": identity["software"],
        "licence": facts["licence"],
        "contamination": None,
        "comparable_key": record["comparable_key"],
        "published_setting": facts["published_setting"],
        "reason": found["reason"],
        **{key: facts[key] for key in _FACTS if facts.get(key)},
    }


def _slices(one: Measured, metric: Metric) -> list[dict[str, Any]]:
    """The figure in each stratum; with an interval where it is a share of independent items."""
    binary = metric.aggregate == "mean" and all(
        row["value"] in (0.0, 1.0) and row["cluster"] == row["id"] for row in one.rows
    )
    slices = []
    for name in sorted({str(row["stratum"]) for row in one.rows}):
        rows = [row for row in one.rows if row["stratum"] == name]
        if binary and metric.of == "value":
            found = score(rows, asdict(metric), task=one.task)
            slices.append(
                {"stratum": name, **{key: found[key] for key in ("value", "n", "interval")}}
            )
        else:
            value = aggregate(metric.aggregate, rows, metric.of)
            slices.append({"stratum": name, "value": value, "n": len(rows), "interval": None})
    return slices
