"""Starts a launcher from the stage's own process, passes on its progress, and waits for its end.

The launcher and its workers are descendants of the stage, so the recorder's fence holds them too
(but for what ``srun`` starts): they reach each other over loopback and write to outs and scratch
alone. What a worker refuses comes back as the stage's own error, once, however many refused.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from forebear import errors
from forebear.errors import EnvironmentFailure, ForebearError
from forebear.train.cpt_params import CptParams
from forebear.train.cpt_run import Places
from forebear.train.launch.commands import launcher_words
from forebear.train.launch.settings import Launch
from forebear.train.runtime import threads
from forebear.train.stage import SCRATCH_ENV

_PROGRESS = "cpt: "
_LAST_LINES = 30


def start_processes(params: CptParams, places: Places, *, scratch: Path, seed: int) -> None:
    """Trains in the processes that ``params.launch`` asks for; returns when they have ended well.

    Raises:
        ForebearError: what the first process that refused said.
        EnvironmentFailure: the launcher is missing or failed, or there is no allocation.
    """
    told = scratch / "errors"
    shutil.rmtree(told, ignore_errors=True)
    job = scratch / "job.json"
    job.write_text(
        json.dumps(
            {
                "params": params.model_dump(mode="json"),
                "places": {k: str(v.absolute()) if v else "" for k, v in asdict(places).items()},
                "scratch": str(scratch.absolute()),
                "errors": str(told.absolute()),
                "seed": seed,
            }
        ),
        encoding="utf-8",
    )
    words = launcher_words(params.launch, job, **_allocation(params.launch))
    code, last = _run(words, _environment(params.launch, scratch))
    if code == 0:
        return
    raise _first_error(told) or EnvironmentFailure(
        f"{params.launch.kind} ended with {code}: {_gist(last)}",
        where="cpt.launch",
        fix="its last lines:\n    " + "\n    ".join(last),
    )


def _allocation(launch: Launch) -> Mapping[str, str]:
    """Where the machines of a Slurm allocation meet.

    Raises:
        EnvironmentFailure: this process is in none.
    """
    if launch.kind != "slurm":
        return {}
    number, nodes = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_JOB_NODELIST")
    if not number or not nodes:
        raise EnvironmentFailure(
            "kind slurm trains inside an allocation, and this is none",
            where="cpt.launch",
            fix="write the job with `python -m forebear.train.launch --out FOLDER` and submit it: "
            "sbatch FOLDER/cpt.sbatch",
        )
    names = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=False
    ).stdout.split()
    if not names:
        raise EnvironmentFailure(
            "scontrol names no machine",
            where=f"SLURM_JOB_NODELIST={nodes[:80]}",
            fix="declare the network for the stage in dvc.yaml: meta: {forebear: {network: true}}",
        )
    return {"meet_at": names[0], "job_id": number}


def _environment(launch: Launch, scratch: Path) -> dict[str, str]:
    each = str(max(1, threads() // launch.processes_per_node))
    found = {
        **os.environ,
        SCRATCH_ENV: str(scratch.absolute()),
        "FOREBEAR_THREADS": each,
        "OMP_NUM_THREADS": each,
        "PYTHONUNBUFFERED": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if launch.nodes == 1:
        # the machine's name need not resolve where there is only loopback
        found |= {"GLOO_SOCKET_IFNAME": "lo", "TP_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    return found


def _run(words: list[str], env: Mapping[str, str]) -> tuple[int, list[str]]:
    """Runs the launcher; its exit code, and the end of what it said beside progress."""
    try:
        process = subprocess.Popen(
            words,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=_dying_with(os.getpid()),  # noqa: PLW1509  # no thread runs in this process
        )
    except OSError as error:
        raise EnvironmentFailure(
            f"the launcher cannot be started: {error.strerror}", where=words[0]
        ) from error
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with process:
        assert process.stdout is not None  # noqa: S101  # asked for above
        for line in process.stdout:
            if line.startswith(_PROGRESS):
                sys.stderr.write(line)
                sys.stderr.flush()
            elif line.strip():
                last.append(line.rstrip())
    return process.returncode, list(last)


def _dying_with(parent: int) -> Callable[[], None]:
    """What a child does so that it is killed with this process."""
    libc = ctypes.CDLL(None)

    def before_exec() -> None:
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(137)

    return before_exec


def _first_error(told: Path) -> ForebearError | None:
    """What the worker with the lowest number refused; None when none said why it ended."""
    for file in sorted(told.glob("*.json")):
        value = json.loads(file.read_text(encoding="utf-8"))
        kind = getattr(errors, value["type"], ForebearError)
        return kind(value["what"], value["where"], value["fix"])  # type: ignore[no-any-return]  # by name
    return None


def _gist(last: list[str]) -> str:
    """The line that most likely says why: an exception's own, else the last."""
    found = [line for line in last if "Error: " in line and "ChildFailedError" not in line]
    return (found or last or ["it said nothing"])[-1][:200]
