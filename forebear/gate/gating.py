"""Which tasks, metrics and runs decide: the settings' words turned into pairs.

Refuses settings that gate nothing, contradict themselves, or leave safety out of a release.

Source: evaluation page, section 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from forebear.errors import ConfigError
from forebear.gate.aggregate import aggregate
from forebear.gate.runs import Metric, Run
from forebear.gate.settings import (
    BEST_PARENT,
    PARENTS,
    PREVIOUS,
    SAFETY_TASKS,
    GateSettings,
    Requirement,
)

_UNKNOWN = "?"  # a metric that nobody measured
_PARAMS = "params.yaml: eval"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One comparison that decides.

    Attributes:
        task: its name.
        metric: name of the metric.
        reference: name of the run to compare with.
        margin: largest drop that is accepted; None where only a gain is required.
        rule: the gain that is required against this reference.
    """

    task: str
    metric: str
    reference: str
    margin: float | None
    rule: Requirement | None


def require_settings(settings: GateSettings, references: Sequence[Run]) -> None:
    """Refuses settings that cannot decide.

    Raises:
        ConfigError: they gate nothing, contradict themselves, or deny or claim a previous release.
    """
    if not settings.margins and not settings.required and not settings.limits:
        raise ConfigError(
            "names no task, so the gate would pass anything",
            where=_PARAMS,
            fix="set eval.required, eval.margins or eval.limits",
        )
    for task, requirement in settings.required.items():
        if requirement.min_gain is None and requirement.min_delta is None:
            raise ConfigError(
                "requires nothing",
                where=f"{_PARAMS}.required.{task}",
                fix="set min_gain (of the lower bound) or min_delta (of the difference)",
            )
    for section in ("margins", "limits"):
        for key, value in getattr(settings, section).items():
            if not value > 0 and section == "margins":
                raise ConfigError(f"{value:g} is no margin", where=f"{_PARAMS}.margins.{key}")
    _require_report_only(settings)
    has_previous = any(run.name == PREVIOUS for run in references)
    if settings.first_release == has_previous:
        raise ConfigError(
            "a previous release exists" if has_previous else "there is no previous release",
            where=f"{_PARAMS}.first_release",
            fix=f"set it to {'false' if has_previous else 'true'}",
        )


def _require_report_only(settings: GateSettings) -> None:
    deciding = [*settings.margins, *settings.required, *settings.limits]
    for key in settings.report_only:
        both = next((one for one in deciding if one == key or one.startswith(f"{key}.")), None)
        if both is not None:
            raise ConfigError(
                f"{both} both decides and is only reported", where=f"{_PARAMS}.report_only"
            )
    if settings.profile != "release":
        return
    for task in SAFETY_TASKS:
        if not any(one == task or one.startswith(f"{task}.") for one in deciding):
            raise ConfigError(
                f"a release must be judged on {task}",
                where=f"{_PARAMS}.limits",
                fix=f"give {task} a limit or a margin, or use the profile default",
            )
        if any(one == task or one.startswith(f"{task}.") for one in settings.report_only):
            raise ConfigError(
                f"a release cannot only report {task}", where=f"{_PARAMS}.report_only"
            )


def wanted_pairs(candidate: Run, references: Sequence[Run], settings: GateSettings) -> list[Wanted]:
    """Every comparison that decides, by task, metric and reference.

    Raises:
        ConfigError: a margin is wider than its metric's range.
    """
    runs = (candidate, *references)
    margins = _by_metric(settings.margins, runs)
    rules: dict[tuple[str, str, str], Requirement] = {}
    for key, rule in settings.required.items():
        task, metric = split_key(key, runs)
        for name in _resolve(rule.vs, task, metric, references, settings):
            rules[task, metric, name] = rule
    named = {
        (task, metric, name)
        for task, metric in margins
        for name in _references(task, metric, references, settings)
    }
    found = []
    for task, metric, name in sorted(named | rules.keys()):
        margin = margins.get((task, metric))
        _require_margin(margin, metric_of(runs, task, metric), task)
        found.append(Wanted(task, metric, name, margin, rules.get((task, metric, name))))
    return found


def _require_margin(margin: float | None, metric: Metric | None, task: str) -> None:
    low, high = (metric.low, metric.high) if metric else (0.0, float("inf"))
    if margin is not None and margin >= high - low:
        raise ConfigError(
            f"{margin:g} is no margin: the metric runs from {low:g} to {high:g}",
            where=f"{_PARAMS}.margins.{task}",
        )


def wanted_limits(candidate: Run, settings: GateSettings) -> list[tuple[str, str, float]]:
    """Task, metric and limit of every hard limit, by task."""
    limits = _by_metric(settings.limits, (candidate,))
    return [(task, metric, limits[task, metric]) for task, metric in sorted(limits)]


def is_report_only(task: str, metric: str, settings: GateSettings) -> bool:
    """Whether the figure is shown and never decides."""
    return not {task, f"{task}.{metric}"}.isdisjoint(settings.report_only)


def split_key(key: str, runs: Sequence[Run]) -> tuple[str, str]:
    """Task and metric that a key of the settings names; a task alone stands for its main metric."""
    known = {task for run in runs for task in (*run.tasks, *run.not_run)}
    task, name = key, None
    if key not in known:
        longest = max((one for one in known if key.startswith(f"{one}.")), key=len, default=None)
        if longest is not None:
            task, name = longest, key[len(longest) + 1 :]
    metric = metric_of(runs, task, name)
    return task, metric.name if metric else name or _UNKNOWN


def metric_of(runs: Sequence[Run], task: str, name: str | None) -> Metric | None:
    """The task's metric as the first run that measured it describes it."""
    for run in runs:
        if task in run.tasks:
            return run.tasks[task].metric(name)
    return None


def _by_metric(values: Mapping[str, float], runs: Sequence[Run]) -> dict[tuple[str, str], float]:
    """The values by task and metric; a key that names the metric counts before the task's."""
    known = {task for run in runs for task in (*run.tasks, *run.not_run)}
    found: dict[tuple[str, str], float] = {}
    for key in sorted(values, key=lambda one: (one not in known, one)):
        found[split_key(key, runs)] = values[key]
    return found


def _references(
    task: str, metric: str, references: Sequence[Run], settings: GateSettings
) -> Iterator[str]:
    """Names of the runs that a task is compared with."""
    listed = settings.references
    words = listed.get(f"{task}.{metric}", listed.get(task, listed.get("default")))
    if words is None:
        yield from (run.name for run in references)
        return
    for word in words:
        yield from _resolve(word, task, metric, references, settings)


def _resolve(
    word: str, task: str, metric: str, references: Sequence[Run], settings: GateSettings
) -> Iterator[str]:
    """Runs that a word names; ``previous`` names none before there is a previous release."""
    if word == PREVIOUS and settings.first_release:
        return
    if word not in {PARENTS, BEST_PARENT}:
        yield word
        return
    if not settings.parents:
        raise ConfigError(
            f"compares {task} with {word}, and no parents are named",
            where=f"{_PARAMS}.parents",
            fix="list the runs of the checkpoints that the candidate was made of",
        )
    if word == PARENTS:
        yield from settings.parents
    else:
        yield _best(settings.parents, task, metric, references)


def _best(names: Sequence[str], task: str, metric: str, references: Sequence[Run]) -> str:
    """The parent with the best figure; one that was not measured comes first and blocks."""
    by_name = {run.name: run for run in references}
    best, highest = names[0], float("-inf")
    for name in names:
        measured = by_name[name].tasks.get(task) if name in by_name else None
        which = measured.metric(metric) if measured else None
        if measured is None or which is None:
            return name
        value = aggregate(which.aggregate, list(measured.items.values()), which.of)
        if value is None:
            return name
        aligned = value if which.direction == "up" else -value
        if aligned > highest:
            best, highest = name, aligned
    return best
