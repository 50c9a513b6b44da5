"""Runs the stage ``cpt`` in processes of its own, on a tiny model, and kills it when asked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forebear.formats import strictjson

REPOSITORY = Path(__file__).parents[3]
LENGTH = 32
# Three epochs of three steps, shuffled, each step of two forward passes.
PARAMS: dict[str, Any] = {
    "lr": 5e-3,
    "epochs": 3,
    "batch_sequences": 2,
    "grad_accumulation": 2,
    "warmup_ratio": 0.1,
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "checkpoint_every_tokens": 12 * LENGTH,
    "max_forgetting": 5.0,
}
STEPS_PER_EPOCH = 3


def write_shards(folder: Path, *, n: int = 13) -> Path:
    """Packed random sequences, each of two documents, and three for each validation."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name, rows in (("train", n), ("validation_domain", 3), ("validation_replay", 3)):
        ids = rng.integers(3, 40, size=(rows, LENGTH)).astype("<u2")
        ids[:, 10] = 2
        (folder / f"{name}.bin").write_bytes(ids.tobytes())
    meta = {"dtype": "<u2", "length_tokens": LENGTH, "eos_id": 2}
    (folder / "meta.json").write_bytes(strictjson.dumps(meta))
    return folder


def stage_words(base: Path | str, shards: Path | str, out: Path | str) -> list[str]:
    """The stage's command."""
    return [
        *("python", "-m", "stages.cpt", "--base", str(base), "--shards", str(shards)),
        *("--out", f"{out}/checkpoint", "--intermediate", f"{out}/intermediate"),
        *("--log", f"{out}/log.jsonl", "--metrics", f"{out}/metrics.json"),
        *("--curves", f"{out}/curves.csv"),
    ]


def start_stage(
    base: Path, shards: Path, out: Path, *, scratch: Path, params: Mapping[str, Any], **env: str
) -> subprocess.Popen[str]:
    """The stage, started in the repository; it writes to ``out`` and resumes in ``scratch``."""
    out.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch.with_suffix(".json")
    file.write_text(json.dumps({"seed": 3, "cpt": {**PARAMS, **params}}), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, *stage_words(base, shards, out)[1:]],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "FOREBEAR_PARAMS": str(file),
            "FOREBEAR_SCRATCH": str(scratch),
            "FOREBEAR_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 240) -> tuple[int, str]:
    """Its exit code and what it said."""
    said, _ = process.communicate(timeout=timeout_s)
    return process.returncode, said


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """SIGKILL to the stage alone, as soon as ``reached`` holds; it must still be running then."""
    give_up_at = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < give_up_at, "the moment never came"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


def steps_saved(scratch: Path) -> int:
    """Steps of the newest complete state in ``scratch``; 0 without any."""
    marks = scratch.glob("trainer/checkpoint-*/complete")
    return max((int(mark.parent.name.split("-")[1]) for mark in marks), default=0)


def workers_of(job: Path) -> list[int]:
    """Living processes that were started for ``job``."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if os.fsencode(job) in words and state not in "ZX":
                found.append(int(folder.name))
    return found


def curves(out: Path) -> list[dict[str, float]]:
    """The rows of the stage's curves."""
    import csv

    with (out / "curves.csv").open(encoding="utf-8") as handle:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(handle)]
