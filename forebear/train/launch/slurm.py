"""The job file of a Slurm cluster: the stage under DVC and the recorder, inside one allocation.

The job runs ``dvc repro`` on its first machine; the stage's own process starts ``srun`` with
torchrun on every machine. Inputs, outs and params are recorded as everywhere, but what ``srun``
starts belongs to Slurm's daemons: the recorder neither confines nor measures it, and the stage must
declare the network. A job that Slurm ends at its limit is put back into the queue, and goes on from
its last state.

Written and checked here; *not run here*.

Source: ``sbatch(1)`` and ``srun(1)``.
"""

from __future__ import annotations

import re
import subprocess

from forebear.errors import FormatError
from forebear.train.cpt_params import CptParams

# Options that are written, each with what its value may be.
_OPTIONS = {
    "job-name": r"[A-Za-z0-9_-]+",
    "nodes": r"[1-9]\d*",
    "ntasks-per-node": r"1",
    "cpus-per-task": r"[1-9]\d*",
    "gpus-per-node": r"[1-9]\d*",
    "time": r"(\d+-)?\d{1,2}:\d{2}:\d{2}",
    "partition": r"[A-Za-z0-9_,.-]+",
    "account": r"[A-Za-z0-9_.-]+",
    "mem": r"\d+[KMGT]?",
    "output": r"[A-Za-z0-9_%.-]+",
    "requeue": r"",
    "signal": r"B?:?TERM@\d+",
}
_NEEDED = ("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "time")


def render_job(params: CptParams) -> str:
    """The text of ``cpt.sbatch``; checked.

    Raises:
        FormatError: a line of ``setup`` breaks the file.
    """
    launch, slurm = params.launch, params.launch.slurm
    assert slurm is not None  # noqa: S101  # held by the params model
    options = {
        "job-name": "forebear-cpt",
        "nodes": str(launch.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(slurm.cpus_per_task),
        "gpus-per-node": str(slurm.gpus_per_node) if slurm.gpus_per_node else None,
        "time": slurm.time,
        "partition": slurm.partition,
        "account": slurm.account,
        "mem": slurm.memory,
        "output": "forebear-cpt-%j.out",
        "requeue": "",
        "signal": "B:TERM@120",
    }
    lines = [
        "#!/bin/bash",
        *(
            f"#SBATCH --{name}={value}" if value else f"#SBATCH --{name}"
            for name, value in options.items()
            if value is not None
        ),
        "# Written from params.yaml by `python -m forebear.train.launch`; not run by it.",
        "# dvc.yaml must give the stage the network: meta: {forebear: {network: true}}",
        "set -euo pipefail",
        *slurm.setup,
        # one task starts a machine's processes, so it needs the machine's cores
        'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
        "dvc repro --single-item cpt &",
        'trap \'kill -TERM "$!"; wait "$!" || true; scontrol requeue "$SLURM_JOB_ID"\' TERM',
        'wait "$!"',
    ]
    text = "\n".join(lines) + "\n"
    require_job(text)
    return text


def require_job(text: str) -> None:
    """Refuses a job file that bash or Slurm would not take.

    Raises:
        FormatError: a shell error, an unknown option, a bad value, or an option too few.
    """
    require_shell(text, "cpt.sbatch")
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("#SBATCH"):
            continue
        option = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(.*))?", line)
        name = option.group(1) if option else ""
        if option is None or name not in _OPTIONS:
            raise FormatError(f"unknown option {line[:60]!r}", where=f"cpt.sbatch:{number}")
        if not re.fullmatch(_OPTIONS[name], option.group(2) or ""):
            raise FormatError(f"bad value {line[:60]!r}", where=f"cpt.sbatch:{number}")
        found[name] = option.group(2)
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise FormatError(f"lacks --{missing[0]}", where="cpt.sbatch")


def require_shell(text: str, name: str) -> None:
    """Refuses a text that is no bash script.

    Raises:
        FormatError: what bash says.
    """
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise FormatError(f"is no bash script: {said[0] if said else done.returncode}", where=name)
