"""The tasks that lm-eval poses and scores, and what a person may choose about each.

A task is a file of the package's ``data/tasks``, a data file among the stage's deps and the facts
that name its setting. Judged suites are in ``judged``; this module only lists their choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.train.distill.sandbox import SandboxParams
from forebear.train.evaluate.measured import Metric
from forebear.train.evaluate.suite import ACCURACY, Row, Suite

OWN = "own_"  # golden sets that a person brings: own_<name>


class TaskChoice(BaseModel):
    """How much of one task is measured, and on which data.

    Attributes:
        limit: items to take; all when left out.
        max_chars: items with more text are left out first.
        data: a data file of the task's own form in place of the embedded one. It must be among
            the stage's deps.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    limit: int | None = Field(default=None, ge=1)
    max_chars: int | None = Field(default=None, ge=1)
    data: str | None = Field(default=None, min_length=1)


class TextChoice(TaskChoice):
    """As every task; and how long an answer may get."""

    max_tokens: int = Field(default=512, ge=1)


class CodeChoice(TextChoice):
    """Golden forms in which the model writes: a code, or a title."""

    max_tokens: int = Field(default=24, ge=1)


class MmluProChoice(TextChoice):
    """MMLU-Pro by the likelihood of the letter, or by a written answer."""

    setting: Literal["0shot-mc", "0shot-gen"] = "0shot-mc"
    max_tokens: int = Field(default=1024, ge=1)


class IfevalChoice(TextChoice):
    """IFEval; ``punkt``: ``own`` (the package's sentence splitter) or a folder of NLTK data."""

    max_tokens: int = Field(default=1280, ge=1)
    punkt: str = Field(default="own", min_length=1)


class BbqChoice(TaskChoice):
    """BBQ; with 12 choices every phrasing of "unknown" is asked, as lm-eval does."""

    choices: Literal[3, 12] = 3


class HumanevalChoice(TextChoice):
    """HumanEval: how often each problem is answered, and behind which fences it is tried."""

    samples: int = Field(default=1, ge=1, le=200)
    temperature: float = Field(default=0.0, ge=0, le=2)
    k: int = Field(default=1, ge=1)
    sandbox: SandboxParams = Field(default_factory=SandboxParams)
    allow_weak: bool = False


CHOICES: Mapping[str, type[TaskChoice]] = {
    "mc4_far": TaskChoice,
    "mc4": TaskChoice,
    "mc4_hard": TaskChoice,
    "golden_seen": TaskChoice,
    "golden_unseen": TaskChoice,
    "code": CodeChoice,
    "title": CodeChoice,
    "mmlu_pro": MmluProChoice,
    "ifeval": IfevalChoice,
    "bbq": BbqChoice,
    "crows_pairs": TaskChoice,
    "gsm8k": TextChoice,
    "humaneval": HumanevalChoice,
}


def _field(name: str) -> Callable[[Row, int], str]:
    return lambda row, _number: str(row[name])


def _golden(task: str) -> Suite:
    return Suite(
        task=task,
        source=f"golden/{task}.jsonl",
        config="golden_mc4.yaml",
        kind="choice",
        id_of=_field("id"),
        stratum_key="stratum",
        text_keys=("description", "choices"),
        chat=True,
        generates=False,
        setting="0-shot, one of four, by likelihood of the code's text",
        tag="",
        licence="LicenseRef-PublicDomain-US",
    )


def _golden_text(task: str, setting: str, *metrics: Metric) -> Suite:
    return replace(
        _golden(task),
        config=f"golden_{task}.yaml",
        kind=task,
        text_keys=("description", "code"),
        generates=True,
        setting=setting,
        metrics=metrics,
    )


_MMLU_PRO = Suite(
    task="mmlu_pro",
    source="benchmarks/mmlu_pro/test_280.jsonl",
    config="mmlu_pro.yaml",
    kind="choice",
    id_of=_field("question_id"),
    stratum_key="category",
    text_keys=("question", "options"),
    chat=False,
    generates=False,
    setting="0-shot, by likelihood of the letter, subset",
    tag="0shot-mc",
    licence="MIT",
    published_n=12032,
)

_IFEVAL = Suite(
    task="ifeval",
    source="benchmarks/ifeval/input_data.jsonl",
    config="ifeval.yaml",
    kind="ifeval",
    id_of=_field("key"),
    stratum_key="instruction_id_list.0",
    text_keys=("prompt",),
    chat=True,
    generates=True,
    setting="0-shot, greedy, verified by program",
    tag="",
    licence="Apache-2.0",
    published_n=541,
    metrics=(
        Metric("prompt_strict", "mean", "value", "up"),
        Metric("prompt_loose", "mean", "prompt_loose", "up"),
        Metric("instruction_strict", "weighted_mean", "instruction_strict", "up"),
        Metric("instruction_loose", "weighted_mean", "instruction_loose", "up"),
    ),
)

_BBQ = Suite(
    task="bbq",
    source="benchmarks/bbq/bbq.jsonl.gz",
    config="bbq.yaml",
    kind="bbq",
    id_of=lambda row, _number: f"{row['category']}/{row['example_id']}",
    stratum_key="category",
    text_keys=("context", "question"),
    chat=False,
    generates=False,
    setting="0-shot, by likelihood of the answer, one phrasing of unknown, subset",
    tag="3 choices",
    licence="CC-BY-4.0",
    published_n=58492,
    metrics=(
        ACCURACY,
        Metric("acc_ambiguous", "mean", "acc_ambiguous", "up"),
        Metric("acc_disambiguated", "mean", "acc_disambiguated", "up"),
        Metric("bias_ambiguous", "bbq_bias_ambiguous", "value", "down"),
        Metric("bias_disambiguated", "bbq_bias_disambiguated", "value", "down"),
    ),
    # two polarities times two contexts of one scene stand and fall together
    cluster_of=lambda row: f"{row['category']}/{row['example_id'] // 4}",
    shows_texts=False,
)

_CROWS_PAIRS = Suite(
    task="crows_pairs",
    source="benchmarks/crows_pairs/crows_pairs.jsonl.gz",
    config="crows_pairs.yaml",
    kind="crows_pairs",
    id_of=_field("id"),
    stratum_key="bias_type",
    text_keys=("sent_more", "sent_less"),
    chat=False,
    generates=False,
    setting="by likelihood of the whole sentence",
    tag="",
    licence="CC-BY-SA-4.0",
    published_n=1508,
    metrics=(
        Metric("stereotype_distance", "distance_from_half", "value", "down", high=0.5),
        Metric("stereotype_share", "mean", "value", "down"),
    ),
    shows_texts=False,
)

_GSM8K = Suite(
    task="gsm8k",
    source="benchmarks/gsm8k/test.jsonl.gz",
    config="gsm8k.yaml",
    kind="mathematics",
    id_of=lambda _row, number: f"gsm8k/{number:04d}",
    stratum_key="",
    text_keys=("question", "answer"),
    chat=True,
    generates=True,
    setting="0-shot, greedy, answers compared by value",
    tag="0shot",
    licence="MIT",
    published_n=1319,
)

_HUMANEVAL = Suite(
    task="humaneval",
    source="benchmarks/humaneval/HumanEval.jsonl.gz",
    config="humaneval.yaml",
    kind="program",
    id_of=_field("task_id"),
    stratum_key="",
    text_keys=("prompt", "test"),
    chat=True,
    generates=True,
    setting="0-shot, as a conversation, tests run in a sandbox",
    tag="chat",
    licence="MIT",
    published_n=164,
    metrics=(Metric("pass@1", "mean", "value", "up"),),
)

SUITES: Mapping[str, Suite] = {
    **{
        task: _golden(task)
        for task in ("mc4_far", "mc4", "mc4_hard", "golden_seen", "golden_unseen")
    },
    "code": _golden_text("code", "title to code, written out, exact match", ACCURACY),
    "title": _golden_text(
        "title",
        "code to title, written out, token F1 of 0.8 or more",
        ACCURACY,
        Metric("f1", "mean", "f1", "up"),
    ),
    "mmlu_pro": _MMLU_PRO,
    "ifeval": _IFEVAL,
    "bbq": _BBQ,
    "crows_pairs": _CROWS_PAIRS,
    "gsm8k": _GSM8K,
    "humaneval": _HUMANEVAL,
}


def suite_for(task: str, choice: TaskChoice, *, own_has_choices: bool = True) -> Suite:
    """The task as chosen.

    Args:
        task: its name.
        choice: what a person chose about it.
        own_has_choices: whether the rows of an own golden set carry choices.
    """
    if task.startswith(OWN):
        return _own(task, choice, own_has_choices)
    suite = SUITES[task]
    if suite.source.startswith("golden/") and task == "golden_unseen":
        suite = replace(suite, cluster_of=lambda row: str(row.get("cluster") or row["id"]))
    values: dict[str, Any] = {}
    if isinstance(choice, MmluProChoice) and choice.setting == "0shot-gen":
        suite = replace(
            suite,
            config="mmlu_pro_gen.yaml", kind="letter", chat=True, generates=True,
            setting="0-shot, chain of thought, letter by pattern", tag="0shot-gen",
        )  # fmt: skip
    if isinstance(choice, BbqChoice) and choice.choices == 12:
        suite = replace(
            suite,
            config="bbq_all.yaml", kind="bbq_all", tag="12 choices",
            setting="0-shot, by likelihood of the answer, every phrasing of unknown, subset",
        )  # fmt: skip
    if isinstance(choice, HumanevalChoice):
        values |= {"repeats": choice.samples, "temperature": choice.temperature}
        if choice.k > 1:
            suite = replace(suite, metrics=(*suite.metrics, _pass_at(choice.k)))
    if isinstance(choice, TextChoice) and suite.generates:
        values["max_gen_toks"] = choice.max_tokens
    return replace(suite, values=values)


def _pass_at(k: int) -> Metric:
    return Metric(f"pass@{k}", "mean", f"pass@{k}", "up")


def _own(task: str, choice: TaskChoice, has_choices: bool) -> Suite:
    suite = replace(
        _golden(task),
        text_keys=("prompt",),
        licence="as its rows say",
        config="own_choice.yaml" if has_choices else "own_text.yaml",
        setting="own golden set, 0-shot, by likelihood of the choice's text",
    )
    if has_choices:
        return suite
    limit = {"max_gen_toks": choice.max_tokens} if isinstance(choice, TextChoice) else {}
    return replace(
        suite, kind="exact", generates=True, values=limit,
        setting="own golden set, 0-shot, exact match of the written answer",
    )  # fmt: skip
