"""Measures one checkpoint on the configured tasks and writes its run folder.

The model is identified by the digest of its files; a damaged one is refused before the first
request. Killed at any moment, it goes on from the journal in the stage's scratch and ends in the
same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from forebear.errors import EnvironmentFailure, FormatError
from forebear.hashing.digest import hash_tree
from forebear.train.evaluate.harness import run_tasks
from forebear.train.evaluate.journal import Journal
from forebear.train.evaluate.report import item_rows, write_run
from forebear.train.evaluate.suite import SUITES, Selected, load_items
from forebear.train.stage import StageParams, scratch_dir, stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SOFTWARE = ("lm-eval", "transformers", "torch", "tokenizers")


class TaskChoice(BaseModel):
    """How much of one task is measured."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    limit: int | None = Field(default=None, ge=1)
    max_chars: int | None = Field(default=None, ge=1)


class MeasureParams(StageParams):
    """Section ``measure`` of the params: what is asked and how, never what it must reach."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_contexts: int = Field(default=16, ge=1)
    pack_choices: bool = True
    chat_template: bool = True
    tasks: dict[str, TaskChoice] = Field(min_length=1)

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, value: dict[str, TaskChoice]) -> dict[str, TaskChoice]:
        unknown = sorted(value.keys() - SUITES.keys())
        if unknown:
            raise ValueError(f"unknown task {', '.join(unknown)}; known: {', '.join(SUITES)}")
        return value


def measure(
    params: MeasureParams,
    *,
    checkpoint: Path,
    golden: Path,
    benchmarks: Path,
    out: Path,
    name: str,
    on_chunk: Callable[[], None] = lambda: None,
) -> None:
    """Writes the run folder ``out`` of one checkpoint.

    Args:
        params: tasks, batch and precision.
        checkpoint: the model's folder.
        golden: folder of the golden set.
        benchmarks: folder of the embedded benchmarks.
        out: the run folder; made anew.
        name: what the gate calls this run.
        on_chunk: called whenever a chunk of answers has become durable.

    Raises:
        EnvironmentFailure: a file is missing, the checkpoint is damaged or answers in NaN.
        FormatError: a data file breaks its format.
    """
    from forebear.train.runtime import configure_torch

    os.environ.setdefault("TQDM_DISABLE", "1")
    configure_torch(stage_seed(params.seed, "measure"))
    chosen = _choose(params, golden, benchmarks)
    scratch = scratch_dir("measure")
    model, tokenizer = _load(params, checkpoint)
    identity = _model_identity(params, checkpoint, model, tokenizer)

    from forebear.train.evaluate.lm import JournaledLM, PackedLM

    shared = _shared_identity(params)
    journal = Journal(scratch / "journal.jsonl")
    asked = JournaledLM(
        PackedLM(
            model, tokenizer, batch_contexts=params.batch_contexts, packed=params.pack_choices
        ),
        journal,
        identity={**identity, **shared},
        contexts_per_chunk=params.batch_contexts,
        on_chunk=on_chunk,
    )
    started = time.monotonic()
    try:
        outcomes = run_tasks(asked, chosen, chat_template=params.chat_template, scratch=scratch)
    finally:
        journal.close()
    sys.stderr.write(f"measure: {name}: answered in {time.monotonic() - started:.0f} s\n")
    shutil.rmtree(out, ignore_errors=True)
    tasks = [
        (
            one,
            outcomes[one.suite.task],
            item_rows(one, outcomes[one.suite.task], lambda args: asked.key("loglikelihood", args)),
        )
        for one in chosen
    ]
    write_run(out, name=name, model=identity, shared=shared, tasks=tasks)


def _choose(params: MeasureParams, golden: Path, benchmarks: Path) -> list[Selected]:
    folders = {"golden": golden, "benchmarks": benchmarks}
    chosen = []
    for task in sorted(params.tasks):
        suite, choice = SUITES[task], params.tasks[task]
        kind, _, below = suite.source.partition("/")
        chosen.append(
            load_items(
                suite,
                folders[kind] / below,
                seed=params.seed,
                limit=choice.limit,
                max_chars=choice.max_chars,
            )
        )
    return chosen


def _load(
    params: MeasureParams, checkpoint: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from forebear.train.checkpoint import load_model, load_tokenizer

    try:
        model = load_model(checkpoint, params.dtype)
        tokenizer = load_tokenizer(checkpoint)
    except FormatError as error:
        # bytes of our own making that broke: the machine's fault, not a wrong call
        raise EnvironmentFailure(
            f"the checkpoint is damaged: {error.what}", where=error.where, fix=error.fix
        ) from error
    if params.chat_template and not tokenizer.chat_template:
        raise EnvironmentFailure(
            "the checkpoint has no chat template",
            where=str(checkpoint),
            fix="run the base stage again, which writes one, or set measure.chat_template: false",
        )
    return model, tokenizer


def _model_identity(
    params: MeasureParams,
    checkpoint: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    template = str(tokenizer.chat_template) if params.chat_template else None
    return {
        "tree_sha256": hash_tree(checkpoint).digest,
        "backend": "hf",
        "architecture": type(model).__name__,
        "quantisation": None,
        "max_length": int(getattr(model.config, "max_position_embeddings", 2048)),
        "chat_template_sha256": (
            None if template is None else hashlib.sha256(template.encode("utf-8")).hexdigest()
        ),
    }


def _shared_identity(params: MeasureParams) -> Mapping[str, Any]:
    from forebear.train.runtime import threads

    return {
        "seed": params.seed,
        "dtype": params.dtype,
        "batch_contexts": params.batch_contexts,
        "pack_choices": params.pack_choices,
        "threads": threads(),
        "backend": "hf",
        "software": {package: importlib.metadata.version(package) for package in _SOFTWARE},
    }
