"""Suites whose answers are judged, the judges, and what tells whether a judge may be believed.

Light: no torch, no client library until a judge that needs one is asked.

Source: evaluation page, sections 3, 4, 6 and 9.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from forebear.errors import ConfigError
from forebear.train.evaluate.backends import Budget
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.judged.baselines import Baseline
from forebear.train.evaluate.judged.calibrating import calibrate, calibrate_judge, load_calibration
from forebear.train.evaluate.judged.corrected import with_correction
from forebear.train.evaluate.judged.items import MissingData
from forebear.train.evaluate.judged.modeljudge import ModelJudge, Prompts
from forebear.train.evaluate.judged.mtbench import measure_mt_bench
from forebear.train.evaluate.judged.preferred import measure_alpaca_eval, measure_arena_hard
from forebear.train.evaluate.judged.prompts import (
    ClassifierPrompts,
    FencedPrompts,
    PublishedPrompts,
)
from forebear.train.evaluate.judged.protocol import Judge
from forebear.train.evaluate.judged.rules import RuleJudge
from forebear.train.evaluate.judged.safety import (
    measure_harmbench,
    measure_jailbreakbench,
    measure_xstest,
)
from forebear.train.evaluate.judged.settings import (
    AlpacaEvalChoice,
    ArenaHardChoice,
    JudgedChoice,
    JudgeSettings,
    MtBenchChoice,
    SafetyChoice,
    XsTestChoice,
)
from forebear.train.evaluate.measured import Measured, NotRun
from forebear.train.evaluate.model import ChatModel

__all__ = [
    "CHOICES", "JUDGED", "Judge", "JudgeSettings", "JudgedChoice", "calibrate", "calibrate_judge",
    "load_calibration", "make_judges", "measure_judged",
]  # fmt: skip

_WARN_DAYS = 30
_TOP_LOGPROBS = 10
_REASONING = ("<think>", "</think>")  # a verdict tried out in thought is none


@dataclass(frozen=True, slots=True)
class JudgedSuite:
    """One suite: what people may choose, and what measures it."""

    choice: type[JudgedChoice]
    measure: Callable[..., Measured | NotRun]


JUDGED: Mapping[str, JudgedSuite] = {
    "alpaca_eval": JudgedSuite(AlpacaEvalChoice, measure_alpaca_eval),
    "arena_hard": JudgedSuite(ArenaHardChoice, measure_arena_hard),
    "harmbench": JudgedSuite(SafetyChoice, measure_harmbench),
    "jailbreakbench": JudgedSuite(SafetyChoice, measure_jailbreakbench),
    "mt_bench": JudgedSuite(MtBenchChoice, measure_mt_bench),
    "xstest": JudgedSuite(XsTestChoice, measure_xstest),
}
CHOICES: Mapping[str, type[JudgedChoice]] = {name: one.choice for name, one in JUDGED.items()}


def measure_judged(
    task: str,
    choice: BaseModel,
    *,
    model: ChatModel,
    judges: Mapping[str, Judge],
    benchmarks: Path,
    seed: int,
    baseline: Baseline = None,
) -> Measured | NotRun:
    """The rows of one judged suite, or why it was not run.

    Args:
        task: its name.
        choice: of the suite's class in :data:`CHOICES`.
        model: the measured model.
        judges: by their names in the params.
        benchmarks: folder of the data.
        seed: the pipeline's.
        baseline: the opponent, where ``choice.baseline`` is no file.
    Raises:
        ConfigError: there is no judge of that name.
        FormatError: a data file breaks its format.
    """
    suite = JUDGED[task]
    if not isinstance(choice, suite.choice):
        raise ConfigError(f"is no choice of {task}", where=f"params.yaml: measure.tasks.{task}")
    if choice.judge not in judges:
        raise ConfigError(
            f"there is no judge '{choice.judge}'",
            where=f"params.yaml: measure.tasks.{task}.judge",
            fix=f"choose one of: {', '.join(sorted(judges))}",
        )
    try:
        measured = suite.measure(
            choice,
            model=model,
            judge=judges[choice.judge],
            benchmarks=benchmarks,
            seed=seed,
            baseline=baseline,
        )
        if choice.labels is not None and isinstance(measured, Measured):
            measured = with_correction(measured, benchmarks / choice.labels)
    except MissingData as missing:
        return NotRun(task, f"data: {missing}")
    return measured


def make_judges(
    settings: Mapping[str, JudgeSettings],
    journal: Journal,
    *,
    seed: int,
    benchmarks: Path,
    budget: Budget | None = None,
    local: Callable[[Path], ChatModel] | None = None,
    today: dt.date | None = None,
    **endpoint: Any,
) -> dict[str, Judge]:
    """The judges by name, ready to be asked.

    Args:
        settings: by name.
        journal: keeps the answers of those that are models.
        seed: of the marks in their prompts.
        benchmarks: where MT-Bench's published prompts are.
        budget: shared with the measured model; needed by hosted ones.
        local: opens a checkpoint folder.
        today: compared with ``retires``; nothing is refused without it, and it is written nowhere.
        endpoint: further arguments of :class:`~forebear.train.evaluate.endpoint.EndpointChat`.
    Raises:
        ConfigError: a judge has retired, or cannot be opened here.
    """
    made: dict[str, Judge] = {}
    for name, one in settings.items():
        where = f"params.yaml: measure.judges.{name}"
        _require_in_service(one, today, where)
        if one.kind == "rules":
            made[name] = RuleJudge()
            continue
        prompts = _prompts(one, benchmarks, seed)
        if one.kind == "local":
            if local is None:
                raise ConfigError("a local judge cannot be opened here", where=where)
            model: ChatModel = local(Path(str(one.path)))
            title = f"{Path(str(one.path)).name}"
        else:
            model = _hosted(one, journal, budget, where, endpoint)
            title = f"{one.model}@{one.snapshot}"
        made[name] = ModelJudge(
            model,
            kind=one.kind,
            name=title,
            prompts=prompts,
            max_new_tokens=one.max_tokens,
            ancestors=_ancestors(one, model),
            weighs=one.logprobs,
        )
    return made


def _ancestors(one: JudgeSettings, model: ChatModel) -> list[str]:
    """What is declared, and what the judge itself is called."""
    own = [one.model, model.identity.get("tree_sha256")]
    return [*one.ancestors, *(str(name) for name in own if name is not None)]


def _prompts(one: JudgeSettings, benchmarks: Path, seed: int) -> Prompts:
    if one.prompts == "published":
        return PublishedPrompts(benchmarks / "mt_bench" / "judge_prompts.jsonl", seed)
    if one.template is not None:
        return ClassifierPrompts(benchmarks / one.template, seed)
    return FencedPrompts(seed)


def _hosted(
    one: JudgeSettings,
    journal: Journal,
    budget: Budget | None,
    where: str,
    endpoint: Mapping[str, Any],
) -> ChatModel:
    from forebear.train.evaluate.endpoint import EndpointChat

    if budget is None:
        raise ConfigError("a hosted judge needs a budget", where=where)
    options: dict[str, Any] = {"reasoning": _REASONING, **endpoint}
    if one.logprobs:
        options["top_logprobs"] = _TOP_LOGPROBS
    return EndpointChat(one.endpoint(), journal, budget=budget, **options)


def _require_in_service(one: JudgeSettings, today: dt.date | None, where: str) -> None:
    if one.retires is None or today is None:
        return
    left = (dt.date.fromisoformat(one.retires) - today).days
    if left < 0:
        raise ConfigError(
            f"the judge {one.model} retired on {one.retires}",
            where=f"{where}.retires",
            fix="choose another judge and calibrate it; its scores are not comparable with the old",
        )
    if left <= _WARN_DAYS:
        sys.stderr.write(f"{where}: the judge {one.model} retires in {left} days\n")
