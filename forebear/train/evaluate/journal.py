"""Answers of a model, kept as they come, so that a killed measurement loses one chunk at most.

One line holds one chunk of requests and its answers; it is appended and flushed to disk before
the next chunk starts. A torn last line is dropped when the journal is opened; a bad line anywhere
else is a hard error. A request's key holds the model's identity, so no answer of another model,
another template or other decoding can ever be served.

Source: evaluation page, section 5.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson


def request_key(model: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """SHA-256 that names one request to one model."""
    value = {"v": 1, "model": dict(model), "request": dict(request)}
    return hashlib.sha256(strictjson.canonical(value)).hexdigest()


class Journal:
    """Append-only file of answered chunks; the first answer to a request is the one that stays.

    A request can stand in two chunks (two tasks ask the same). Batch composition moves the last
    bits of an answer, so the later one must not win after a resumption.
    """

    def __init__(self, file: Path) -> None:
        """Opens or creates the journal.

        Raises:
            EnvironmentFailure: a line other than the last is damaged; its number is named.
        """
        self.file = file
        self.answers: dict[str, Any] = {}
        file.parent.mkdir(parents=True, exist_ok=True)
        whole_bytes = self._load() if file.exists() else 0
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._descriptor, whole_bytes)

    def _load(self) -> int:
        """Takes in every whole line; returns how many bytes are good."""
        lines = self.file.read_bytes().splitlines(keepends=True)
        good = 0
        for number, line in enumerate(lines, start=1):
            record = _parse_line(line, f"{self.file}:{number}")
            if record is None:
                if number == len(lines):
                    break
                raise EnvironmentFailure(
                    "the journal is damaged here",
                    where=f"{self.file}:{number}",
                    fix="delete the journal; everything is then measured again",
                )
            self._take(record["k"], record["v"])
            good += len(line)
        return good

    def _take(self, keys: Sequence[str], answers: Sequence[Any]) -> None:
        for key, answer in zip(keys, answers, strict=True):
            self.answers.setdefault(key, answer)

    def append(self, keys: Sequence[str], answers: Sequence[Any]) -> None:
        """Makes one chunk's answers durable.

        Raises:
            FormatError: an answer holds a value that is not finite.
        """
        body = {"k": list(keys), "v": list(answers)}
        line = strictjson.canonical({**body, "c": _check(body)}) + b"\n"
        written = 0
        while written < len(line):
            written += os.write(self._descriptor, line[written:])
        os.fsync(self._descriptor)
        self._take(keys, answers)

    def close(self) -> None:
        """Releases the file."""
        os.close(self._descriptor)


def _check(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(strictjson.canonical(dict(body))).hexdigest()[:8]


def _parse_line(line: bytes, where: str) -> dict[str, Any] | None:
    """The record of one line, or ``None`` when it is torn or altered."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = strictjson.parse(line, where=where)
    except FormatError:
        return None
    if not isinstance(record, dict) or record.keys() != {"k", "v", "c"}:
        return None
    if not isinstance(record["k"], list) or not isinstance(record["v"], list):
        return None
    body = {"k": record["k"], "v": record["v"]}
    whole = record["c"] == _check(body) and len(record["k"]) == len(record["v"])
    return record if whole else None
