"""Finished responses of an endpoint, durable one by one: what was paid for is never asked again.

One canonical line per response, keyed by the digest of its request, flushed to disk before the
next thing happens. A line that a kill cut short is dropped; a line that is whole and not ours is
refused, since overwriting paid work would be worse than stopping.
"""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson


@dataclass(frozen=True, slots=True)
class Response:
    """What an endpoint answered to one request.

    Attributes:
        text: the answer.
        finished: it ended by itself, not at the token limit.
        model: the model's name as the endpoint reports it.
        prompt_tokens: read, as charged.
        answer_tokens: written, as charged.
        counted: the endpoint gave these counts; else they are upper bounds of ours.
    """

    text: str
    finished: bool
    model: str
    prompt_tokens: int
    answer_tokens: int
    counted: bool

    @property
    def n_tokens(self) -> int:
        """Tokens charged."""
        return self.prompt_tokens + self.answer_tokens


class ResponseFile:
    """Responses by request digest, safe to use from several threads.

    Args:
        file: created with its folder when missing.
    Raises:
        FormatError: a whole line is no response.
        EnvironmentFailure: the disk refuses.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self._kept: dict[str, Response] = {}
        try:
            whole = self._read()
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as handle:
                handle.truncate(whole)
        except OSError as error:
            raise self._refused(error) from error

    def __len__(self) -> int:
        """Number of finished responses."""
        return len(self._kept)

    @property
    def file(self) -> Path:
        """Where they are kept."""
        return self._file

    def get(self, key: str) -> Response | None:
        """The response to the request of digest ``key``."""
        return self._kept.get(key)

    def put(self, key: str, response: Response) -> None:
        """Keeps ``response``; it is on disk when this returns."""
        line = _line(key, response)
        with self._lock:
            try:
                with self._file.open("ab") as handle:
                    handle.write(line)
                    handle.flush()
                    os.fsync(handle.fileno())
            except OSError as error:
                raise self._refused(error) from error
            self._kept[key] = response

    def settle(self) -> None:
        """Rewrites the file sorted, in one step; what other params paid for stays in it."""
        lines = [_line(key, self._kept[key]) for key in sorted(self._kept)]
        fresh = self._file.with_suffix(".new")
        try:
            with fresh.open("wb") as handle:
                handle.write(b"".join(lines))
                handle.flush()
                os.fsync(handle.fileno())
            fresh.replace(self._file)
        except OSError as error:
            raise self._refused(error) from error

    def _read(self) -> int:
        """Reads the whole lines; returns their length in bytes."""
        whole = 0
        lines = self._file.read_bytes().splitlines(keepends=True) if self._file.exists() else []
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            where = f"{self._file}:{number}"
            key, response = _parse(strictjson.parse(line, where=where), where)
            self._kept[key] = response
            whole += len(line)
        return whole

    def _refused(self, error: OSError) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"cannot keep finished responses: {error.strerror or error}",
            where=str(self._file),
            fix="free disk space and run `dvc repro` again; finished requests are not sent again",
        )


def _line(key: str, response: Response) -> bytes:
    return strictjson.dumps({"request_sha256": key, **asdict(response)})


def _parse(value: Any, where: str) -> tuple[str, Response]:
    kinds: dict[str, type] = {
        "text": str, "finished": bool, "model": str,
        "prompt_tokens": int, "answer_tokens": int, "counted": bool,
    }  # fmt: skip
    if (
        not isinstance(value, dict)
        or set(value) != {"request_sha256", *kinds}
        or not isinstance(value["request_sha256"], str)
        or any(type(value[key]) is not kind for key, kind in kinds.items())
    ):
        raise FormatError("is no finished response", where=where, fix="move the file away")
    return value["request_sha256"], Response(**{key: value[key] for key in kinds})
