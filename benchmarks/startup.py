"""How long the command takes to say anything: help, and the verification of a tiny release."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import forebear, load, run, take_turns
from tests.support.release import build_release


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """Milliseconds, by the clock and by processor time."""
    with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
        made = build_release(Path(scratch))
        verify = forebear("verify", str(made.packed), "--trust", str(made.owner_pub))
        turns = take_turns(
            1 if quick else 9,
            {
                "bare python": lambda: run([sys.executable, "-P", "-c", "pass"]),
                "forebear --help": lambda: run(forebear("--help")),
                "forebear verify, tiny release": lambda: run(verify),
            },
        )
    return [
        {
            "command": name,
            "ms": round(1000 * turns.seconds(name)),
            "cpu_ms": round(1000 * sorted(turns.cpu[name])[len(turns.cpu[name]) // 2]),
            "load": load(),
        }
        for name in turns.wall
    ]
