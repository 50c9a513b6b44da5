"""What every benchmark needs: works that take turns, medians of ratios, a child, a table."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
_CLI = "from forebear.cli.main import main; main()"

Works = Mapping[str, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Turns:
    """Seconds of several works, which took turns so that a busy spell hits all alike.

    Attributes:
        wall: by the clock, one figure a round.
        cpu: of the processor, all threads and children, user and system.
    """

    wall: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]]

    def seconds(self, name: str) -> float:
        """Median by the clock."""
        return statistics.median(self.wall[name])

    def ratio(self, one: str, other: str, *, cpu: bool = False) -> float:
        """Median over the rounds of the time of ``one`` over that of ``other``."""
        times = self.cpu if cpu else self.wall
        pairs = zip(times[one], times[other], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def above(self, one: str, other: str, *, cpu: bool = False) -> float:
        """Median over the rounds of the seconds of ``one`` beyond those of ``other``."""
        times = self.cpu if cpu else self.wall
        pairs = zip(times[one], times[other], strict=True)
        return statistics.median(mine - theirs for mine, theirs in pairs)


def take_turns(n_rounds: int, works: Works) -> Turns:
    """Runs every work once a round."""
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n_rounds):
        for name, work in works.items():
            used, started = _cpu_s(), time.perf_counter()
            work()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(max(_cpu_s() - used, 1e-6))  # the clock of a short work stands still
    return Turns(wall, cpu)


def load() -> str:
    """Load averages of the machine, to be read beside every figure."""
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def forebear(*words: str) -> list[str]:
    """The command line of our own command, as the console script runs it."""
    return [sys.executable, "-P", "-c", _CLI, *words]


def run(words: Sequence[str], cwd: Path | None = None, *, codes: Sequence[int] = (0,)) -> None:
    """Runs a command that must end with one of these codes.

    Raises:
        RuntimeError: it ends with another one.
    """
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        said = f"{done.stdout[-500:]}{done.stderr[-500:]}"
        raise RuntimeError(f"{' '.join(words)[:200]} ended with {done.returncode}: {said}")


def in_child(module: str, function: str, *arguments: str | int) -> Any:
    """What a function gives in a process of its own, so that its peak memory is its own."""
    call = f"import json, {module} as m; print(json.dumps(m.{function}(*{arguments!r})))"
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def peak_mib() -> int:
    """Peak memory of this process."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as lines of text, one column a key."""
    names = list(rows[0])
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
