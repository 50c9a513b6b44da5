"""What stands beside a judged score: its name, its setting, and who judged.

Source: evaluation page, sections 1 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forebear.train.evaluate.judged.protocol import Judge
from forebear.train.evaluate.judged.rules import LABEL


def shown_name(task: str, judge: Judge, *, published: bool, whole: bool) -> str:
    """The task's name in reports: without suffix only in the published setting."""
    if judge.kind == "rules":
        return f"{task}[rules]"
    if published:
        return task
    return f"{task}[own setting]" if whole else f"{task}[subset]"


def suite_facts(
    judge: Judge,
    *,
    setting: str,
    licence: str,
    n_population: int,
    decoding: Mapping[str, Any],
    published: bool,
    task: str,
    whole: bool,
    notes: Sequence[str] = (),
    not_meaningful: str | None = None,
) -> dict[str, Any]:
    """The facts of a measured suite."""
    label = [LABEL] if judge.kind == "rules" else []
    return {
        "setting": setting,
        "licence": licence,
        "n_population": n_population,
        "decoding": dict(decoding),
        "published_setting": published,
        "shown_name": shown_name(task, judge, published=published, whole=whole),
        "judge": judge.name,
        "judge_identity": dict(judge.identity),
        "notes": [*label, *notes],
        "not_meaningful": not_meaningful,
    }
