"""What recording costs: a stage's command by itself, and the same under ``forebear record``."""

from __future__ import annotations

import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring import load, take_turns
from forebear.recording.trial import try_confinement
from tests.support.workspace import Workspace, make_template, open_workspace

_WORK = """
import hashlib, pathlib, sys, time
block = bytes(1 << 20)
digest = hashlib.sha256()
while time.process_time() < float(sys.argv[1]):
    for _ in range(100):
        digest.update(block)
pathlib.Path(sys.argv[2]).write_text(digest.hexdigest())
"""
_STAGE = """
stages:
  work:
    cmd: forebear record work -- python work.py {seconds} out.txt
    deps:
    - work.py
    outs:
    - out.txt
    - links/work.link
"""


def measure(*, quick: bool = False, seconds: int = 60) -> list[dict[str, Any]]:
    """Extra seconds of a recorded stage, and their share of a stage of ``seconds``.

    The work ends after so many processor seconds, so that both runs do as much.
    """
    length = 1 if quick else seconds
    with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
        make_template(Path(scratch))
        place = open_workspace(Path(scratch))
        place.write("work.py", _WORK)
        place.write("dvc.yaml", _STAGE.format(seconds=length))
        for words in (("git", "add", "-A"), ("git", "commit", "-q", "-m", "work")):
            _must(place.run(*words))
        bare = ("python", "work.py", str(length), "out.txt")
        recorded = ("forebear", "record", "work", "--", *bare)
        works = {
            "bare": partial(_call, place, bare),
            "recorded": partial(_call, place, recorded),
        }
        turns = take_turns(1 if quick else 3, works)
        level = place.run_record("work")["confinement"]["level"]
    fence = take_turns(
        3 if quick else 25,
        {"open": lambda: try_confinement("off"), "fenced": lambda: try_confinement("enforce")},
    )
    return [
        {
            "bare_s": round(turns.seconds("bare"), 2),
            "recorded_s": round(turns.seconds("recorded"), 2),
            "extra_s": round(turns.above("recorded", "bare"), 2),
            "extra_percent": round(100 * (turns.ratio("recorded", "bare") - 1), 2),
            "extra_cpu_s": round(turns.above("recorded", "bare", cpu=True), 2),
            "confinement": level,
            "fence_ms": round(1000 * fence.above("fenced", "open"), 1),
            "load": load(),
        }
    ]


def _call(place: Workspace, words: tuple[str, ...]) -> None:
    """Without the time limit that tests have."""
    _must(
        subprocess.run(
            words, cwd=place.root, env=place.env, capture_output=True, text=True, check=False
        )
    )


def _must(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
