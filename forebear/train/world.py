"""The processes that train together: who this one is, and what all of them must agree on.

One process alone is a world of one, and nothing here touches ``torch.distributed`` then. A launcher
(:mod:`forebear.train.launch`) starts the others; each finds its place in the variables that
``torchrun`` and ``accelerate launch`` set (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def join() -> None:
    """Joins the processes that the launcher started. Called by their entry, and nowhere else.

    Graphics cards talk by NCCL, processors by gloo.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group(backend())


def leave() -> None:
    """Leaves the other processes, so that none waits for this one."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def backend() -> str:
    """Name of the library that carries tensors between the processes."""
    import torch

    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def rank() -> int:
    """Number of this process, from 0."""
    import torch

    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def size() -> int:
    """Number of processes."""
    import torch

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def barrier() -> None:
    """Returns when every process has come here."""
    import torch

    if size() > 1:
        torch.distributed.barrier()


def agree(value: bool) -> bool:
    """The first process's ``value``, in every process.

    For what follows the clock, which reads differently in each.
    """
    if size() == 1:
        return value
    return bool(_reduced([float(value) if rank() == 0 else 0.0])[0])


def total(values: Sequence[float]) -> list[float]:
    """The sum of each value over all processes, in double precision."""
    if size() == 1:
        return list(values)
    return [float(value) for value in _reduced(values)]


def _reduced(values: Sequence[float]) -> torch.Tensor:
    import torch

    sums_N = torch.tensor(list(values), dtype=torch.float64)
    torch.distributed.all_reduce(sums_N)
    return sums_N
