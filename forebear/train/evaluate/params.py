"""Section ``measure`` of the params: what is asked and how, never what it must reach.

Source: evaluation page, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from forebear.train.evaluate.backends import BudgetSettings, ModelSettings
from forebear.train.evaluate.judged import CHOICES as JUDGED
from forebear.train.evaluate.judged import JudgedChoice, JudgeSettings
from forebear.train.evaluate.suites import CHOICES, OWN, TaskChoice, TextChoice
from forebear.train.stage import StageParams

Choice = TaskChoice | JudgedChoice


class _Tasks(BaseModel):
    """One field a task; further fields are golden sets of the reader's own, ``own_<name>``."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, TextChoice]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            known = set(cls.model_fields)
            unknown = sorted(
                str(name) for name in value if name not in known and not str(name).startswith(OWN)
            )
            if unknown:
                raise ValueError(
                    f"unknown task {', '.join(unknown)}; known: {', '.join(sorted(known))}, {OWN}*"
                )
            if not value:
                raise ValueError("no task is chosen")
        return value

    def chosen(self) -> dict[str, Choice]:
        """The choices that were written down, by task, sorted."""
        fields: dict[str, Choice] = {
            name: value
            for name in {**CHOICES, **JUDGED}
            if (value := getattr(self, name)) is not None
        }
        return dict(sorted({**fields, **(self.__pydantic_extra__ or {})}.items()))


_FIELDS: dict[str, Any] = {
    name: (choice | None, None) for name, choice in {**CHOICES, **JUDGED}.items()
}
Tasks: Any = create_model("Tasks", __base__=_Tasks, **_FIELDS)


class CalibrationChoice(BaseModel):
    """How many labelled items each set of the judges' calibration gives; all when left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    limit: int | None = Field(default=None, ge=1)


class MeasureParams(StageParams):
    """Section ``measure`` of the params."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_contexts: int = Field(default=16, ge=1)
    pack_choices: bool = True
    chat_template: bool = True
    model: ModelSettings = Field(default_factory=ModelSettings)
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    judges: dict[str, JudgeSettings] = Field(default_factory=dict)
    calibration: CalibrationChoice = Field(default_factory=CalibrationChoice)
    tasks: Tasks

    @model_validator(mode="after")
    def _judges_exist(self) -> MeasureParams:
        for task, choice in self.chosen().items():
            if isinstance(choice, JudgedChoice) and choice.judge not in self.judges:
                raise ValueError(f"tasks.{task}.judge: there is no judge '{choice.judge}'")
        return self

    def chosen(self) -> dict[str, Choice]:
        """What a person chose about each task, by its name, sorted."""
        tasks: _Tasks = self.tasks
        return tasks.chosen()

    def posed(self) -> dict[str, TaskChoice]:
        """The tasks that lm-eval poses."""
        return {t: choice for t, choice in self.chosen().items() if isinstance(choice, TaskChoice)}

    def judged(self) -> dict[str, JudgedChoice]:
        """The tasks that a judge scores."""
        return {
            t: choice for t, choice in self.chosen().items() if isinstance(choice, JudgedChoice)
        }
