"""Prints the ratios that the design promises: ``python -m benchmarks`` (or ``make bench``).

Ratios rather than times: they hold on a busy or a slow machine too. Needs 256 MiB of disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from forebear.hashing.digest import hash_files

N_FILES = 8
FILE_BYTES = 32 * 2**20


def best_of(n_runs: int, work: Callable[[], object]) -> float:
    """Shortest time of several runs, in seconds."""
    times = []
    for _ in range(n_runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def hashing() -> float:
    """Our digest engine's time over that of ``sha256sum`` on the same warm files."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.bin" for number in range(N_FILES)]
        for file in files:
            file.write_bytes(os.urandom(FILE_BYTES))
        theirs = ["sha256sum", *map(str, files)]
        stock = best_of(3, lambda: subprocess.run(theirs, check=True, capture_output=True))
        return best_of(3, lambda: hash_files(files)) / stock


def start_up() -> tuple[float, float]:
    """Time of ``forebear --help``, in seconds, and its ratio to a bare Python's start."""
    python = [sys.executable, "-c", "pass"]
    ours = [sys.executable, "-P", "-c", "from forebear.cli.main import main; main()", "--help"]
    bare = best_of(5, lambda: subprocess.run(python, check=True, capture_output=True))
    help_s = best_of(5, lambda: subprocess.run(ours, check=True, capture_output=True))
    return help_s, help_s / bare


def main() -> None:
    """Measures and prints one line per promise."""
    print(f"hashing: {hashing():.2f} of sha256sum's time on {os.cpu_count()} cores")
    help_s, ratio = start_up()
    print(f"--help:  {1000 * help_s:.0f} ms, {ratio:.1f} times a bare Python (budget 150 ms)")


if __name__ == "__main__":
    main()
