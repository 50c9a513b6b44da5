"""Run folders are read whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.gate.runs import RUN_SCHEMA, comparable_key, load_run, parse_run


def item(key: str, value: float | None = 1.0) -> dict[str, Any]:
    return {"id": key, "item_sha256": f"of {key}", "value": value, "flags": []}


def write(folder: Path, items: list[dict[str, Any]], **record: Any) -> Path:
    lines = b"".join(strictjson.dumps(one) for one in items)
    (folder / "items").mkdir(parents=True, exist_ok=True)
    (folder / "items" / "t.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    identity = {"task_sha256": "x"}
    task = {
        "identity": identity,
        "comparable_key": comparable_key(identity),
        "direction": "up",
        "items_sha256": hashlib.sha256(lines).hexdigest(),
        **record,
    }
    value = {
        "schema": RUN_SCHEMA,
        "name": "final",
        "model": {"tree_sha256": "abc"},
        "tasks": {"t": task},
    }
    (folder / "run.json").write_bytes(strictjson.dumps(value))
    return folder


def test_a_written_run_reads_back(tmp_path: Path) -> None:
    run = load_run(write(tmp_path, [item("a"), item("b", 0.0), item("c", None)]))
    assert (run.name, run.tree) == ("final", "abc")
    assert [one.value for one in run.tasks["t"].items.values()] == [1.0, 0.0, None]
    assert [path for path, _ in run.inputs] == ["items/t.jsonl.gz", "run.json"]


def test_an_edited_item_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [item("a", 0.0)])
    edited = strictjson.dumps(item("a", 1.0))
    (tmp_path / "items" / "t.jsonl.gz").write_bytes(gzip.compress(edited, mtime=0))
    with pytest.raises(FormatError, match=r"does not hold"):
        load_run(tmp_path)


def test_an_edited_identity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"comparable_key"):
        load_run(write(tmp_path, [item("a")], identity={"task_sha256": "y"}))


def test_an_item_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"twice"):
        load_run(write(tmp_path, [item("a"), item("a")]))


@pytest.mark.parametrize("damage", [b"", b"not gzip", b"\x1f\x8b\x08\x00"])
def test_damaged_gzip_is_a_format_error(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path, [item("a")])
    (tmp_path / "items" / "t.jsonl.gz").write_bytes(damage)
    with pytest.raises(FormatError):
        load_run(tmp_path)


@pytest.mark.parametrize("text", [b"{}\n", b"[]\n", b'{"schema":"forebear/run/v1"}\n', b"\xff"])
def test_what_is_no_run_is_a_format_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "run.json").write_bytes(text)
    with pytest.raises(FormatError):
        load_run(tmp_path)


def test_a_missing_folder_is_the_environments_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"cannot read"):
        load_run(tmp_path / "none")


@pytest.mark.parametrize("value", [True, "1", "nan", [1]])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(FormatError):
        load_run(write(tmp_path, [{**item("a"), "value": value}]))


@pytest.mark.parametrize("direction", ["sideways", None])
def test_an_unknown_direction_is_refused(tmp_path: Path, direction: Any) -> None:
    with pytest.raises(FormatError):
        load_run(write(tmp_path, [item("a")], direction=direction))


def test_a_task_named_like_a_path_is_never_opened(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", [item("a")])
    value = strictjson.parse((folder / "run.json").read_bytes(), where="run.json")
    value["tasks"]["../../secret"] = value["tasks"]["t"]
    asked = []

    def read(name: str) -> bytes:
        asked.append(name)
        return strictjson.dumps(value) if name == "run.json" else (folder / name).read_bytes()

    with pytest.raises(FormatError):
        parse_run(read, where="run")
    assert not any(".." in name for name in asked)
