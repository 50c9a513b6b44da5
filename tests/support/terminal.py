"""Runs a command on a terminal of its own, or on none at all, for the tests of prompts."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_TAKE = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execvp(sys.argv[2], sys.argv[2:])"
_LIMIT_S = 60.0


def run_on_terminal(
    words: Sequence[str], answers: Sequence[str], *, env: Mapping[str, str], cwd: Path
) -> tuple[int, str]:
    """Exit code and everything shown; each prompt (it ends in ``: ``) gets the next answer."""
    ours, theirs = pty.openpty()
    # a session leader that opens a terminal is controlled by it
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE, os.ttyname(theirs), *words],
        cwd=cwd, env=dict(env), start_new_session=True,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown, left = b"", list(answers)
    try:
        while True:
            if not select.select([ours], [], [], _LIMIT_S)[0]:
                raise TimeoutError(f"nothing more after: {shown!r}")
            try:
                data = os.read(ours, 4096)
            except OSError:  # EIO: the other side is closed
                break
            if not data:
                break
            shown += data
            if shown.endswith(b": ") and left:
                os.write(ours, left.pop(0).encode() + b"\n")
        return process.wait(_LIMIT_S), shown.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def run_without_terminal(
    words: Sequence[str], *, env: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Runs it in a session that no terminal controls."""
    return subprocess.run(
        words, cwd=cwd, env=dict(env), start_new_session=True, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=_LIMIT_S,
    )  # fmt: skip
