"""Reads what ``measure`` wrote: one folder per checkpoint, checked against its own digests.

Refuses a folder whose item file is not the one that ``run.json`` describes, so an edited item
cannot reach the gate. Rests on the strict JSON parser; knows nothing of models. Where the bytes
come from is the caller's affair: a stage reads its deps, a verifier what was signed. Runs of the
first schema, which knew one metric, are read as well.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.gate.aggregate import kind_of

RUN_SCHEMA = "forebear/run/v2"
READABLE = (RUN_SCHEMA, "forebear/run/v1")
RUN_FILE = "run.json"
CALIBRATION_FILE = "calibration.json"
_MAX_ITEMS_BYTES = 256 * 1024 * 1024
_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # becomes a file name


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a task.

    Attributes:
        name: of the metric, unique within its task.
        aggregate: kind, as ``aggregate`` knows it.
        of: ``value``, or the component of the items that is aggregated.
        direction: ``up`` when a larger figure is better, else ``down``.
        low: smallest possible figure.
        high: largest possible figure.
    """

    name: str
    aggregate: str = "mean"
    of: str = "value"
    direction: str = "up"
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """One scored item.

    Attributes:
        id: unique within its task.
        item_sha256: digest of what was asked and of the right answer.
        value: None when it ended in an error.
        flags: ``truncated``, ``unparsed``, ``error``, ``contaminated``.
        stratum: part of the set that it stands for.
        cluster: items of one cluster are drawn together; empty for an item of its own.
        components: what else was counted.
    """

    id: str
    item_sha256: str
    value: float | None
    flags: tuple[str, ...]
    stratum: str = ""
    cluster: str = ""
    components: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of one run.

    Attributes:
        identity: everything but the model that makes two scores comparable.
        comparable_key: SHA-256 over ``identity``.
        direction: of the first metric.
        items: by id.
        metrics: the figures made of the items, the main one first; empty for a mean of the values.
        judge: who scored the answers; None where nobody judged.
        shown_name: as the score must be called.
        strata: items of the whole set by stratum, where only a part was measured.
        not_meaningful: why the figures say nothing, if so.
    """

    task: str
    identity: Mapping[str, Any]
    comparable_key: str
    direction: str
    items: Mapping[str, Item]
    metrics: tuple[Metric, ...] = ()
    judge: str | None = None
    shown_name: str = ""
    strata: Mapping[str, int] | None = None
    not_meaningful: str | None = None

    def figures(self) -> tuple[Metric, ...]:
        """The metrics; accuracy where the run names none."""
        return self.metrics or (Metric("acc", direction=self.direction),)

    def metric(self, name: str | None) -> Metric | None:
        """The metric of that name, the main one for None; None where there is none."""
        if name is None:
            return self.figures()[0]
        return next((one for one in self.figures() if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Run:
    """One measured checkpoint.

    Attributes:
        name: as references are called in the params.
        tree: tree digest of the checkpoint.
        run_sha256: digest of ``run.json``.
        tasks: by task name.
        inputs: (name below the run, SHA-256) of every file read, sorted.
        not_run: tasks that were asked for and not measured, with the reason.
        calibration: value of ``calibration.json``; None where there is none.
    """

    name: str
    tree: str
    run_sha256: str
    tasks: Mapping[str, TaskRun]
    inputs: tuple[tuple[str, str], ...]
    not_run: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None


def comparable_key(identity: Mapping[str, Any]) -> str:
    """SHA-256 over what must agree before two scores are compared."""
    return hashlib.sha256(strictjson.canonical(dict(identity))).hexdigest()


def load_run(folder: Path) -> Run:
    """The run in ``folder``, every item file checked against ``run.json``.

    Raises:
        EnvironmentFailure: a file is missing.
        FormatError: bytes that are no run, or items that ``run.json`` does not describe.
    """
    return parse_run(lambda name: _read(folder / name), where=str(folder))


def parse_run(read: Callable[[str], bytes], *, where: str) -> Run:
    """The run whose files ``read`` gives by name: ``run.json`` and what it names.

    Args:
        read: bytes of a file by its name below the run; what it raises passes through.
        where: the folder, for messages.

    Raises:
        FormatError: bytes that are no run, or items that ``run.json`` does not describe.
    """
    file = f"{where}/{RUN_FILE}"
    data = read(RUN_FILE)
    value = strictjson.parse(data, where=file)
    if not isinstance(value, dict) or value.get("schema") not in READABLE:
        raise FormatError(f"is not a run of schema {' or '.join(READABLE)}", where=file)
    run_sha256 = hashlib.sha256(data).hexdigest()
    inputs = [(RUN_FILE, run_sha256)]
    tasks: dict[str, TaskRun] = {}
    try:
        name, tree = str(value["name"]), str(value["model"]["tree_sha256"])
        for task, record in value["tasks"].items():
            if not _TASK.fullmatch(task):
                raise FormatError(f"{task[:60]!a} is no name of a task", where=file)
            items_name = f"items/{task}.jsonl.gz"
            packed = read(items_name)
            tasks[task] = _parse_task(task, record, packed, f"{where}/{items_name}")
            inputs.append((items_name, hashlib.sha256(packed).hexdigest()))
        not_run = {str(task): str(why) for task, why in value.get("not_run", {}).items()}
        calibration = _read_calibration(value.get("calibration_sha256"), read, where)
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        raise FormatError(f"is no run: {error}", where=file) from error
    if calibration is not None:
        inputs.append((CALIBRATION_FILE, value["calibration_sha256"]))
    inputs.sort()
    return Run(name, tree, run_sha256, tasks, tuple(inputs), not_run, calibration)


def _read_calibration(
    digest: str | None, read: Callable[[str], bytes], where: str
) -> Mapping[str, Any] | None:
    if digest is None:
        return None
    file = f"{where}/{CALIBRATION_FILE}"
    data = read(CALIBRATION_FILE)
    if hashlib.sha256(data).hexdigest() != digest:
        raise FormatError("is not the calibration that run.json names", where=file)
    value = strictjson.parse(data, where=file)
    if not isinstance(value, dict):
        raise FormatError("is no calibration: must be an object", where=file)
    return value


def _parse_task(task: str, record: Mapping[str, Any], packed: bytes, where: str) -> TaskRun:
    lines = _unpack(packed, where)
    if hashlib.sha256(lines).hexdigest() != record["items_sha256"]:
        raise FormatError(
            "does not hold the items that run.json describes",
            where=where,
            fix="measure again: dvc repro --force --single-item measure@NAME",
        )
    identity = record["identity"]
    key = comparable_key(identity)
    if key != record["comparable_key"]:
        raise FormatError(f"{task}: comparable_key does not fit the identity", where=where)
    direction = record["direction"]
    if direction not in {"up", "down"}:
        raise FormatError(f"{task}: the direction must be up or down", where=where)
    strata = record.get("strata")
    judge, reason = record.get("judge"), record.get("not_meaningful")
    return TaskRun(
        task,
        identity,
        key,
        direction,
        _parse_items(lines, where),
        metrics=tuple(_parse_metric(one) for one in record.get("metrics", ())),
        judge=None if judge is None else str(judge),
        shown_name=str(record.get("shown_name", "")),
        strata=None if strata is None else {str(k): _count(v) for k, v in strata.items()},
        not_meaningful=None if reason is None else str(reason),
    )


def _parse_metric(raw: Mapping[str, Any]) -> Metric:
    metric = Metric(
        name=str(raw["name"]),
        aggregate=str(raw["aggregate"]),
        of=str(raw["of"]),
        direction=str(raw["direction"]),
        low=float(raw["low"]),
        high=float(raw["high"]),
    )
    kind_of(metric.aggregate)
    if metric.direction not in {"up", "down"} or not metric.low < metric.high:
        raise ValueError(f"{metric.name[:40]!r} has no direction or no range")
    return metric


def _count(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 0:
        raise TypeError("a stratum must hold a number of items")
    return raw


def _parse_items(lines: bytes, name: str) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for number, row in enumerate(_rows(lines, name), start=1):
        where = f"{name}:{number}"
        if not isinstance(row, dict):
            raise FormatError("is no item: must be an object", where=where)
        try:
            components = row.get("components", {})
            item = Item(
                id=str(row["id"]),
                item_sha256=str(row["item_sha256"]),
                value=_score(row["value"]),
                flags=tuple(str(flag) for flag in row["flags"]),
                stratum=str(row.get("stratum", "")),
                cluster=str(row.get("cluster", "")),
                components=components if isinstance(components, dict) else {},
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"is no item: {error}", where=where) from error
        if item.id in items:
            raise FormatError(f"item '{item.id[:60]}' stands twice", where=where)
        items[item.id] = item
    return items


def _rows(lines: bytes, name: str) -> list[Any]:
    """The value of each line. All at once, which is three times faster than one by one."""
    single = lines.splitlines()
    try:
        rows = strictjson.parse(
            b"[" + b",".join(single) + b"]", where=name, max_bytes=_MAX_ITEMS_BYTES * 2
        )
    except FormatError:
        rows = None
    # two values in one line would be read as two lines
    if isinstance(rows, list) and len(rows) == len(single):
        return rows
    return [
        strictjson.parse(line, where=f"{name}:{number}")
        for number, line in enumerate(single, start=1)
    ]


def _score(raw: object) -> float | None:
    """The value of an item; a text or a truth value is none."""
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise TypeError("the value must be a number or null")
    return float(raw)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read: {error.strerror}", where=str(file), fix="run measure first"
        ) from error


def _unpack(packed: bytes, where: str) -> bytes:
    """The uncompressed items, read with a limit: a small file can unpack to any size."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            lines = stream.read(_MAX_ITEMS_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"is no whole gzip file: {error}", where=where) from error
    if len(lines) > _MAX_ITEMS_BYTES:
        raise FormatError(f"unpacks to over {_MAX_ITEMS_BYTES} bytes", where=where)
    return lines
