"""Whether a recipe fits its hardware, stage by stage, with formulas and assumptions.

The verdict is arithmetic about memory, never a measurement: *fits*, *does not fit*, or *unknown*
when a fact is missing. Time and cost are told beside it and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forebear.planning.compute import Rates, device_hours, flop
from forebear.planning.facts import ModelFacts, by_repo
from forebear.planning.hardware import GIB, Cluster
from forebear.planning.memory import Model, Term, generation_terms, training_terms
from forebear.planning.recipe import Generation, Job, Recipe, Training

FITS, DOES_NOT_FIT, UNKNOWN = "fits", "does not fit", "unknown"

# left free for fragments of the allocator and buffers of communication
RESERVE_PERCENT = 10
RUNTIME_BYTES = {"cpu": GIB // 2, "accelerator": 3 * GIB // 2}


@dataclass(frozen=True, slots=True)
class StageFit:
    """One stage's arithmetic; hours and cost are None where something is not known.

    Attributes:
        devices: how many the stage is started on.
        wall_hours: of the clock, with all of them at work.
        host_bytes: of a node's own memory, while the checkpoint is loaded: whole, as float32, by
            each process; None where another program loads it.
        too_many: the stage starts more processes than the hardware has devices.
    """

    stage: str
    devices: int
    terms: tuple[Term, ...]
    peak_bytes: int
    budget_bytes: int
    tokens: int
    flop: int
    flop_formula: str
    device_hours: float | None
    wall_hours: float | None
    cost: float | None
    host_bytes: int | None
    too_many: bool

    @property
    def verdict(self) -> str:
        """Whether the devices suffice, in number and in memory."""
        return DOES_NOT_FIT if self.too_many or self.peak_bytes > self.budget_bytes else FITS


@dataclass(frozen=True, slots=True)
class FitReport:
    """A recipe on a cluster.

    Attributes:
        model: the base model's facts; None when the table has no such repository.
        reason: why the verdict is unknown; empty otherwise.
    """

    recipe: Recipe
    cluster: Cluster
    rates: Rates
    model: ModelFacts | None
    stages: tuple[StageFit, ...]
    reason: str = ""

    @property
    def verdict(self) -> str:
        """The worst of the stages; unknown without facts."""
        if self.reason:
            return UNKNOWN
        return FITS if all(one.verdict == FITS for one in self.stages) else DOES_NOT_FIT

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know about model and recipe."""
        unpinned = (self.recipe.unpinned,) if self.recipe.unpinned else ()
        return (*unpinned, *(self.model.notes if self.model else ()))


def fit(
    recipe: Recipe, table: Mapping[str, ModelFacts], cluster: Cluster, rates: Rates
) -> FitReport:
    """The arithmetic of every stage that trains or samples."""
    model = recipe.random or by_repo(table, recipe.repo)
    if model is None:
        reason = f"the facts table has no row for {recipe.repo}; add one with --facts"
        return FitReport(recipe, cluster, rates, None, (), reason)
    if model.architecture is None:
        reason = f"the architecture of {model.name} is unknown; add it with --facts"
        return FitReport(recipe, cluster, rates, model, (), reason)
    shape = model.architecture
    # publishers round, and count what the architecture here leaves out: the larger one is meant
    weights = Model(shape, max(model.total or 0, shape.total()))
    active = max(model.active or 0, shape.active())
    stages = tuple(_stage(job, weights, active, cluster, rates) for job in recipe.jobs)
    return FitReport(recipe, cluster, rates, model, stages)


def _stage(job: Job, weights: Model, active: int, cluster: Cluster, rates: Rates) -> StageFit:
    device, devices = cluster.device, job.launch.processes
    # `auto` is bf16 where the hardware has it: accelerators of today, few processors
    precision = "fp32" if isinstance(job, Generation) else job.precision
    exact = precision == "fp32" or (precision == "auto" and device.kind == "cpu")
    each = 4 if exact else 2
    if isinstance(job, Generation):
        terms = generation_terms(job, weights, compute_bytes=each)
    else:
        terms = training_terms(job, weights, compute_bytes=each, scores=device.kind == "cpu")
    terms = (*terms, Term("libraries and kernels", "a fixed sum", RUNTIME_BYTES[device.kind]))
    count, formula = flop(job, active)
    peak = device.peak_fp32_flops if exact else device.peak_bf16_flops
    hours = device_hours(job, count, peak, rates)
    return StageFit(
        stage=job.stage,
        devices=devices,
        terms=terms,
        peak_bytes=sum(term.size_bytes for term in terms),
        budget_bytes=device.memory_bytes * (100 - RESERVE_PERCENT) // 100,
        tokens=job.tokens,
        flop=count,
        flop_formula=formula,
        device_hours=hours,
        wall_hours=None if hours is None else hours / devices,
        cost=None if hours is None or rates.price is None else hours * rates.price,
        host_bytes=_host_bytes(job, weights),
        too_many=devices > cluster.devices,
    )


def _host_bytes(job: Job, weights: Model) -> int | None:
    if isinstance(job, Training) and job.megatron is not None:
        return None
    return job.launch.processes // job.launch.nodes * 4 * weights.parameters


def assumptions(report: FitReport) -> tuple[str, ...]:
    """What the arithmetic takes for granted, one sentence each."""
    said = [
        "weights, gradients and AdamW's moments are float32; cpt alone computes in bf16 if asked",
        f"{RESERVE_PERCENT}% of a device's memory stay free for fragments and communication",
        "rows are as long as said, none shorter; logits are kept for every position",
        "all parameters count for memory; those that work on a token count for FLOP",
        "a stage without `launch` is one process on one device",
        "host memory is shown and not judged; base, merge and measure hold whole checkpoints in it",
    ]
    device = report.cluster.device
    if device.peak_bf16_flops is not None and device.peak_fp32_flops is not None:
        said.append(
            f"training reaches {report.rates.training_share:.0%} of the peak ("
            f"{device.peak_bf16_flops:.3g} FLOP/s in bf16, {device.peak_fp32_flops:.3g} in "
            f"float32), sampling {report.rates.sampling_share:.0%}; recomputation is not counted "
            "as work; validation and loading are left out"
        )
    return tuple(said)
