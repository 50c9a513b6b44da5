"""The smoke pipeline under twenty power cuts at seeded moments, spread over all of its stages.

A clone is started, killed with everything it started, mended and started again, until it is done;
what it made must be what a clone made that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebear.formats.dsse import parse_envelope
from forebear.formats.link import parse_link
from tests.support.clone import Clone, clone_smoke

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

N_KILLS = 20
SEED = 20
# a run is up and has found its first stage to do long before this
_LIMIT_S = 300.0
# what `forebear record` and the interpreter take before and after the stage's own command
_AROUND_S = 1.5
STAGES = (
    *("base", "curate", "tokenize", "cpt", "sft", "distill", "prefer", "merge"),
    *("measure@base", "measure@final", "eval", "document", "attest"),
)


TRAININGS = ("cpt", "sft", "distill", "prefer")


@dataclass(frozen=True, order=True)
class Moment:
    """When to strike.

    Attributes:
        place: of the stage in the run.
        trained: at a share of the training's steps, when one is durable; else of the stage's time.
        share: between 0 and 1.
    """

    place: int
    trained: bool
    share: float

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return STAGES[self.place]

    def __str__(self) -> str:
        return f"{self.share:.0%} of the {'steps' if self.trained else 'time'} of {self.stage}"


def moments() -> list[Moment]:
    """One in the time of each stage, one in the steps of each training, the rest drawn from these.

    Much of a small stage is the start of its libraries: a share of its time alone would seldom
    hit a training that has something to resume.
    """
    draw = random.Random(SEED)  # noqa: S311  # moments, no secrets
    stages = [*STAGES, *TRAININGS]
    stages += draw.choices(TRAININGS, k=N_KILLS - len(stages))
    drawn = [
        Moment(STAGES.index(name), number >= len(STAGES), draw.uniform(0.1, 0.9))
        for number, name in enumerate(stages)
    ]
    return sorted(drawn)


def wall_seconds(clone: Clone) -> dict[str, float]:
    """What each stage's command took where nobody disturbed it, by its link."""
    found = {}
    for name in STAGES:
        file = clone.root / "links" / f"{name}.link"
        payload = parse_envelope(file.read_bytes(), where=name).payload
        record = parse_link(payload, where=name).byproducts["forebear"]
        found[name] = float(record["wall_s"]) + _AROUND_S
    return found


def figures(clone: Clone, stage: str) -> dict[str, Any]:
    """The stage's metrics."""
    found: dict[str, Any] = json.loads((clone.root / "data" / stage / "metrics.json").read_bytes())
    return found


def made(clone: Clone) -> dict[str, str]:
    """SHA-256 of every file below ``data``."""
    return {
        file.relative_to(clone.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((clone.root / "data").rglob("*"))
        if file.is_file()
    }


def started_stages(clone: Clone) -> list[str]:
    """Stages that the run has started, by what DVC says."""
    text = (clone.root / "started.log").read_text(encoding="utf-8", errors="replace")
    return [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage '")]


def descendants(pid: int) -> set[int]:
    """The process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[int(folder.name)] = int(fields[1])
    found = {pid}
    while below := {child for child, parent in parents.items() if parent in found} - found:
        found |= below
    return found


def cut_power(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and everything below it at one moment: all are stopped, then killed."""
    stopped: set[int] = set()
    while fresh := descendants(process.pid) - stopped:
        for pid in fresh:
            _send(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        _send(pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(_lives(pid) for pid in stopped):
        assert time.monotonic() < deadline, "a killed process still runs"
        time.sleep(0.01)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def durable_step(clone: Clone, stage: str) -> int:
    """The step after which the stage's training would go on; 0 when there is nothing to resume."""
    scratch = clone.root / ".dvc" / "tmp" / "forebear" / "scratch" / stage
    try:
        states = [state.parent.name for state in scratch.rglob("checkpoint-*/complete")]
    except FileNotFoundError:  # a stage that has just ended clears its folder while we look
        return 0
    return max((int(name.split("-")[1]) for name in states), default=0)


def strike(
    clone: Clone, moment: Moment, seconds: Mapping[str, float], steps: Mapping[str, int]
) -> str:
    """Starts the run and cuts its power; the stage that it was in the middle of, else nothing."""
    before = durable_step(clone, moment.stage)
    wanted = max(before + 1, round(moment.share * steps.get(moment.stage, 0)))
    run = clone.start("dvc", "repro", extra={"FOREBEAR_SAVE_EVERY_S": "0", "PYTHONUNBUFFERED": "1"})
    target, at, limit = "", float("inf"), time.monotonic() + _LIMIT_S
    while time.monotonic() < at:
        assert time.monotonic() < limit, "no stage was started in time"
        if run.poll() is not None:
            assert run.returncode == 0, (clone.root / "started.log").read_text(errors="replace")
            return ""  # it came to its end first
        due = [name for name in started_stages(clone) if STAGES.index(name) >= moment.place]
        if target and due[-1] != target:
            break  # the stage was quicker than it had been: strike the next one at its start
        if due and not target:
            target = due[-1]  # one after the moment's own, where that had been finished before
            if not (moment.trained and target == moment.stage):
                at = time.monotonic() + moment.share * seconds[target]
        training = moment.trained and target == moment.stage
        if training and durable_step(clone, moment.stage) >= wanted:
            break
        time.sleep(0.01)
    cut_power(run)
    stage = started_stages(clone)[-1]
    # DVC removes a stage's outs before it runs, and its link is the last thing it makes
    return "" if (clone.root / "links" / f"{stage}.link").exists() else stage


def test_a_run_cut_off_twenty_times_ends_in_the_bytes_of_one_that_was_not(
    clone: Clone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load((clone.root / "params.yaml").read_text(encoding="utf-8"))
    for stage in ("cpt", "sft"):
        assert params[stage]["epochs"] > 1
        assert params[stage]["grad_accumulation"] > 1
    seconds = wall_seconds(clone)
    steps = {name: int(figures(clone, name)["steps"]) for name in TRAININGS}
    other = clone_smoke(tmp_path / "other", config=tmp_path / "config")
    other.run("forebear", "keys", "ensure")
    hit, lines, resumed = Counter[str](), [], 0
    for number, moment in enumerate(moments(), start=1):
        stage = strike(other, moment, seconds, steps)
        hit[stage] += 1
        resumed += "resumed at step" in (other.root / "started.log").read_text(errors="replace")
        lines.append(
            f"kill {number:2}: {moment}, "
            f"{f'in the middle of {stage}' if stage else 'between two stages'}"
        )
        other.run("forebear", "doctor", "--mend")
    other.run("dvc", "repro")
    lines.append(f"{resumed} runs resumed a training")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    differing = {path for path, _ in set(made(clone).items()) ^ set(made(other).items())}
    assert not differing, json.dumps(sorted(differing))
    assert other.run("forebear", "verify", ".").returncode == 0
    # the kills did hit work: running stages, most of them, and trainings. Which ones follows the
    # clock: on a busy machine a moment of one stage falls into the next
    assert sum(hit.values()) - hit[""] >= N_KILLS - 6, lines
    assert len(hit.keys() - {""}) >= len(STAGES) - 5, lines
    assert resumed >= len(TRAININGS) - 1, lines


def test_moments_are_the_same_in_every_run_and_in_every_stage() -> None:
    first, second = moments(), moments()
    assert first == second
    assert len(first) == N_KILLS
    assert {moment.stage for moment in first} == set(STAGES)
