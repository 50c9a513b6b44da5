"""What keeps a measured task from deciding anything, whatever its figures say.

Too few items, errors, unreadable answers, answers that are no sentences, a judge that is not
calibrated: each leaves a pair or a limit INCONCLUSIVE, and its test is not counted.

Source: evaluation page, sections 1, 9 and 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forebear.gate.calibration import figures as judge_figures
from forebear.gate.runs import Item, Run, TaskRun
from forebear.gate.settings import SAFETY_TASKS, GateSettings


def unfit(
    run: Run, task: TaskRun, settings: GateSettings, *, side: str, lineage: Sequence[str] = ()
) -> list[str]:
    """Why the run cannot decide on this task; empty when it can.

    Args:
        run: the measured checkpoint.
        task: the task in question.
        settings: what may be wrong, and how often.
        side: ``candidate`` or ``reference``.
        lineage: tree digests of the checkpoints that are compared, which may not be the judge's
            ancestors.
    """
    reasons = []
    errors = sum(map(is_error, task.items.values()))
    if errors > settings.max_errors:
        reasons.append(f"{errors} item(s) of the {side} ended in an error")
    if task.not_meaningful:
        reasons.append(f"{side}: {task.not_meaningful}")
    if side != "candidate":
        return reasons
    share = unparsed_share(task)
    if share > settings.max_unparsed:
        reasons.append(
            f"{share:.1%} of the candidate's answers could not be read, "
            f"at most {settings.max_unparsed:.1%} may be"
        )
    if task.judge is not None:
        reasons += judge_faults(run, task, lineage)
    return reasons


def unparsed_share(task: TaskRun) -> float:
    """Share of the items whose answer could not be read."""
    unread = sum("unparsed" in item.flags for item in task.items.values())
    return unread / len(task.items) if task.items else 0.0


def is_error(item: Item) -> bool:
    """Whether the item ended in an error; it is then neither right nor wrong."""
    return item.value is None or "error" in item.flags


def judge_faults(run: Run, task: TaskRun, lineage: Sequence[str] = ()) -> list[str]:
    """Why the task's judge may not decide; empty when its calibration allows it."""
    entry = _calibration_of(run, str(task.judge))
    if entry is None:
        return [f"the judge {task.judge} is not calibrated"]
    if entry.get("identity") != task.identity.get("judge"):
        return [f"the judge {task.judge} was calibrated with another prompt or model"]
    what = "classify" if task.task in SAFETY_TASKS else "compare"
    found = judge_figures(entry, lineage)
    if found["may_gate"].get(what) is True:
        return []
    reasons: Iterable[str] = found["reasons"].get(what, ())
    return [f"the judge {task.judge} may not decide: {', '.join(reasons) or 'not calibrated'}"]


def _calibration_of(run: Run, judge: str) -> Mapping[str, Any] | None:
    judges = (run.calibration or {}).get("judges")
    if not isinstance(judges, Mapping):
        return None
    for name, entry in sorted(judges.items()):
        if isinstance(entry, Mapping) and judge in {name, entry.get("id")}:
            return entry
    return None
