"""Starts the evaluation part of the learning library in a process of its own.

The core never imports it: the running Python is started with ``-P``, so nothing of the current
folder is imported either, and a missing package is named with the extra that brings it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, MissingExtra

PYTHON: tuple[str, ...] = (sys.executable, "-P")
_MODULE = "forebear.train.evaluate."
_NEEDED = ("torch", "transformers", "lm_eval")
_MISSING = re.compile(r"^ModuleNotFoundError: No module named '([\w.]+)'", re.MULTILINE)
_SHOWN_CHARACTERS = 400
_NOT_RUN = 3


def ask_json(module: str, words: Sequence[str], *, needed_for: str) -> list[dict[str, Any]]:
    """The JSON list that a module of the library prints.

    Args:
        module: below ``forebear.train.evaluate``.
        words: its arguments.
        needed_for: what the caller wants to do, for messages.

    Raises:
        MissingExtra: a package of the extra ``train`` is missing.
        ConfigError: the params do not hold.
        EnvironmentFailure: the process broke down.
        FormatError: it printed something else.
    """
    done = _start([*PYTHON, "-m", _MODULE + module, *words], capture=True)
    said = done.stderr.decode(errors="replace")
    missing = _MISSING.search(said)
    if missing:
        raise MissingExtra("train", f"{needed_for} (package {missing[1]})")
    if done.returncode:
        shown = said.strip().removeprefix("error: ")[-_SHOWN_CHARACTERS:]
        fault = ConfigError if done.returncode == ConfigError.exit_code else EnvironmentFailure
        raise fault(shown or f"{needed_for} broke down", f"{_MODULE}{module}")
    try:
        rows = json.loads(done.stdout)
    except ValueError as error:
        raise FormatError(f"{needed_for} gave no JSON", module) from error
    return list(rows)


def run_measure(
    *, suite: str | None, judge: str | None, checkpoint: Path | None, params: Path, out: Path
) -> int:
    """Measures one suite or calibrates one judge; the exit code of the process.

    Args:
        suite: name of a task in the params; None to calibrate.
        judge: name of a judge in the params.
        checkpoint: folder of the model; for a suite alone.
        params: settings.
        out: folder to write to.

    Returns:
        0; 3 where the suite could not be run; else the process's own.

    Raises:
        MissingExtra: a package of the extra ``train`` is missing.
    """
    what = "eval --suite" if suite else "eval --calibrate"
    for package in _NEEDED:
        if find_spec(package) is None:
            raise MissingExtra("train", f"{what} (package {package})")
    words = ["--suite", suite] if suite else ["--calibrate", str(judge)]
    words += ["--params", str(params), "--out", str(out)]
    if checkpoint is not None:
        words += ["--checkpoint", str(checkpoint)]
    done = _start([*PYTHON, "-m", f"{_MODULE}measure", *words], capture=False)
    if done.returncode or not suite:
        return done.returncode
    from forebear.gate.runs import load_run

    return _NOT_RUN if load_run(out).not_run else 0


def _start(words: Sequence[str], *, capture: bool) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(words, capture_output=capture, check=False)
    except OSError as error:
        raise EnvironmentFailure(
            f"Python cannot be started: {error.strerror}", where=PYTHON[0]
        ) from error
