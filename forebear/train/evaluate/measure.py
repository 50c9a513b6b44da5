"""Measures one checkpoint on the configured tasks and writes its run folder.

The model is identified by the digest of its files. Killed at any moment, the measurement goes on
from the journal in the stage's scratch and ends in the same bytes. What cannot be measured here
(no data, no licence, no sandbox, no likelihoods) is named with its reason, never left out.

Source: evaluation page, sections 2 to 7.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import EnvironmentFailure
from forebear.formats import strictjson
from forebear.train.evaluate.backends import Budget
from forebear.train.evaluate.harness import TaskSamples, run_tasks
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.judged import Judge, calibrate, make_judges, measure_judged
from forebear.train.evaluate.measured import Measured, NotRun
from forebear.train.evaluate.params import MeasureParams
from forebear.train.evaluate.report import write_run
from forebear.train.evaluate.rows import digest, likelihood_rows, written_rows
from forebear.train.evaluate.subject import Subject, open_local, open_subject
from forebear.train.evaluate.suite import Selected, Suite, load_items, read_data
from forebear.train.evaluate.suites import (
    OWN,
    HumanevalChoice,
    IfevalChoice,
    TaskChoice,
    suite_for,
)
from forebear.train.stage import scratch_dir, stage_seed

if TYPE_CHECKING:
    from forebear.train.evaluate.model import ChatModel

__all__ = ["MeasureParams", "measure"]

_NO_LIKELIHOODS = "a chat endpoint gives no likelihoods of given texts"
_TOGETHER = ("mc4_far", "mc4", "mc4_hard")  # one pass: their batches have always been shared


@dataclass(frozen=True, slots=True)
class Places:
    """Folders that a measurement reads.

    Attributes:
        golden: the golden set.
        benchmarks: the embedded benchmarks.
        scratch: resume state.
    """

    golden: Path
    benchmarks: Path
    scratch: Path

    def data_of(self, suite: Suite, choice: TaskChoice) -> Path:
        """The data file of a task: the chosen one, else the embedded one."""
        if choice.data is not None:
            return Path(choice.data)
        kind, _, below = suite.source.partition("/")
        return (self.golden if kind == "golden" else self.benchmarks) / below


def measure(
    params: MeasureParams,
    *,
    checkpoint: Path,
    golden: Path,
    benchmarks: Path,
    out: Path,
    name: str,
    private: Path | None = None,
    on_chunk: Callable[[], None] = lambda: None,
) -> None:
    """Writes the run folder ``out`` of one checkpoint.

    Args:
        params: tasks, judges, backend, batch and precision.
        checkpoint: the model's folder.
        golden: folder of the golden set.
        benchmarks: folder of the embedded benchmarks.
        out: the run folder; made anew.
        name: what the gate calls this run.
        private: folder for answers to harmful requests, made anew; they are not kept without one.
        on_chunk: called whenever a chunk of answers has become durable.

    Raises:
        EnvironmentFailure: a file is missing, the checkpoint is damaged or answers in NaN, or the
            budget is spent.
        FormatError: a data file breaks its format.
    """
    from forebear.train.runtime import configure_torch

    os.environ.setdefault("TQDM_DISABLE", "1")
    configure_torch(stage_seed(params.seed, "measure"))
    places = Places(golden, benchmarks, scratch_dir("measure"))
    chosen, missing = choose(params, places)
    budget = Budget(params.budget)
    journal = Journal(places.scratch / "journal.jsonl")
    started = time.monotonic()
    try:
        subject = open_subject(params, checkpoint, journal, budget, on_chunk)
        judges = _judges(params, places, journal, budget)
        found: list[Measured | NotRun] = [
            *missing,
            *_scored(subject, chosen, params, places),
            *_written(subject, chosen, places),
            *_judged(
                subject,
                params,
                places,
                judges,
                lambda folder: open_local(params, folder, journal, budget),
            ),
        ]
        calibration = _calibration(subject, params, places, judges)
    finally:
        journal.close()
    sys.stderr.write(f"measure: {name}: answered in {time.monotonic() - started:.0f} s\n")
    for folder in (out, private):
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            # the recorder has made it as an empty folder, which a confined stage cannot remove
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700 if folder is private else 0o755)
    write_run(
        out,
        name=name,
        model=subject.identity,
        tasks=[one for one in found if isinstance(one, Measured)],
        not_run={one.task: one.reason for one in found if isinstance(one, NotRun)},
        calibration=calibration,
        private=private,
    )


def choose(
    params: MeasureParams, places: Places, *, planning: bool = False
) -> tuple[list[Selected], list[NotRun]]:
    """The items of each task that lm-eval poses, and the tasks that cannot be posed here.

    Args:
        params: what is asked for.
        places: where the data is.
        planning: before the pipeline has run, when a golden set may not be there yet.

    Raises:
        EnvironmentFailure: the golden set lacks a task's file, or IFEval its sentence splitter.
        FormatError: a data file breaks its format.
    """
    chosen, missing = [], []
    for task, choice in params.posed().items():
        suite = suite_for(task, choice)
        file = places.data_of(suite, choice)
        if not file.exists() and (planning or suite.source.startswith("benchmarks/")):
            missing.append(NotRun(task, f"data: {file.name} is not there"))
            continue
        if task.startswith(OWN):
            suite = suite_for(task, choice, own_has_choices=_has_choices(file))
        if params.model.endpoint is not None and not suite.generates:
            missing.append(NotRun(task, _NO_LIKELIHOODS))
        elif reason := _unfit(choice):
            missing.append(NotRun(task, reason))
        else:
            limits = {"limit": choice.limit, "max_chars": choice.max_chars}
            chosen.append(load_items(suite, file, seed=params.seed, **limits))
    return chosen, missing


def _has_choices(file: Path) -> bool:
    """Whether the rows of an own golden set carry choices, as its first row tells."""
    try:
        first = strictjson.parse(read_data(file).splitlines()[0], where=str(file))
    except (OSError, IndexError) as error:
        raise EnvironmentFailure("cannot read the items of a golden set", str(file)) from error
    return isinstance(first, dict) and first.get("choices") is not None


def _unfit(choice: TaskChoice) -> str:
    """Why this machine cannot run a task; empty when it can.

    Raises:
        EnvironmentFailure: IFEval's sentence splitter is missing: better now than after hours.
    """
    if isinstance(choice, IfevalChoice):
        from forebear.train.evaluate.punkt import use_punkt

        use_punkt(None if choice.punkt == "own" else Path(choice.punkt))
    if isinstance(choice, HumanevalChoice):
        from forebear.train.evaluate.hooks import use_sandbox

        try:
            use_sandbox(choice.sandbox, weak_allowed=choice.allow_weak)
        except EnvironmentFailure as error:
            return f"sandbox: {error.what}"
    return ""


def _scored(
    subject: Subject, chosen: Sequence[Selected], params: MeasureParams, places: Places
) -> list[Measured]:
    """Tasks by likelihood. Each is a pass of its own, so that no task moves another's batches."""
    model = subject.likelihood
    if model is None:
        return []
    groups: dict[tuple[str, bool], list[Selected]] = {}
    for one in chosen:
        if not one.suite.generates:
            task = "golden" if one.suite.task in _TOGETHER else one.suite.task
            groups.setdefault((task, one.suite.chat and params.chat_template), []).append(one)
    found = []
    for (_, templated), batch in groups.items():
        outcomes = run_tasks(model, batch, templated=templated, scratch=places.scratch)
        for one in batch:
            outcome = outcomes[one.suite.task]
            rows, texts = likelihood_rows(
                one, outcome.samples, lambda args: model.key("loglikelihood", args)
            )
            identity = _identity(one, outcome, rows, subject, subject.scored)
            facts = _facts(one, "log-likelihood")
            found.append(Measured(one.suite.task, rows, identity, one.suite.metrics, facts, texts))
    return found


def _written(subject: Subject, chosen: Sequence[Selected], places: Places) -> list[Measured]:
    """Tasks in which the model writes, one pass each."""
    from forebear.train.evaluate.chatlm import ChatLM

    found = []
    for one in chosen:
        if not one.suite.generates:
            continue
        task, model = one.suite.task, ChatLM(subject.chat, seed=int(subject.written["seed"]))
        outcome = run_tasks(model, [one], templated=True, scratch=places.scratch)[task]
        rows, texts = written_rows(one, outcome.samples, model.answers)
        identity = _identity(one, outcome, rows, subject, subject.written)
        _, settings = outcome.samples[0]["arguments"][0]
        decoding = {
            "max_new_tokens": settings["max_gen_toks"],
            "temperature": settings.get("temperature", 0.0) if settings.get("do_sample") else 0.0,
            "stop": list(settings.get("until") or ()),
            "samples": int(one.suite.values.get("repeats", 1)),
        }
        facts = _facts(one, decoding)
        found.append(Measured(task, rows, identity, one.suite.metrics, facts, texts))
    return found


def _identity(
    one: Selected,
    outcome: TaskSamples,
    rows: Sequence[Mapping[str, Any]],
    subject: Subject,
    shared: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything but the model that must agree before two scores of a task are compared."""
    return {
        "task_sha256": outcome.task_sha256,
        "prompt_sha256": outcome.prompt_sha256,
        "source": one.suite.source,
        "data_sha256": one.data_sha256,
        "items_selected_sha256": digest([[row["id"], row["item_sha256"]] for row in rows]),
        "setting": one.suite.setting,
        "chat_template_sha256": (
            subject.identity["chat_template_sha256"] if one.suite.chat else None
        ),
        **shared,
    }


def _facts(one: Selected, decoding: Any) -> dict[str, Any]:
    suite, n = one.suite, len(one.documents)
    part = max(suite.published_n, one.n_population) > n
    long_enough = not suite.generates or suite.values["max_gen_toks"] >= _PUBLISHED_TOKENS
    tags = [tag for tag in (suite.tag, "subset" if part else "") if tag]
    return {
        "setting": suite.setting,
        "licence": suite.licence,
        "n_population": one.n_population,
        "decoding": decoding,
        "published_setting": bool(suite.published_n) and not tags and long_enough,
        "shown_name": f"{suite.task}[{', '.join(tags)}]" if tags else suite.task,
        "judge": None,
        "strata": one.strata,
    }


_PUBLISHED_TOKENS = 1280  # IFEval's, the one written task that is posed as published


def _judges(
    params: MeasureParams, places: Places, journal: Journal, budget: Budget
) -> dict[str, Judge]:
    """The judges that the chosen tasks name."""
    used = {choice.judge for choice in params.judged().values()}
    return make_judges(
        {name: one for name, one in params.judges.items() if name in used},
        journal,
        seed=params.seed,
        benchmarks=places.benchmarks,
        budget=budget,
        local=lambda folder: open_local(params, folder, journal, budget),
        # compared with the day on which a judge retires, written nowhere
        today=dt.datetime.now(tz=dt.UTC).date(),
    )


def _judged(
    subject: Subject,
    params: MeasureParams,
    places: Places,
    judges: Mapping[str, Judge],
    open_opponent: Callable[[Path], ChatModel],
) -> list[Measured | NotRun]:
    opponents: dict[str, ChatModel] = {}
    found: list[Measured | NotRun] = []
    for task, choice in params.judged().items():
        kind, _, path = str(getattr(choice, "baseline", None) or "").partition(":")
        if kind in ("checkpoint", "release") and path not in opponents and Path(path).is_dir():
            opponents[path] = open_opponent(Path(path))
        one = measure_judged(
            task,
            choice,
            model=subject.chat,
            judges=judges,
            benchmarks=places.benchmarks,
            seed=params.seed,
            baseline=opponents.get(path),
        )
        if isinstance(one, Measured):
            one = replace(one, identity={**one.identity, **subject.written})
        found.append(one)
    return found


def _calibration(
    subject: Subject, params: MeasureParams, places: Places, judges: Mapping[str, Judge]
) -> Mapping[str, Any] | None:
    """How far the judges can be trusted; ``None`` when nobody judges."""
    if not judges:
        return None
    return calibrate(
        judges,
        benchmarks=places.benchmarks,
        seed=params.seed,
        limit=params.calibration.limit,
        lineage=[str(subject.identity["tree_sha256"])],
    )


if __name__ == "__main__":
    from forebear.train.evaluate.command import main

    main()
