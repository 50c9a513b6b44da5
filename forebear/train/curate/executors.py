"""Runs a datatrove pipeline over numbered tasks: here, on Slurm, or on Ray.

A task's number decides what it reads and writes, so nothing depends on how many run at once or
where. Tasks that are complete are not run again, which is how a killed stage goes on. Under Slurm
and Ray the scratch folder must lie where all nodes see it, and the stage needs ``network: true``
under ``meta.forebear`` in ``dvc.yaml``.

Slurm and Ray were *not run here*: tests check the job scripts, and run them with a stand-in for
``sbatch``.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import multiprocess
from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from forebear.errors import EnvironmentFailure
from forebear.train.curate.params import ExecutorParams


class _Local(LocalPipelineExecutor):
    """Says nothing on the terminal, in its worker processes either."""

    def _run_for_rank(self, *args: Any, **named: Any) -> Any:
        logger.disable("datatrove")
        return super()._run_for_rank(*args, **named)


class _Slurm(SlurmPipelineExecutor):
    """Leaves out the job that only adds up statistics."""

    def launch_merge_stats(self) -> None:
        """Does nothing: the outcomes are counted from the documents themselves."""


def require_executor(params: ExecutorParams) -> None:
    """Refuses an executor that is not there, before anything is read.

    Raises:
        EnvironmentFailure: no ``sbatch`` on the path, or Ray is not installed.
    """
    if params.kind == "slurm" and shutil.which("sbatch") is None:
        raise EnvironmentFailure(
            "there is no sbatch on this machine",
            where="params.yaml: curate.executor.kind",
            fix="run the stage on a login node of the cluster, or choose local",
        )
    if params.kind == "ray" and find_spec("ray") is None:
        raise EnvironmentFailure(
            "Ray is not installed",
            where="params.yaml: curate.executor.kind",
            fix="pip install 'ray[default]' on every node, or choose local",
        )


def run_tasks(
    name: str,
    pipeline: Sequence[PipelineStep],
    n_tasks: int,
    params: ExecutorParams,
    *,
    work: Path,
) -> None:
    """Runs ``pipeline`` once for each task that is not complete yet.

    Args:
        name: of this part of the stage, unique within it.
        pipeline: steps; each task gets its own copy.
        n_tasks: how many there are.
        params: where they run.
        work: the stage's scratch folder.
    Raises:
        EnvironmentFailure: the cluster refused the jobs, or a task did not end well.
    """
    build: Callable[..., PipelineExecutor] = {"local": _local, "slurm": _slurm, "ray": _ray}[
        params.kind
    ]
    logger.disable("datatrove")
    logs = work / "logs" / name
    executor = build(name, list(pipeline), n_tasks, params, logs)
    try:
        executor.run()
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        if params.kind != "slurm":
            raise
        raise EnvironmentFailure(
            f"sbatch failed: {str(error)[:200]}", where=f"curate: {name}", fix=f"see {logs}"
        ) from error
    left = executor.get_incomplete_ranks(range(n_tasks), skip_completed=True)
    if left:
        raise EnvironmentFailure(
            f"{len(left)} of {n_tasks} tasks are not complete, the first is {left[0]}",
            where=f"curate: {name}",
            fix=f"see {logs}; the next run takes up the unfinished tasks alone",
        )


def end_workers() -> None:
    """Ends what multiprocess keeps running for later pools; a stage must leave no process behind.

    Left alone, both end when they notice that this process is gone, which the recorder may see
    first.
    """
    from multiprocess import forkserver, resource_tracker

    forkserver._forkserver._stop()  # noqa: SLF001  # there is no public way
    resource_tracker._resource_tracker._stop()  # noqa: SLF001  # likewise


def _local(
    _: str, pipeline: list[PipelineStep], n_tasks: int, params: ExecutorParams, logs: Path
) -> PipelineExecutor:
    workers = min(params.tasks, n_tasks)
    if workers > 1:
        # else every worker of every part imports it all again, which takes seconds
        multiprocess.set_forkserver_preload(["forebear.train.curate.pipeline"])
    return _Local(pipeline, tasks=n_tasks, workers=workers, logging_dir=str(logs))


def _slurm(
    name: str, pipeline: list[PipelineStep], n_tasks: int, params: ExecutorParams, logs: Path
) -> PipelineExecutor:
    return _Slurm(
        pipeline,
        tasks=n_tasks,
        time=params.time_limit,
        partition=str(params.partition),
        cpus_per_task=params.cpus_per_task,
        mem_per_cpu_gb=params.mem_per_cpu_gib,
        workers=params.tasks,
        job_name=f"forebear-curate-{name}",
        qos="",
        env_command=params.environment,
        # sbatch then ends with the job, and with its exit code
        sbatch_args={"wait": ""},
        logging_dir=str(logs.absolute()),
    )


def _ray(
    _: str, pipeline: list[PipelineStep], n_tasks: int, params: ExecutorParams, logs: Path
) -> PipelineExecutor:
    from datatrove.executor.ray import RayPipelineExecutor

    require_executor(params)
    import ray

    ray.init(address=params.address, ignore_reinit_error=True)
    return RayPipelineExecutor(
        pipeline,
        tasks=n_tasks,
        workers=params.tasks,
        cpus_per_task=params.cpus_per_task,
        mem_per_cpu_gb=params.mem_per_cpu_gib,
        logging_dir=str(logs.absolute()),
    )
