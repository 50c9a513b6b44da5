"""FLOP, device-hours and cost of a stage. MoE models count the parameters that work on a token."""

from __future__ import annotations

from dataclasses import dataclass

from forebear.planning.recipe import Generation, Job

_FORWARD = 2  # FLOP for each parameter and token
_FULL = 6  # forward, and twice as much backward
_FROZEN = 4  # the backward pass has no gradients of frozen weights


@dataclass(frozen=True, slots=True)
class Rates:
    """What a reader must judge for himself.

    Attributes:
        training_share: part of the peak that training reaches (model FLOP utilisation).
        sampling_share: the same for sampling, which waits for memory.
        price: of one device-hour, in the reader's currency; None when not given.
    """

    training_share: float
    sampling_share: float
    price: float | None


def flop(job: Job, active: int) -> tuple[int, str]:
    """FLOP of a job, and the formula."""
    if isinstance(job, Generation):
        return _FORWARD * active * job.tokens, f"{_FORWARD} x {active} x {job.tokens} tokens"
    each = _FULL if job.lora_rank is None else _FROZEN
    count, formula = each * active * job.tokens, f"{each} x {active} x {job.tokens} tokens"
    if job.reference:
        once = job.tokens // job.epochs
        count += _FORWARD * active * once
        formula += f" + {_FORWARD} x {active} x {once} tokens of the reference"
    return count, formula


def device_hours(job: Job, count: int, peak_flops: int | None, rates: Rates) -> float | None:
    """Hours of one device; None when its peak is unknown."""
    if peak_flops is None:
        return None
    share = rates.sampling_share if isinstance(job, Generation) else rates.training_share
    return count / (peak_flops * share) / 3600
