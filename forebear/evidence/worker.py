"""Asks the learning library, in a process of its own, so that whoever asks stays without torch.

The process is the running Python with this package and none of the current folder (``-P``); it
gets a temporary home and no word of ours but the request on its standard input, and answers with
one JSON object. It runs this package's code only, never a release's. Refuses an answer of any
other form; where numpy or torch is missing it says what to install.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import forebear
from forebear.errors import EnvironmentFailure, FormatError, MissingExtra
from forebear.formats import strictjson

PYTHON: tuple[str, ...] = (sys.executable, "-P")
THREADS_ENV = "FOREBEAR_THREADS"
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_SHOWN_CHARACTERS = 400


def ask(
    module: str, request: Mapping[str, Any], *, needed_for: str, threads: str | None = None
) -> dict[str, Any]:
    """The answer of ``python -m forebear.train.<module>`` to ``request``.

    Args:
        module: below ``forebear.train``.
        request: JSON values.
        needed_for: what the caller wants to do, for messages.
        threads: number of threads to compute with; the library's own choice when left out.

    Raises:
        MissingExtra: a package of the extra ``train`` is missing.
        FormatError: the library refuses what it was given.
        EnvironmentFailure: the process broke down.
    """
    with tempfile.TemporaryDirectory(prefix="forebear-") as home:
        try:
            done = subprocess.run(
                [*PYTHON, "-m", f"forebear.train.{module}"],
                input=strictjson.dumps(dict(request)),
                cwd=home,
                env=_environment(home, threads),
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise EnvironmentFailure(
                f"Python cannot be started: {error.strerror}", where=PYTHON[0]
            ) from error
    answer = _answer(done.stdout)
    if "missing" in answer:
        raise MissingExtra("train", f"{needed_for} (package {answer['missing']})")
    if "refused" in answer:
        raise FormatError(str(answer["refused"]), where=str(answer.get("where", "")))
    if done.returncode != 0 or not answer:
        said = done.stderr.decode(errors="replace").strip()[-_SHOWN_CHARACTERS:]
        raise EnvironmentFailure(f"{needed_for} broke down: {said or done.returncode}", module)
    return answer


def _environment(home: str, threads: str | None) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        **({THREADS_ENV: threads} if threads else {}),
        "HOME": home,
        "TMPDIR": home,
        "HF_HOME": home,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(forebear.__file__).resolve().parents[1]),
    }


def _answer(output: bytes) -> dict[str, Any]:
    """The last line, as a JSON object; libraries may have said something before."""
    lines = output.strip().splitlines()
    try:
        value = strictjson.parse(lines[-1], where="answer") if lines else {}
    except FormatError:
        return {}
    return value if isinstance(value, dict) else {}
