"""Reads what ``measure`` wrote: one folder per checkpoint, checked against its own digests.

Refuses a folder whose item file is not the one that ``run.json`` describes, so an edited item
cannot reach the gate. Rests on the strict JSON parser; knows nothing of models. Where the bytes
come from is the caller's affair: a stage reads its deps, a verifier what was signed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson

RUN_SCHEMA = "forebear/run/v1"
RUN_FILE = "run.json"
_MAX_ITEMS_BYTES = 256 * 1024 * 1024
_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # becomes a file name


@dataclass(frozen=True, slots=True)
class Item:
    """One scored item; ``value`` is ``None`` when it ended in an error."""

    id: str
    item_sha256: str
    value: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of one run.

    Attributes:
        identity: everything but the model that makes two scores comparable.
        comparable_key: SHA-256 over ``identity``.
        direction: ``up`` when a larger value is better, else ``down``.
    """

    task: str
    identity: Mapping[str, Any]
    comparable_key: str
    direction: str
    items: Mapping[str, Item]


@dataclass(frozen=True, slots=True)
class Run:
    """One measured checkpoint.

    Attributes:
        name: as references are called in the params.
        tree: tree digest of the checkpoint.
        run_sha256: digest of ``run.json``.
        tasks: by task name.
        inputs: (name below the run, SHA-256) of every file read, sorted.
    """

    name: str
    tree: str
    run_sha256: str
    tasks: Mapping[str, TaskRun]
    inputs: tuple[tuple[str, str], ...]


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
    """The run whose files ``read`` gives by name: ``run.json`` and ``items/<task>.jsonl.gz``.

    Args:
        read: bytes of a file by its name below the run; what it raises passes through.
        where: the folder, for messages.

    Raises:
        FormatError: bytes that are no run, or items that ``run.json`` does not describe.
    """
    file = f"{where}/{RUN_FILE}"
    data = read(RUN_FILE)
    value = strictjson.parse(data, where=file)
    if not isinstance(value, dict) or value.get("schema") != RUN_SCHEMA:
        raise FormatError(f"is not a run of schema {RUN_SCHEMA}", where=file)
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
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"is no run: {error}", where=file) from error
    return Run(name, tree, run_sha256, tasks, tuple(sorted(inputs)))


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
    return TaskRun(task, identity, key, direction, _parse_items(lines, where))


def _parse_items(lines: bytes, name: str) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        where = f"{name}:{number}"
        row = strictjson.parse(line, where=where)
        if not isinstance(row, dict):
            raise FormatError("is no item: must be an object", where=where)
        try:
            item = Item(
                id=str(row["id"]),
                item_sha256=str(row["item_sha256"]),
                value=_score(row["value"]),
                flags=tuple(str(flag) for flag in row["flags"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"is no item: {error}", where=where) from error
        if item.id in items:
            raise FormatError(f"item '{item.id[:60]}' stands twice", where=where)
        items[item.id] = item
    return items


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
