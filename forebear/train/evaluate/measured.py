"""What one suite hands to ``measure``: its item rows and what makes them comparable.

Source: evaluation page, sections 4 and 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a task.

    Attributes:
        name: of the metric, unique within its task.
        aggregate: kind of aggregate as ``forebear.gate.aggregate`` knows it.
        of: ``value``, or the component of the item rows that is aggregated.
        direction: which way is better.
        low: smallest possible value.
        high: largest possible value.
    """

    name: str
    aggregate: str
    of: str
    direction: Literal["up", "down"]
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One task as it was measured.

    Attributes:
        task: its name; the item file is called after it.
        rows: the items, sorted by id, as section 13 describes them.
        identity: everything but the model that must agree before two scores are compared.
        metrics: the figures made of the rows; the first one is the task's main figure.
        facts: ``setting``, ``licence``, ``n_population``, ``decoding``, ``published_setting``,
            ``shown_name`` and ``judge``.
        texts: prompts and answers, one record an item with its ``id``; kept beside the items.
        private: whether the texts must not leave the machine (safety suites).
    """

    task: str
    rows: Sequence[Mapping[str, Any]]
    identity: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    facts: Mapping[str, Any]
    texts: Sequence[Mapping[str, Any]] | None = None
    private: bool = False


@dataclass(frozen=True, slots=True)
class NotRun:
    """A suite that was asked for and could not be measured.

    Attributes:
        task: its name.
        reason: a few words that stand in every report, such as ``licence`` or ``sandbox``.
    """

    task: str
    reason: str
