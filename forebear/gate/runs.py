"""Reads what ``measure`` wrote: one folder per checkpoint, checked against its own digests.

Refuses a folder whose item file is not the one that ``run.json`` describes, so an edited item
cannot reach the gate. Rests on the strict JSON parser; knows nothing of models.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson

RUN_SCHEMA = "forebear/run/v1"
_MAX_ITEMS_BYTES = 256 * 1024 * 1024


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
    file = folder / "run.json"
    data = _read(file)
    value = strictjson.parse(data, where=str(file))
    if not isinstance(value, dict) or value.get("schema") != RUN_SCHEMA:
        raise FormatError(f"is not a run of schema {RUN_SCHEMA}", where=str(file))
    run_sha256 = hashlib.sha256(data).hexdigest()
    inputs = [("run.json", run_sha256)]
    tasks: dict[str, TaskRun] = {}
    try:
        name, tree = str(value["name"]), str(value["model"]["tree_sha256"])
        for task, record in value["tasks"].items():
            items_file = folder / "items" / f"{task}.jsonl.gz"
            tasks[task], digest = _load_task(task, record, items_file)
            inputs.append((f"items/{task}.jsonl.gz", digest))
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"lacks {error}", where=str(file)) from error
    return Run(name, tree, run_sha256, tasks, tuple(sorted(inputs)))


def _load_task(task: str, record: Mapping[str, Any], file: Path) -> tuple[TaskRun, str]:
    packed = _read(file)
    lines = _unpack(packed, file)
    if hashlib.sha256(lines).hexdigest() != record["items_sha256"]:
        raise FormatError(
            "does not hold the items that run.json describes",
            where=str(file),
            fix="measure again: dvc repro --force --single-item measure@NAME",
        )
    identity = record["identity"]
    key = comparable_key(identity)
    if key != record["comparable_key"]:
        raise FormatError(f"{task}: comparable_key does not fit the identity", where=str(file))
    items = _parse_items(lines, file)
    return (
        TaskRun(task, identity, key, str(record["direction"]), items),
        hashlib.sha256(packed).hexdigest(),
    )


def _parse_items(lines: bytes, file: Path) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        where = f"{file}:{number}"
        row = strictjson.parse(line, where=where)
        if not isinstance(row, dict):
            raise FormatError("is no item: must be an object", where=where)
        try:
            raw = row["value"]
            item = Item(
                id=str(row["id"]),
                item_sha256=str(row["item_sha256"]),
                value=None if raw is None else float(raw),
                flags=tuple(str(flag) for flag in row["flags"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"is no item: {error}", where=where) from error
        if item.id in items:
            raise FormatError(f"item '{item.id[:60]}' stands twice", where=where)
        items[item.id] = item
    return items


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read: {error.strerror}", where=str(file), fix="run measure first"
        ) from error


def _unpack(packed: bytes, file: Path) -> bytes:
    """The uncompressed items, read with a limit: a small file can unpack to any size."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            lines = stream.read(_MAX_ITEMS_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"is no whole gzip file: {error}", where=str(file)) from error
    if len(lines) > _MAX_ITEMS_BYTES:
        raise FormatError(f"unpacks to over {_MAX_ITEMS_BYTES} bytes", where=str(file))
    return lines
