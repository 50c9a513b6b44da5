"""Sorts lines outside memory, so that a terabyte needs no more of it than ten megabytes.

Lines are gathered up to a number of bytes, sorted, and laid on disk as a run; runs are merged, at
most so many at a time. Equal lines stay side by side, so a caller that wants a stable order puts a
number at a line's end.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

RUN_BYTES = 8 << 20
# Far below the usual limit of 1024 open files.
_MAX_OPEN_RUNS = 128
# What Python needs for one line beside its bytes.
_LINE_OVERHEAD_BYTES = 64


class LineSorter:
    """Takes lines in any order and gives them back ascending by their bytes.

    Args:
        folder: for the runs; made when missing, deleted by nobody here.
        run_bytes: lines held in memory, in bytes.
    """

    def __init__(self, folder: Path, *, run_bytes: int = RUN_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._run_bytes = folder, run_bytes
        self._lines: list[bytes] = []
        self._held_bytes = 0
        self._runs: list[Path] = []
        self._n_runs = 0

    def add(self, line: bytes) -> None:
        """Takes a line, without its newline and with none inside."""
        self._lines.append(line + b"\n")
        self._held_bytes += len(line) + _LINE_OVERHEAD_BYTES
        if self._held_bytes >= self._run_bytes:
            self._spill(sorted(self._lines))
            self._lines, self._held_bytes = [], 0

    def merged(self) -> Iterator[bytes]:
        """Every line, ascending, without its newline; once."""
        while len(self._runs) > _MAX_OPEN_RUNS:
            oldest, self._runs = self._runs[:_MAX_OPEN_RUNS], self._runs[_MAX_OPEN_RUNS:]
            with ExitStack() as stack:
                self._spill(heapq.merge(*_opened(oldest, stack)))
            for run in oldest:
                run.unlink()
        self._lines.sort()
        with ExitStack() as stack:
            for line in heapq.merge(*_opened(self._runs, stack), self._lines):
                yield line[:-1]
        self._lines = []

    def _spill(self, lines: Iterable[bytes]) -> None:
        run = self._folder / f"run-{self._n_runs:06}"
        self._n_runs += 1
        with run.open("wb", buffering=1 << 20) as stream:
            stream.writelines(lines)
        self._runs.append(run)


def _opened(runs: Iterable[Path], stack: ExitStack) -> list[Iterator[bytes]]:
    return [iter(stack.enter_context(run.open("rb", buffering=1 << 16))) for run in runs]
