"""Measured runs in memory, for the gate's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forebear.gate.runs import Item, Metric, Run, TaskRun, comparable_key
from forebear.gate.settings import GateSettings

Counts = tuple[int, int, int]


def settings(**values: Any) -> GateSettings:
    return GateSettings.model_validate({"first_release": True, **values})


def task_run(
    task: str, values: Sequence[float | None], flags: tuple[str, ...] = (), **identity: Any
) -> TaskRun:
    """A task with one metric, ``acc``: the mean of the values."""
    items = {
        f"{index:05d}": Item(f"{index:05d}", f"digest {index}", value, flags)
        for index, value in enumerate(values)
    }
    shared = {"task_sha256": task, "chat_template_sha256": "t", **identity}
    return TaskRun(task, shared, comparable_key(shared), "up", items)


def graded_run(
    task: str,
    rows: Sequence[Mapping[str, Any]],
    metric: Metric,
    *more: Metric,
    **fields: Any,
) -> TaskRun:
    """A task of any metric; rows hold value, and perhaps cluster, stratum, components."""
    items = {
        f"{index:05d}": Item(
            f"{index:05d}", f"digest {index}", row["value"], (), row.get("stratum", ""),
            row.get("cluster", ""), row.get("components", {}),
        )
        for index, row in enumerate(rows)
    }  # fmt: skip
    identity = {"task_sha256": task}
    key = comparable_key(identity)
    return TaskRun(task, identity, key, metric.direction, items, (metric, *more), **fields)


def run(name: str, tasks: Mapping[str, TaskRun], **fields: Any) -> Run:
    return Run(name, f"tree of {name}", f"run of {name}", tasks, (("run.json", name),), **fields)


def paired(**tasks: Counts) -> tuple[Run, Run]:
    """Candidate and base with the given (losses, gains, n); all other items right in both."""
    ours, theirs = {}, {}
    for task, (losses, gains, n) in tasks.items():
        right = n - losses - gains
        ours[task] = task_run(task, [0.0] * losses + [1.0] * gains + [1.0] * right)
        theirs[task] = task_run(task, [1.0] * losses + [0.0] * gains + [1.0] * right)
    return run("final", ours), run("base", theirs)
