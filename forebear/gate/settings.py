"""What a person may set about the gate: margins, requirements, profile. Nothing measured.

Kept apart from the deciding code so that ``verify`` can read the signed values with it, without
the training extra.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCREENING_LABEL = "screening gate: rules out only drops of ten points or more"


class Requirement(BaseModel):
    """A gain that the candidate must show before anything else counts."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    vs: str = Field(min_length=1, description="name of the reference run")
    min_gain: float | None = Field(
        default=None, ge=-1, le=1, description="the difference's lower bound must exceed it"
    )
    min_delta: float | None = Field(
        default=None, ge=-1, le=1, description="the difference itself must reach it"
    )


class GateSettings(BaseModel):
    """Section ``eval`` of the params: how the measured runs are judged."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: Literal["smoke", "default", "release"] = "default"
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    required: dict[str, Requirement] = Field(default_factory=dict)
    margins: dict[str, float] = Field(default_factory=dict)
    first_release: bool = False
    min_items: int = Field(default=50, ge=1)
    max_errors: int = Field(default=0, ge=0)
    max_unparsed: float = Field(default=0.05, ge=0, le=1)

    def label(self) -> str:
        """The sentence that must stand beside the verdict wherever it is shown."""
        if self.profile == "smoke":
            return "smoke run: exercises the gate, decides nothing"
        widest = max(self.margins.values(), default=0.0)
        return SCREENING_LABEL if widest >= 0.10 or self.profile == "default" else ""
