"""Digest cache: an out of one stage is not read again as a dep of the next.

For the recorder only; ``verify``, ``attest`` and ``pack`` always read the bytes. An entry is bound
to device, inode, size, mtime and ctime. It cannot see a store through a shared ``mmap`` before
write-back, so entries are written only after all stage processes are gone, and never for a file
that was touched less than 2 s before it was read.

Source: provenance page, section 1, "Digest cache".
"""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

from forebear.errors import EnvironmentFailure

MIN_AGE_NS = 2_000_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS digest (
    file TEXT PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID
"""
_HEX = re.compile(r"[0-9a-f]{64}")


class DigestCache:
    """Digests of files seen before. Use as a context manager; one thread only.

    Args:
        file: SQLite file, made with its folder when absent.

    Raises:
        EnvironmentFailure: the file cannot be opened or is no such cache.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(file, timeout=30)
            # Losing the newest entries in a crash costs a second read and nothing else.
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute(_SCHEMA)
            self._connection.commit()
        except (OSError, sqlite3.Error) as error:
            raise self._failure(error) from error

    def get(self, status: os.stat_result) -> str | None:
        """Digest of the file with this status, or None when it is not known."""
        try:
            row = self._connection.execute(
                "SELECT state, sha256 FROM digest WHERE file = ?", (_file_key(status),)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        if row is None or row[0] != _state(status) or not _HEX.fullmatch(row[1]):
            return None
        return str(row[1])

    def put(self, status: os.stat_result, digest: str, *, read_at_ns: int) -> None:
        """Remembers a digest, unless the file was touched less than 2 s before the read.

        Args:
            status: status of the file, equal before and after the read.
            digest: SHA-256, lower-case hex.
            read_at_ns: wall clock when the read began, in nanoseconds.
        """
        # A second edit within the clock's grain would leave all of the state as it is.
        if read_at_ns - max(status.st_mtime_ns, status.st_ctime_ns) < MIN_AGE_NS:
            return
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO digest VALUES (?, ?, ?)",
                (_file_key(status), _state(status), digest),
            )
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def commit(self) -> None:
        """Makes the entries put so far visible to other recorders."""
        try:
            self._connection.commit()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Commits and closes."""
        self.commit()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _failure(self, error: Exception) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"the digest cache cannot be used: {error}",
            str(self._file),
            "delete the file, or pass --no-digest-cache",
        )


def _file_key(status: os.stat_result) -> str:
    # Text: device and inode are unsigned, SQLite's integers are not.
    return f"{status.st_dev}:{status.st_ino}"


def _state(status: os.stat_result) -> str:
    # ctime too: an edit can restore mtime.
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
