"""An append-only file of finished work, so that nothing a teacher has answered is asked twice.

One line per finished chunk, flushed to disk before the next chunk starts. A line that a kill cut
short is dropped on opening, and a journal of another request (other weights, prompts or sampling
parameters) is never used.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from forebear.errors import EnvironmentFailure

Chunk = list[list[int]]


class Journal:
    """Finished chunks of one request, by chunk number.

    Args:
        file: in the stage's scratch folder.
        key: digest of everything that the answers depend on.
    Raises:
        EnvironmentFailure: the disk refuses.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file = file
        self._chunks: dict[int, Chunk] = {}
        whole_bytes = self._read(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as handle:
                handle.truncate(whole_bytes)
        except OSError as error:
            raise self._refused(error) from error
        if not whole_bytes:
            self._append({"key": key})

    def __len__(self) -> int:
        """Number of finished chunks."""
        return len(self._chunks)

    def get(self, number: int) -> Chunk | None:
        """The answers of chunk ``number`` as token ids, or None when it is not finished."""
        return self._chunks.get(number)

    def put(self, number: int, answers: Chunk) -> None:
        """Keeps the answers of chunk ``number``; they are on disk when this returns."""
        self._append({"chunk": number, "answers": answers})
        self._chunks[number] = answers

    def _read(self, key: str) -> int:
        """Reads the whole lines; returns their length in bytes, 0 when the key is another."""
        whole_bytes = 0
        lines = self._file.read_bytes().splitlines(keepends=True) if self._file.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            if whole_bytes == 0 and entry != {"key": key}:
                break
            if whole_bytes:
                self._chunks[int(entry["chunk"])] = entry["answers"]
            whole_bytes += len(line)
        return whole_bytes

    def _append(self, entry: dict[str, object]) -> None:
        try:
            with self._file.open("ab") as handle:
                handle.write(json.dumps(entry, sort_keys=True).encode() + b"\n")
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"cannot keep finished answers: {error.strerror or error}",
            where=str(self._file),
            fix="free disk space and run `dvc repro` again; finished answers are not asked again",
        )
