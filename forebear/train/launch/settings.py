"""Params of how a training stage is started: by whom, in how many processes, on how many machines.

Imports nothing heavy. It refuses combinations that no launcher can start.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Slurm(_Strict):
    """What the job asks of Slurm.

    Attributes:
        time: limit, as Slurm writes it: ``D-HH:MM:SS`` or ``HH:MM:SS``.
        gpus_per_node: graphics cards of each machine; 0 trains on processors.
        cpus_per_task: processor cores of each machine's one task.
        partition: queue; the cluster's own choice when left out.
        account: who pays; likewise.
        memory: of each machine, such as ``512G``; likewise.
        port: where the processes meet on the first machine.
        setup: shell lines before the start, such as ``module load cuda``.
    """

    time: str = Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")
    gpus_per_node: int = Field(default=8, ge=0)
    cpus_per_task: int = Field(default=16, ge=1)
    partition: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_,.-]+$")
    account: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$")
    memory: str | None = Field(default=None, pattern=r"^\d+[KMGT]?$")
    port: int = Field(default=29500, ge=1024, le=65535)
    setup: tuple[str, ...] = Field(default=(), strict=False)


class Launch(_Strict):
    """How the processes are started.

    Attributes:
        kind: ``local`` trains in the stage's own process; ``accelerate`` and ``torchrun`` start
            several on this machine; ``slurm`` starts torchrun on every machine of an allocation.
        processes: of all machines together.
        nodes: machines; more than one only under ``slurm``.
        sharding: ``none`` keeps a whole model in each process (DDP); ``fsdp2`` splits weights,
            gradients and optimizer state over them (``fully_shard``).
        slurm: what the job asks for; with ``kind: slurm``.
    """

    kind: Literal["local", "accelerate", "torchrun", "slurm"] = "local"
    processes: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    sharding: Literal["none", "fsdp2"] = "none"
    slurm: Slurm | None = None

    @property
    def processes_per_node(self) -> int:
        """Processes of each machine."""
        return self.processes // self.nodes

    @model_validator(mode="after")
    def _require_startable(self) -> Launch:
        if self.kind == "local" and (self.processes > 1 or self.sharding != "none"):
            raise ValueError(
                "kind local is one process with the whole model: choose torchrun or accelerate"
            )
        if self.nodes > 1 and self.kind != "slurm":
            raise ValueError("several nodes need kind slurm")
        if self.processes % self.nodes:
            raise ValueError(f"{self.processes} processes do not divide among {self.nodes} nodes")
        if (self.slurm is not None) != (self.kind == "slurm"):
            raise ValueError("the section slurm and kind slurm go together")
        if self.kind == "accelerate" and self.processes == 1:
            raise ValueError("accelerate starts two processes or more: choose local")
        return self


class Megatron(_Strict):
    """How Megatron splits the model; sizes multiply to a divisor of the number of processes.

    Attributes:
        bridge: folder of a checkout of Megatron Bridge, on every machine.
        recipe: its pretraining recipe for the model's architecture, such as
            ``qwen3_8b_pretrain_config``; values of the params override the recipe's.
        tensor: tensor-parallel size.
        pipeline: pipeline-parallel size.
        context: context-parallel size.
        expert: expert-parallel size, for a mixture of experts.
    """

    bridge: str = Field(pattern=r"^/[A-Za-z0-9/_.-]+$")
    recipe: str = Field(pattern=r"^[a-z0-9_]+_pretrain_[a-z0-9_]*config$")
    tensor: int = Field(default=1, ge=1)
    pipeline: int = Field(default=1, ge=1)
    context: int = Field(default=1, ge=1)
    expert: int = Field(default=1, ge=1)

    @property
    def processes_per_replica(self) -> int:
        """Processes that hold one copy of the model together."""
        return self.tensor * self.pipeline * self.context
