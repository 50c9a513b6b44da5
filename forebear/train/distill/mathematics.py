"""Judges mathematical answers by value, not by spelling: 1/2, 0.5 and 50% are one answer.

The comparing is math-verify's, in a process that is killed when an expression runs away and started
again for the next one (:mod:`forebear.train.distill.mathworker`).
"""

from __future__ import annotations

import importlib.util
import json
import selectors
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from forebear.errors import MissingExtra

_LONGEST = 100_000
_WORKER = "forebear.train.distill.mathworker"  # run as a file; the name says that it is our code


class MathComparer:
    """A running comparer.

    Args:
        timeout_s: wall time for one answer.
        memory_mb: address space of the process.
    Raises:
        MissingExtra: math-verify is not installed.
    """

    def __init__(self, *, timeout_s: float = 20.0, memory_mb: int = 2048) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise MissingExtra("train", "the verifier for mathematics")
        self._timeout_s, self._memory = timeout_s, memory_mb * 2**20
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] = weakref.finalize(self, int)  # nothing to end yet

    def reason(self, expected: str, given: str) -> str:
        """Empty when equal; else why the answer is refuted."""
        if len(given) > _LONGEST:
            return "too long"
        if self._process is None:
            self._process = self._start()
            # the first comparison pays for the imports, whatever the timeout
            if self._exchange("1", "1", 120.0) is None:
                raise AssertionError("math-verify does not find 1 equal to 1")
        verdict = self._exchange(expected, given, self._timeout_s)
        return "timed out" if verdict is None else verdict

    def close(self) -> None:
        """Ends the process; so does the end of this object."""
        self._process = None
        self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name(_WORKER.rpartition(".")[2] + ".py")
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(script), str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
        )
        self._end = weakref.finalize(self, _end, process)
        return process

    def _exchange(self, expected: str, given: str, timeout_s: float) -> str | None:
        """The verdict, or None when the process ran away or died; it is gone then."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise AssertionError("started with pipes")
        try:
            process.stdin.write(json.dumps([expected, given]).encode() + b"\n")
        except BrokenPipeError:
            self.close()
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(timeout_s)
        # a verdict is one short line, written at once
        line = process.stdout.read(4096) if ready else b""
        if not line or not line.endswith(b"\n"):
            self.close()
            return None
        verdict = json.loads(line)
        return verdict if isinstance(verdict, str) else "unreadable"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
