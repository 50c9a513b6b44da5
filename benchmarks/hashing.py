"""Our digest engine against the same number of bytes in memory, hashed by as many threads."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.measuring import load, n_cores, run, take_turns
from forebear.hashing.digest import hash_tree

N_FILES = 8
MIB = 2**20


def write_files(folder: Path, total_mib: int, n_files: int = N_FILES) -> None:
    """Files of equal size, in the page cache afterwards."""
    block = os.urandom(MIB)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_files):
        with (folder / f"{number}.bin").open("wb") as stream:
            for _ in range(total_mib // n_files):
                stream.write(block)


def in_memory(total_mib: int) -> None:
    """Hashes so many MiB that lie in memory, shared between one thread a core."""
    block = os.urandom(MIB)

    def work(n_mib: int) -> None:
        digest = hashlib.sha256()
        for _ in range(n_mib):
            digest.update(block)

    n_threads = n_cores()
    threads = [
        threading.Thread(target=work, args=(total_mib // n_threads,)) for _ in range(n_threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(*, quick: bool = False) -> list[dict[str, Any]]:
    """Shares of the rate in memory, by the clock and by processor time; small files' rate."""
    total_mib, n_small = (64, 200) if quick else (1024, 10_000)
    with tempfile.TemporaryDirectory(prefix="forebear-bench-") as scratch:
        big, small = Path(scratch) / "big", Path(scratch) / "small"
        write_files(big, total_mib)
        small.mkdir()
        for number in range(n_small):
            (small / f"{number}.txt").write_bytes(os.urandom(1000))
        stock = ["sh", "-c", "find . -type f -print0 | xargs -0 sha256sum"]
        turns = take_turns(
            2 if quick else 9,
            {
                "memory": lambda: in_memory(total_mib),
                "files": lambda: hash_tree(big),
                "small": lambda: hash_tree(small),
                "small by sha256sum": lambda: run(stock, small),
            },
        )
    return [
        {
            "mib": total_mib,
            "gb_per_s": round(total_mib * MIB / turns.seconds("files") / 1e9, 2),
            "of_rate_in_memory": round(turns.ratio("memory", "files"), 3),
            "of_it_by_cpu": round(turns.ratio("memory", "files", cpu=True), 3),
            "small_files": n_small,
            "small_s": round(turns.seconds("small"), 3),
            "time_of_sha256sum": round(turns.ratio("small", "small by sha256sum"), 2),
            "load": load(),
        }
    ]
