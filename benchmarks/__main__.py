"""Measures what the design promises: ``python -m benchmarks [THEME…]`` (or ``make bench``).

Ratios of one run rather than times, since they hold on a slow machine too; works take turns, so
that a busy spell hits all alike, and the load stands beside every figure. Needs 4 GiB of disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measuring import load, n_cores, table

Rows = list[dict[str, Any]]


def _hashing(*, quick: bool) -> Rows:
    from benchmarks.hashing import measure

    return measure(quick=quick)


def _verifying(*, quick: bool) -> Rows:
    from benchmarks.verifying import measure

    return measure(quick=quick)


def _recording(*, quick: bool) -> Rows:
    from benchmarks.recording import measure

    return measure(quick=quick)


def _scale(*, quick: bool) -> Rows:
    from benchmarks.scale import measure

    return measure(quick=quick)


def _startup(*, quick: bool) -> Rows:
    from benchmarks.startup import measure

    return measure(quick=quick)


def _ledger(*, quick: bool) -> Rows:
    from benchmarks.ledger import curve

    return curve((1_000,) if quick else (10_000, 100_000, 1_000_000))


def _throughput(*, quick: bool) -> Rows:
    from benchmarks.throughput import measure

    return measure(quick=quick)


def _curate_memory(*, quick: bool) -> Rows:
    from benchmarks.curate_memory import measure

    return measure(quick=quick)


THEMES: Mapping[str, tuple[str, Callable[..., Rows]]] = {
    "hashing": ("of_rate_in_memory at least 0.95", _hashing),
    "verifying": ("forebear verify: the fastest verifier, at most 1 s above memory", _verifying),
    "recording": ("extra_percent at most 2 on 60 s", _recording),
    "scale": ("1,000,000 artifacts in seconds, in bounded memory", _scale),
    "startup": ("forebear --help at most 150 ms", _startup),
    "ledger": ("build, root and proofs by the number of documents", _ledger),
    "throughput": ("ratio at least 0.98: each training stage against a bare loop", _throughput),
    "curate_memory": ("peak memory of curate flat from 10 MiB to 1 GiB of input", _curate_memory),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the themes asked for, all when none is, and prints a table for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("themes", nargs="*", metavar="THEME", help=", ".join(THEMES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work at all?")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.themes) - THEMES.keys())
    if unknown:
        parser.error(f"no such theme: {', '.join(unknown)}; there are {', '.join(THEMES)}")
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "cores": n_cores(),
        "load": load(),
        "quick": asked.quick,
        "themes": {},
    }
    print(f"{n_cores()} cores, load {load()}")
    for name in asked.themes or THEMES:
        promise, measure = THEMES[name]
        started = time.perf_counter()
        rows = measure(quick=asked.quick)
        found["themes"][name] = rows
        print(f"\n{name}: {promise} (took {time.perf_counter() - started:.0f} s)\n{table(rows)}")
        if asked.json is not None:  # after each theme: the later ones take minutes
            asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
