"""Section ``distill`` of the params: who teaches, who judges, and how the student learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forebear.errors import ConfigError
from forebear.train.distill.endpoint import EndpointParams
from forebear.train.distill.sandbox import RULE as FENCES_RULE
from forebear.train.distill.sandbox import SandboxParams
from forebear.train.distill.terms import require_terms
from forebear.train.distill.verifiers import BY_ROW, VerifierSettings, require_verifier
from forebear.train.stage import StageParams

# Accepted learning rates of full fine-tuning: training page, section sft.
_LR_RANGE = (1e-5, 5e-5)
TERMS_RULE = "distill.teacher.terms"


class Teacher(BaseModel):
    """Who answers, and whether its terms let a student learn from the answers.

    ``by`` is who read the terms: needed where the table of known terms says nothing certain.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1)
    terms: str = Field(min_length=1)
    training_on_output: Literal["permitted", "forbidden", "unknown"]
    by: str | None = Field(default=None, min_length=2)


class CheckpointTeacher(Teacher):
    """A local checkpoint."""

    kind: Literal["checkpoint"]


class TrajectoriesTeacher(Teacher):
    """A data set of finished answers."""

    kind: Literal["trajectories"]


class EndpointTeacher(Teacher):
    """A model behind an HTTP interface."""

    kind: Literal["endpoint"]
    endpoint: EndpointParams


class StudentParams(BaseModel):
    """How the student learns from what was kept.

    ``sft`` learns the kept answers; ``logits`` learns the teacher's distributions on the student's
    own answers, where both share a vocabulary. ``divergence`` and ``temperature`` belong to
    ``logits``: 0 is the forward Kullback-Leibler divergence (cover all that the teacher would say),
    1 the reverse one (say what the teacher is sure of), between them the Jensen-Shannon kind.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    method: Literal["sft", "logits"] = "sft"
    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    grad_accumulation: int = Field(default=1, ge=1)
    max_rows: int = Field(ge=1)
    per_prompt: int = Field(default=1, ge=1)
    warmup_ratio: float = Field(default=0.1, ge=0, le=0.1)
    divergence: float = Field(default=1.0, ge=0, le=1)
    temperature: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> StudentParams:
        if self.batch_rows % self.grad_accumulation:
            raise ValueError("batch_rows must be a multiple of grad_accumulation")
        if self.method == "sft" and (self.divergence, self.temperature) != (1.0, 1.0):
            raise ValueError("divergence and temperature belong to method logits")
        if self.method == "logits" and self.per_prompt != 1:
            raise ValueError("method logits trains on the student's own answers: per_prompt is 1")
        return self


class DistillParams(StageParams):
    """Section ``distill`` of the params."""

    teacher: Annotated[
        CheckpointTeacher | TrajectoriesTeacher | EndpointTeacher, Field(discriminator="kind")
    ]
    verifier: str = "exact_match"
    forms: tuple[str, ...] = Field(strict=False, min_length=1)
    max_prompts: int = Field(ge=1)
    held_out_rows: int = Field(default=16, ge=1)
    samples_per_prompt: int = Field(ge=1)
    temperature: float = Field(ge=0)
    max_new_tokens: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    min_kept: int = Field(default=1, ge=1)
    student: StudentParams
    sandbox: SandboxParams = Field(default_factory=SandboxParams)

    @property
    def terms_allowance(self) -> dict[str, str] | None:
        """Who set the teacher's terms aside and why; None when nobody did."""
        for entry in self.allow:
            if entry.rule == TERMS_RULE:
                return {"reason": entry.reason, "by": entry.by}
        return None

    @property
    def verifier_settings(self) -> VerifierSettings:
        """What the verifiers need to know."""
        return VerifierSettings(self.sandbox, weak_fences=self.allows(FENCES_RULE))

    def require(self) -> None:
        """Refuses what validation of single values cannot see.

        Raises:
            ConfigError: unknown verifier, learning rate out of range, logits of a teacher that
                has none to give, or terms that forbid.
        """
        if self.verifier != BY_ROW:
            require_verifier(self.verifier, where="params.yaml: distill.verifier")
        self.require_range("distill.student.lr", self.student.lr, *_LR_RANGE)
        if self.student.method == "logits" and self.teacher.kind != "checkpoint":
            raise ConfigError(
                f"a teacher of kind {self.teacher.kind} gives answers and no distributions",
                where="params.yaml: distill.student.method",
                fix="choose method sft, or a teacher of kind checkpoint",
            )
        name = self.teacher.name
        if isinstance(self.teacher, EndpointTeacher):
            name = self.teacher.endpoint.model
        require_terms(
            (self.teacher.name, name),
            declared=self.teacher.training_on_output,
            by=self.teacher.by,
            own=self.teacher.kind == "checkpoint",
            allowed=self.allows(TERMS_RULE),
        )
