"""Writes a ledger folder from documents that come one by one, in bounded memory.

Rows are sorted outside memory (runs of 100,000, merged), so ten million documents need no more
than ten thousand. Beside each tree's rows lies its index, from which a proof takes milliseconds.
Refuses one document under two labels. Nothing half-written stands under the folder's name.

Rests on: provenance page, section 9.
"""

from __future__ import annotations

import heapq
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

from forebear.errors import EnvironmentFailure, UsageError
from forebear.formats import strictjson
from forebear.ledger.build import (
    VERSION,
    IntakeRow,
    LedgerRow,
    Row,
    merge_copies,
    parse_row,
    render_row,
)
from forebear.ledger.rowfile import ROOT_FILE, TREES, Index, Tree, index_lines

RUN_ROWS = 100_000

# A record is the key in hex and the line, so that records sort as their keys do.
_KEY = 64


class LedgerWriter:
    """Takes rows of both trees in any order; a context manager that owns its scratch folder.

    Args:
        folder: to be written; must not exist, or be empty.
        salted: whether keys are salted.
        run_rows: rows held in memory at a time.
    Raises:
        UsageError: the folder holds something.
    """

    def __init__(self, folder: Path, *, salted: bool = False, run_rows: int = RUN_ROWS) -> None:
        if folder.is_symlink() or (folder.exists() and _holds_something(folder)):
            raise UsageError("is there already", str(folder), "name a folder that does not exist")
        self.folder, self.salted = folder, salted
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix=".ledger-", dir=folder.absolute().parent))
        self._sorters = {tree: _Sorter(self._scratch, tree, run_rows) for tree in TREES}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def add(self, tree: Tree, row: Row) -> None:
        """Takes one row.

        Raises:
            FormatError: the row is malformed.
        """
        self._sorters[tree].add(row.key, render_row(row))

    def finish(self) -> dict[str, Any]:
        """Writes the folder; returns what its ``root.json`` says.

        Raises:
            FormatError: one document has two labels, or a row is malformed.
            EnvironmentFailure: the disk refuses.
        """
        made = self._scratch / "ledger"
        try:
            made.mkdir()
            described: dict[str, Any] = {"version": VERSION}
            for tree, sorter in self._sorters.items():
                index = _write_rows(made / f"{tree}.jsonl", sorter.merged(), tree)
                (made / f"{tree}.index").write_bytes(index.to_bytes())
                described[tree] = index.describe()
            if self.salted:
                described["salted"] = True
            (made / ROOT_FILE).write_bytes(strictjson.dumps(described))
            made.replace(self.folder)
        except OSError as error:
            raise EnvironmentFailure(
                f"cannot write: {error.strerror}",
                str(self.folder),
                "free disk space, or go elsewhere",
            ) from error
        return described


def _holds_something(folder: Path) -> bool:
    return not folder.is_dir() or any(folder.iterdir())


def _write_rows(file: Path, records: Iterable[bytes], tree: Tree) -> Index:
    with file.open("wb", buffering=1 << 20) as stream:
        return index_lines(_written(stream, records, tree), tree, where=str(file))


def _written(stream: BinaryIO, records: Iterable[bytes], tree: Tree) -> Iterator[bytes]:
    """Lines of the records, written on their way, copies as one line."""
    copies: list[bytes] = []
    for record in records:
        if copies and copies[0][:_KEY] != record[:_KEY]:
            yield _write(stream, copies, tree)
            copies.clear()
        copies.append(record)
    if copies:
        yield _write(stream, copies, tree)


def _write(stream: BinaryIO, copies: list[bytes], tree: Tree) -> bytes:
    line = copies[0][_KEY:] if len(copies) == 1 else _merge(copies, tree)
    stream.write(line)
    return line


def _merge(records: list[bytes], tree: Tree) -> bytes:
    """The one line of a document that occurs several times."""
    lines = [record[_KEY:] for record in records]
    if tree == "kept":
        return render_row(merge_copies(parse_row(one, LedgerRow, where="") for one in lines)[0])
    return render_row(merge_copies(parse_row(one, IntakeRow, where="") for one in lines)[0])


class _Sorter:
    """Records of key and line, sorted in runs that lie on disk."""

    def __init__(self, scratch: Path, name: str, run_rows: int) -> None:
        self._scratch, self._name, self._run_rows = scratch, name, run_rows
        self._records: list[bytes] = []
        self._runs: list[Path] = []

    def add(self, key: str, line: bytes) -> None:
        self._records.append(key.encode() + line)
        if len(self._records) >= self._run_rows:
            self._spill()

    def _spill(self) -> None:
        run = self._scratch / f"{self._name}.{len(self._runs)}"
        self._records.sort()
        with run.open("wb", buffering=1 << 20) as stream:
            stream.writelines(self._records)
        self._runs.append(run)
        self._records = []

    def merged(self) -> Iterator[bytes]:
        """All records, ascending by key."""
        if not self._runs:
            self._records.sort()
            yield from self._records
            return
        if self._records:
            self._spill()
        with ExitStack() as stack:
            streams = [stack.enter_context(run.open("rb", buffering=1 << 18)) for run in self._runs]
            yield from heapq.merge(*streams)
