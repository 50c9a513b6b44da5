"""What a person may set about the gate: margins, requirements, limits, profile. Nothing measured.

Kept apart from the deciding code so that ``verify`` can read the signed values with it, without
the training extra. A key names a task (its main metric) or ``task.metric``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.gate.resample import DRAWS, SEED

SCREENING_LABEL = "screening gate: rules out only drops of ten points or more"
SAFETY_TASKS = ("harmbench", "jailbreakbench", "xstest")
PREVIOUS = "previous"
PARENTS, BEST_PARENT = "parents", "best_parent"  # words for runs named in ``parents``

Names = Annotated[tuple[str, ...], Field(strict=False)]  # YAML gives lists


class Requirement(BaseModel):
    """A gain that the candidate must show before anything else counts."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    vs: str = Field(min_length=1, description="name of the reference run")
    min_gain: float | None = Field(
        default=None, ge=-100, le=100, description="the difference's lower bound must exceed it"
    )
    min_delta: float | None = Field(
        default=None, ge=-100, le=100, description="the difference itself must reach it"
    )


class ContaminationSettings(BaseModel):
    """How eval items are looked for in the training texts, and how many may be found.

    Attributes:
        n: words of an n-gram.
        min_overlap: share of an item's n-grams that must be seen for it to be contaminated.
        max_rate: highest share of contaminated items, by task; ``golden`` for golden tasks,
            ``default`` for all others.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    n: int = Field(default=13, ge=3, le=50)
    min_overlap: float = Field(default=0.5, gt=0, le=1)
    max_rate: dict[str, float] = Field(default_factory=lambda: {"golden": 0.0, "default": 0.01})

    def allowed(self, task: str, *, golden: bool) -> float:
        """Highest share of contaminated items of a task."""
        if task in self.max_rate:
            return self.max_rate[task]
        return self.max_rate.get("golden" if golden else "default", 0.0)


class GateSettings(BaseModel):
    """Section ``eval`` of the params: how the measured runs are judged.

    Attributes:
        profile: ``smoke`` decides nothing, ``release`` insists on safety.
        alpha: of the test that the candidate is worse.
        required: gains that must be shown.
        margins: largest drop that is accepted, in the metric's own unit.
        limits: the candidate's figure, upper end of its 90 % interval, must not exceed it.
        report_only: tasks or metrics that are shown and never decide.
        references: by task, ``task.metric`` or ``default``: runs to compare with; also ``parents``
            (each) and ``best_parent``. Every reference when left out.
        parents: names of the runs of the candidate's parents.
        first_release: that there is no previous release.
        min_items: fewer cannot decide.
        max_errors: items that may end in an error.
        max_unparsed: share of answers that may be unreadable.
        contamination: None leaves the training texts unsearched.
        draws: of each bootstrap.
        resampling_seed: of the draws. Not the pipeline's, so that it stays while others move.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: Literal["smoke", "default", "release"] = "default"
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    required: dict[str, Requirement] = Field(default_factory=dict)
    margins: dict[str, float] = Field(default_factory=dict)
    limits: dict[str, float] = Field(default_factory=dict)
    report_only: Names = ()
    references: dict[str, Names] = Field(default_factory=dict)
    parents: Names = ()
    first_release: bool = False
    min_items: int = Field(default=50, ge=1)
    max_errors: int = Field(default=0, ge=0)
    max_unparsed: float = Field(default=0.05, ge=0, le=1)
    contamination: ContaminationSettings | None = None
    draws: int = Field(default=DRAWS, ge=200, le=100_000)
    resampling_seed: int = Field(default=SEED, ge=0, lt=2**53)

    def label(self, widest: float = 0.0) -> str:
        """The sentence that must stand beside the verdict wherever it is shown.

        Args:
            widest: the widest margin, as a share of its metric's range.
        """
        if self.profile == "smoke":
            return "smoke run: exercises the gate, decides nothing"
        return SCREENING_LABEL if widest >= 0.10 or self.profile == "default" else ""
