"""Scores of the evaluation as the bills and the hub card name them: suite, metric, value, interval.

One result is one pair of suite and metric; where the same score is compared with several
references, the first row gives it.

Source: compliance page, sections 8 (D2, D8, D9) and 9.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebear.formats import strictjson

if TYPE_CHECKING:
    from forebear.documents.reading import Cells, Reader
    from forebear.documents.values import Value

_ACCURACY = {"acc": "accuracy", "accuracy": "accuracy"}
_SCORES = ("value", "candidate_score")


@dataclass(frozen=True, slots=True)
class Result:
    """One score.

    Attributes:
        suite: id of the suite, with its subset after a slash.
        metric: name of the metric.
        score: the value as it stands among the facts.
        delta: difference from the reference; None where it is unknown.
        lower_is_better: the metric's direction.
    """

    suite: str
    metric: str
    score: Value
    cells: Cells
    reference: str
    delta: float | None
    lower_is_better: bool

    @property
    def label(self) -> str:
        """Suite and metric in one word."""
        return f"{self.suite}:{self.metric}"

    @property
    def number(self) -> float:
        """The score."""
        value = self.score.value
        if not isinstance(value, (int, float)):
            raise TypeError(f"the score of {self.label} is no number")
        return value

    @property
    def text(self) -> str:
        """The score exactly."""
        return self.number_text(self.number)

    @property
    def delta_text(self) -> str:
        """The difference exactly."""
        return "unknown" if self.delta is None else self.number_text(self.delta)

    @property
    def is_worse(self) -> bool:
        """Whether the difference points to the worse side."""
        if self.delta is None or not self.delta:
            return False
        return (self.delta > 0) is self.lower_is_better

    @staticmethod
    def number_text(number: float) -> str:
        """The number in its canonical form."""
        return strictjson.canonical(number).decode()


def results(reader: Reader, *, every: bool = False) -> list[Result]:
    """Finite scores in the order of the evaluation.

    Args:
        reader: the facts.
        every: one result for each reference, instead of one for each suite and metric.
    """
    found: list[Result] = []
    seen: set[str] = set()
    for row in reader.rows("eval.results"):
        result = _result(row)
        if result is None or (result.label in seen and not every):
            continue
        seen.add(result.label)
        found.append(result)
    return found


def _result(row: Cells) -> Result | None:
    number, suite = row.number(*_SCORES), row.text("shown_name", "task", "suite")
    if number is None or suite is None or not math.isfinite(number):
        return None
    subset = row.text("subset")
    name = f"{suite}/{subset}" if subset else suite
    metric = row.text("metric") or "accuracy"
    return Result(
        suite=name,
        metric=_ACCURACY.get(metric, metric),
        score=row.value(*_SCORES),
        cells=row,
        reference=row.text("reference", "baseline_name") or "the reference",
        delta=row.number("delta", "difference"),
        lower_is_better=row.text("direction") == "down",
    )
