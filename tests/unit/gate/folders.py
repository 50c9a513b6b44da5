"""Run folders and verdicts on disk, as ``measure`` and ``eval`` write them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.formats import strictjson
from forebear.gate.report import compare
from forebear.gate.runs import RUN_SCHEMA, comparable_key, load_run
from forebear.gate.settings import GateSettings
from forebear.gate.verdict import decide


def write_run(
    folder: Path, tasks: Mapping[str, Sequence[float]], *, schema: str = RUN_SCHEMA, **fields: Any
) -> Path:
    """A run folder called like its last part; each task has one metric, ``acc``.

    Args:
        folder: to write to.
        tasks: values of the items, by task.
        schema: of ``run.json``.
        fields: ``identity`` joins every task's; the others join ``run.json``.
    """
    identity = {"chat_template_sha256": "t", **fields.pop("identity", {})}
    (folder / "items").mkdir(parents=True, exist_ok=True)
    records = {}
    for task, values in tasks.items():
        lines = b"".join(strictjson.dumps(_item(task, n, value)) for n, value in enumerate(values))
        (folder / "items" / f"{task}.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
        own = {"task_sha256": task, **identity}
        records[task] = {
            "identity": own,
            "comparable_key": comparable_key(own),
            "direction": "up",
            "items_sha256": hashlib.sha256(lines).hexdigest(),
        }
    value = {
        "schema": schema,
        "name": folder.name,
        "model": {"tree_sha256": hashlib.sha256(folder.name.encode()).hexdigest()},
        "tasks": records,
        **fields,
    }
    (folder / "run.json").write_bytes(strictjson.dumps(value))
    return folder


def _item(task: str, number: int, value: float) -> dict[str, Any]:
    key = f"{task}{number:05}"
    return {
        "id": key, "item_sha256": f"of {key}", "stratum": "", "cluster": key, "value": value,
        "components": {}, "flags": [], "judge": None,
    }  # fmt: skip


def write_verdict(root: Path, settings: GateSettings, *names: str) -> Path:
    """The verdict on the first run below ``root``, against the others; the folder of it."""
    candidate, *references = (load_run(root / "data" / "measure" / name) for name in names)
    folder = root / "data" / "eval" / "verdict"
    folder.mkdir(parents=True)
    gate = decide(candidate, references, settings)
    comparison = compare(candidate, references, settings)
    (folder / "gate.json").write_bytes(strictjson.dumps(gate))
    (folder / "comparison.json").write_bytes(strictjson.dumps(comparison))
    return folder
