"""Command lines of the launchers, from the params: what is run, word by word.

Source: the options of ``torchrun`` (torch 2.13), ``accelerate launch`` and ``srun(1)``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from forebear.train.launch import worker
from forebear.train.launch.settings import Launch

WORKER = worker.__name__
_HERE = "127.0.0.1"


def launcher_words(launch: Launch, job: Path, *, meet_at: str = "", job_id: str = "") -> list[str]:
    """The launcher's command line.

    Args:
        launch: the params; a kind other than ``local``.
        job: file that says what the workers do.
        meet_at: first machine of a Slurm allocation.
        job_id: number of that allocation.
    """
    worker = ["-m", WORKER, str(job)]
    if launch.kind == "accelerate":
        return [*_accelerate(launch), *worker]
    if launch.kind == "torchrun":
        return [
            *_torchrun(launch, [f"--rdzv-endpoint={_HERE}:0", f"--local-addr={_HERE}"]),
            *worker,
        ]
    assert launch.slurm is not None  # noqa: S101  # held by the params model
    meeting = [f"--rdzv-endpoint={meet_at}:{launch.slurm.port}", f"--rdzv-id={job_id}"]
    return [*_srun(launch), *_torchrun(launch, meeting), *worker]


def _torchrun(launch: Launch, meeting: Sequence[str]) -> list[str]:
    return [
        sys.executable,
        *("-m", "torch.distributed.run"),
        f"--nnodes={launch.nodes}",
        f"--nproc-per-node={launch.processes_per_node}",
        "--max-restarts=0",  # the stage resumes by itself, from its own states
        "--rdzv-backend=c10d",
        *meeting,
    ]


def _accelerate(launch: Launch) -> list[str]:
    # --multi_gpu is its word for "start several by torchrun"; where there is no card the workers
    # train on processors, which --cpu would do in one process alone
    return [
        sys.executable,
        *("-m", "accelerate.commands.launch"),
        "--multi_gpu",
        f"--num_processes={launch.processes}",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        f"--main_process_ip={_HERE}",
        "--main_process_port=0",
        "--gpu_ids=all",
    ]


def _srun(launch: Launch) -> list[str]:
    # one task on each machine, which starts that machine's processes
    return ["srun", f"--nodes={launch.nodes}", f"--ntasks={launch.nodes}", "--ntasks-per-node=1"]
