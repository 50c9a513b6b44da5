"""Writes a run: items, ``run.json`` and ``summary.json``, without times, hosts or paths.

Two runs of the same weights, items and machine are the same bytes. A value that is not finite is
refused at the writer.

Source: evaluation page, sections 2 and 13.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.formats import strictjson
from forebear.gate.runs import RUN_SCHEMA, comparable_key
from forebear.gate.statistics import wilson
from forebear.train.evaluate.harness import TaskSamples
from forebear.train.evaluate.suite import Selected

SUMMARY_SCHEMA = "forebear/summary/v1"
_SHOWN_DIGITS = 6


def item_rows(
    one: Selected, outcome: TaskSamples, key: Callable[[Sequence[Any]], str]
) -> list[dict[str, Any]]:
    """The items of one multiple-choice task, sorted by id.

    Args:
        one: the items as chosen.
        outcome: what lm-eval gave for them.
        key: journal key of a request's arguments.
    """
    by_id = {str(document["item_id"]): document for document in one.documents}
    rows = []
    for sample in outcome.samples:
        item_id = str(sample["doc"]["item_id"])
        document = by_id[item_id]
        scores = [float(total) for total, _ in sample["filtered_resps"]]
        best = max(range(len(scores)), key=lambda index: (scores[index], -index))
        rows.append(
            {
                "id": item_id,
                "item_sha256": _digest(document),
                "stratum": document["item_stratum"],
                "cluster": item_id,
                "requests": [key(arguments) for arguments in sample["arguments"]],
                "output_sha256": _digest(scores),
                "extracted": str(best),
                "value": float(sample["acc"]),
                "components": {
                    "target": str(sample["target"]),
                    "log_likelihoods": [round(score, _SHOWN_DIGITS) for score in scores],
                },
                "flags": [],
                "judge": None,
            }
        )
    return sorted(rows, key=lambda row: str(row["id"]))


def _digest(value: Any) -> str:
    return hashlib.sha256(strictjson.canonical(value)).hexdigest()


def write_run(
    out: Path,
    *,
    name: str,
    model: Mapping[str, Any],
    shared: Mapping[str, Any],
    tasks: Sequence[tuple[Selected, TaskSamples, Sequence[Mapping[str, Any]]]],
) -> None:
    """Writes the run folder.

    Args:
        out: folder to write; made when missing.
        name: what the gate calls this run.
        model: identity of the model, with ``tree_sha256`` and ``chat_template_sha256``.
        shared: what all tasks have in common: seed, dtype, batch, software.
        tasks: items as chosen, harness results and item rows of each task.
    """
    (out / "items").mkdir(parents=True, exist_ok=True)
    records: dict[str, Any] = {}
    summary: list[dict[str, Any]] = []
    for one, outcome, rows in tasks:
        task = one.suite.task
        lines = b"".join(strictjson.dumps(dict(row)) for row in rows)
        # mtime 0, so equal items are equal bytes
        (out / "items" / f"{task}.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
        identity = _identity(one, outcome, rows, model, shared)
        records[task] = {
            "identity": identity,
            "comparable_key": comparable_key(identity),
            "direction": "up",
            "n": len(rows),
            "n_population": one.n_population,
            "items_sha256": hashlib.sha256(lines).hexdigest(),
        }
        summary.append(_summary_record(one, rows, records[task], model, shared))
    run = {"schema": RUN_SCHEMA, "name": name, "model": dict(model), "tasks": records}
    (out / "run.json").write_bytes(strictjson.dumps(run))
    (out / "summary.json").write_bytes(
        strictjson.dumps({"schema": SUMMARY_SCHEMA, "name": name, "records": summary})
    )


def _identity(
    one: Selected,
    outcome: TaskSamples,
    rows: Sequence[Mapping[str, Any]],
    model: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything but the model that must agree before two scores of a task are compared."""
    return {
        "task_sha256": outcome.task_sha256,
        "prompt_sha256": outcome.prompt_sha256,
        "source": one.suite.source,
        "data_sha256": one.data_sha256,
        "items_selected_sha256": _digest([[row["id"], row["item_sha256"]] for row in rows]),
        "setting": one.suite.setting,
        "chat_template_sha256": model["chat_template_sha256"] if one.suite.chat else None,
        **shared,
    }


def _summary_record(
    one: Selected,
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    model: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> dict[str, Any]:
    identity = record["identity"]
    return {
        "suite": one.suite.source.split("/")[0] if one.suite.chat else one.suite.task,
        "task": one.suite.task,
        "setting": one.suite.setting,
        "metric": "acc",
        "direction": "up",
        **_share(rows),
        "n_population": one.n_population,
        "unparsed_rate": 0.0,
        "truncated_rate": 0.0,
        "error_count": 0,
        "slices": _slices(rows),
        "task_sha256": identity["task_sha256"],
        "data_sha256": identity["data_sha256"],
        "prompt_sha256": identity["prompt_sha256"],
        "decoding": "log-likelihood",
        "model_tree_sha256": model["tree_sha256"],
        "chat_template_sha256": identity["chat_template_sha256"],
        "judge": None,
        "seed": shared["seed"],
        "repeats": 1,
        "software": shared["software"],
        "licence": one.suite.licence,
        "contamination": None,
        "comparable_key": record["comparable_key"],
        "published_setting": False,
        "reason": None,
    }


def _share(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    right = sum(row["value"] == 1.0 for row in rows)
    low, high = wilson(right, len(rows))
    return {
        "value": right / len(rows),
        "n": len(rows),
        "interval": {"low": low, "high": high, "level": 0.95, "method": "wilson", "draws": None},
    }


def _slices(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    strata = sorted({str(row["stratum"]) for row in rows})
    return [
        {"stratum": name, **_share([row for row in rows if row["stratum"] == name])}
        for name in strata
    ]
