"""Supervised fine-tuning with TRL: answers only, chat template pinned, every row in a fixed order.

``method: full`` trains every parameter; ``lora`` trains an adapter on all linear layers, keeps it
as an out of its own and merges it into the checkpoint that the next stage starts from. Nothing is
written before the transition guard has passed (:mod:`forebear.train.sft_guard`); with ``lr: auto``
a sweep finds the rate first (:mod:`forebear.train.sft_sweep`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.train.sft_guard import Transition, answer_loss
from forebear.train.sft_rows import (
    Row,
    encode_rows,
    read_rows,
    split_rows,
    template_digest,
    write_row_list,
)
from forebear.train.sft_runs import Runs, Trained
from forebear.train.sft_settings import SftParams
from forebear.train.sft_sweep import COLUMNS, Candidate, descend, run_sweep, sweep_table
from forebear.train.sft_tune import fine_tune
from forebear.train.stage import scratch_dir

__all__ = [
    "Row",
    "SftParams",
    "answer_loss",
    "encode_rows",
    "fine_tune",
    "read_rows",
    "split_rows",
    "train_sft",
    "write_row_list",
]


def train_sft(
    params: SftParams,
    *,
    base: Path,
    rows: Path,
    shards: Path,
    out: Path,
    adapter: Path,
    metrics: Path,
    curves: Path,
    row_list: Path,
    sweep: Path,
) -> None:
    """Fine-tunes the checkpoint ``base`` on ``rows`` and writes checkpoint, adapter and figures.

    Args:
        params: section ``sft``.
        base: the parent checkpoint.
        rows: prompts and answers.
        shards: of tokenize; their domain validation split measures retention.
        out: the checkpoint, adapter merged.
        adapter: the LoRA adapter; after full tuning one file that says so.
        metrics: figures.
        curves: one line per step.
        row_list: ids of the rows trained on, in order of first sight, and of those held out.
        sweep: the table of ``lr: auto``; its header alone when the rate is given.
    Raises:
        ConfigError: a learning rate is outside its range without allowance, there are too few
            rows, or one is longer than the model's context.
        FormatError: the chat template is missing or not the pinned one.
        RecordError: too little of the domain is retained, or the loss is not finite; nothing is
            written then.
    """
    from forebear.train.checkpoint import load_tokenizer, save_checkpoint
    from forebear.train.metrics import write_curves, write_json

    rates = params.rates()
    scratch = scratch_dir("sft")
    tokenizer = load_tokenizer(base)
    template = template_digest(tokenizer, pinned=params.chat_template_sha256)
    runs = Runs.open(params, tokenizer, base=base, rows=rows, shards=shards)
    before, bound = runs.measure(runs.fresh()), params.min_retention
    tried: list[Candidate] = []
    if params.lr == "auto":
        tried = run_sweep(rates, runs.trial(params.sweep.steps), scratch=scratch)
        trained, whole = descend(tried, before, runs.whole, min_retention=bound, scratch=scratch)
        tried += whole
        result = tried[-1]
    else:
        trained, result = runs.whole(rates[0], scratch)
    transition = result.transition(before)
    transition.require(bound, lr=result.lr)
    save_checkpoint(trained.model, tokenizer, out)
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(trained.adapter, adapter)
    report = {**_report(runs, trained, transition, lr=result.lr), "chat_template_sha256": template}
    if tried:
        report["sweep"] = _sweep_report(tried[:-1], report["n_params_active"])
    write_json(metrics, report)
    write_curves(curves, trained.steps, ("step", "loss", "learning_rate", "grad_norm"))
    write_row_list(row_list, trained=runs.rows_seen(), held_out=runs.held_out)
    table = sweep_table(tried, before, min_retention=bound, chosen=result)
    write_curves(sweep, table, COLUMNS)


def _report(runs: Runs, trained: Trained, transition: Transition, *, lr: float) -> dict[str, Any]:
    from forebear.train.runtime import uses_bf16

    params = runs.params
    return {
        "method": params.method,
        "lr": lr,
        "lr_chosen_by": "sweep" if params.lr == "auto" else "params",
        "rows": len(runs.trained),
        "held_out_rows": len(runs.held_out),
        "epochs": params.epochs,
        "packing": params.packing,
        "precision": "bf16 autocast, fp32 weights" if uses_bf16(params.precision) else "fp32",
        **trained.figures,
        "before": transition.before.as_json(),
        "after": transition.after.as_json(),
        "retention": transition.retention,
        "min_retention": params.min_retention,
        "uptake": transition.uptake,
    }


def _sweep_report(candidates: Sequence[Candidate], n_parameters: int) -> Mapping[str, Any]:
    """What was tried before the training that counts cost; its figures stand in the table."""
    from forebear.train.metrics import training_flop

    n_padded = sum(one.tokens_padded for one in candidates)
    return {
        "candidates": len(candidates),
        "steps": sum(one.steps for one in candidates),
        "tokens": sum(one.tokens for one in candidates),
        "tokens_padded": n_padded,
        "flop": training_flop(n_parameters, n_padded),
    }
