"""What the trainers of all methods share: their arguments, the start from the parent, the end.

The model is loaded from the parent's folder for every run of the stage, so the first step's logits
are the parent's; a test holds the digests of both together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.train.preference.settings import PreferParams
from forebear.train.stage import stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STEP_KEYS = ("step", "loss", "learning_rate", "grad_norm")


@dataclass(frozen=True, slots=True)
class Job:
    """What a trainer is given: the params, the parent's folder, its tokenizer, scratch."""

    params: PreferParams
    start: Path
    tokenizer: PreTrainedTokenizerBase
    scratch: Path

    @property
    def seed(self) -> int:
        """Seed of the stage."""
        return stage_seed(self.params.seed, "prefer")


@dataclass(frozen=True, slots=True)
class Trained:
    """What training leaves.

    Attributes:
        model: trained, its config as the parent's.
        steps: one row for each step, the columns named by ``columns``.
        columns: of the curves.
        figures: for the metrics.
    """

    model: PreTrainedModel
    steps: list[dict[str, Any]]
    columns: tuple[str, ...]
    figures: dict[str, Any]


def arguments(job: Job, *, batch_rows: int) -> dict[str, Any]:
    """Arguments that the trainers of all methods share."""
    from forebear.train.resume import trainer_arguments

    return {
        **trainer_arguments(job.scratch, seed=job.seed),
        "per_device_train_batch_size": batch_rows,
        "learning_rate": job.params.peak_lr,
        "lr_scheduler_type": "cosine",
        "warmup_steps": job.params.warmup_ratio,
        "max_grad_norm": job.params.max_grad_norm,
        "gradient_checkpointing": False,
        "bf16": False,
    }


def in_order(job: Job, lengths: Sequence[int], *, batch_rows: int) -> list[int]:
    """Row numbers of all epochs in training order."""
    from forebear.train.resume import epochs_in_order

    return epochs_in_order(lengths, epochs=job.params.epochs, batch_rows=batch_rows, seed=job.seed)


def run(
    job: Job, build: Callable[[PreTrainedModel], Any]
) -> tuple[PreTrainedModel, Any, dict[str, Any]]:
    """Trains a fresh copy of the parent with what ``build`` makes of it.

    Returns:
        The trained model, its trainer, and the figures of its start and end.
    """
    from forebear.train.checkpoint import count_parameters, load_model, probe_logits
    from forebear.train.resume import run_trainer

    # loaded here, not handed over: the reference log-probabilities must be the parent's
    model = load_model(job.start)
    logits_first, config, generation = (
        probe_logits(model),
        copy.deepcopy(model.config),
        copy.deepcopy(model.generation_config),
    )
    trainer = build(model)
    steps = run_trainer(trainer, job.scratch, label="prefer")
    model.config.use_cache = config.use_cache  # the trainer turns it off for itself
    if job.params.method != "dpo":
        # trainers write the tokenizer's padding into both; a child keeps its parent's
        model.config.pad_token_id = config.pad_token_id
        model.generation_config = generation
    figures = {
        "n_params": count_parameters(model),
        "steps": len(steps),
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "logits_first_sha256": logits_first,
        "logits_last_sha256": probe_logits(model),
    }
    return model, trainer, figures


def logged(trainer: Any, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row for each step: what every trainer logs, and ``names`` (column to logged key)."""
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [
        {
            **{key: row[key] for key in STEP_KEYS if key in row},
            **{column: row[key] for column, key in names.items() if key in row},
        }
        for row in rows
    ]
