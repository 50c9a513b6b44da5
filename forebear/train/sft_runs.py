"""Trainings of one stage from one parent: the whole one, and the short ones of a sweep.

All start from the same bits. Generators are set anew before the parent is loaded, so a training at
one rate is the same whatever the process did before.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError
from forebear.train.sft_guard import Standing, measure
from forebear.train.sft_rows import Row, encode_rows, read_rows, require_fit, split_rows
from forebear.train.sft_settings import SftParams
from forebear.train.sft_sweep import Candidate
from forebear.train.sft_tune import (
    fine_tune,
    training_order,
    with_adapter,
    write_adapter,
    write_no_adapter,
)
from forebear.train.stage import stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.packed import Shards


@dataclass(frozen=True, slots=True)
class Trained:
    """A whole training.

    Attributes:
        model: with the adapter merged.
        adapter: folder in scratch, to be published beside the model.
        steps: one row per step.
        figures: for the stage's metrics.
    """

    model: PreTrainedModel
    adapter: Path
    steps: list[dict[str, float]]
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Runs:
    """What every training of the stage starts from, reads and is measured on."""

    params: SftParams
    parent: Path
    tokenizer: PreTrainedTokenizerBase
    trained: list[Row]
    encoded: list[dict[str, list[int]]]
    held_out: list[Row]
    probe: list[dict[str, list[int]]]
    shards: Shards

    @classmethod
    def open(
        cls,
        params: SftParams,
        tokenizer: PreTrainedTokenizerBase,
        *,
        base: Path,
        rows: Path,
        shards: Path,
    ) -> Runs:
        """Draws and encodes the rows.

        Raises:
            ConfigError: none are left to train on.
            FormatError: a row or the shards are malformed.
        """
        from forebear.train.packed import Shards

        trained, held_out = split_rows(
            read_rows(rows),
            n_train=params.max_rows,
            n_held_out=params.held_out_rows,
            seed=stage_seed(params.seed, "sft"),
        )
        if not trained:
            raise ConfigError("no rows are left to train on", where=str(rows))
        return cls(
            params=params,
            parent=base,
            tokenizer=tokenizer,
            trained=trained,
            encoded=encode_rows(trained, tokenizer),
            held_out=held_out,
            probe=encode_rows(held_out, tokenizer),
            shards=Shards(shards),
        )

    def fresh(self) -> PreTrainedModel:
        """The parent, with every generator where it stands at the stage's start.

        Raises:
            ConfigError: a row is longer than the model's context.
        """
        from forebear.train.checkpoint import load_model
        from forebear.train.runtime import configure_torch

        configure_torch(stage_seed(self.params.seed, "sft"))
        model = load_model(self.parent)
        context = getattr(model.config, "max_position_embeddings", None)
        require_fit(self.trained, self.encoded, context=context)
        require_fit(self.held_out, self.probe, context=context)
        return model

    def measure(self, model: PreTrainedModel) -> Standing:
        """What ``model`` knows of the domain and of the held-out answers."""
        return measure(model, self.shards, self.probe)

    def rows_seen(self) -> list[Row]:
        """The rows that the whole training sees, each once, in the order of first sight."""
        order = training_order(
            self.encoded,
            epochs=self.params.epochs,
            batch_rows=self.params.batch_rows,
            seed=stage_seed(self.params.seed, "sft"),
        )
        return [self.trained[number] for number in dict.fromkeys(order)]

    def train(self, model: PreTrainedModel, *, lr: float, scratch: Path) -> Trained:
        """Trains ``model``, which is :meth:`fresh`, to the end; resumed from ``scratch``."""
        from forebear.train.checkpoint import (
            count_active_parameters,
            count_parameters,
            probe_logits,
        )
        from forebear.train.metrics import training_flop

        params, n_parameters = self.params, count_parameters(model)
        n_active = count_active_parameters(model)
        tuned = self._wrapped(model)
        logits_first = probe_logits(tuned)  # with the fresh adapter on: it must change nothing
        steps, counts = self._tune(tuned, label="sft", lr=lr, scratch=scratch)
        adapter = scratch / "adapter"
        shutil.rmtree(adapter, ignore_errors=True)
        if params.method == "lora":
            write_adapter(tuned, adapter, parent=self.parent)
            tuned = tuned.merge_and_unload()
        else:
            write_no_adapter(adapter)
        dense = n_active == n_parameters
        kind = "dense" if dense else "mixture of experts, active parameters"
        bound = ", upper bound for LoRA" if params.method == "lora" else ""
        figures = {
            "n_params": n_parameters,
            "n_params_active": n_active,
            **counts,
            "flop": training_flop(n_active, counts["tokens_padded"]),
            "flop_method": f"6·N·D, {kind}, padding included{bound}",
            "steps": len(steps),
            "loss_first": steps[0]["loss"],
            "loss_last": steps[-1]["loss"],
            "logits_first_sha256": logits_first,
            "logits_last_sha256": probe_logits(tuned),
        }
        return Trained(model=tuned, adapter=adapter, steps=steps, figures=figures)

    def trial(self, n_steps: int | None = None) -> Callable[[float, Path], Candidate]:
        """What a sweep tries each rate with: the first ``n_steps`` steps, all when left out."""

        def at_rate(lr: float, scratch: Path) -> Candidate:
            tuned = self._wrapped(self.fresh())
            label = f"sft, trying {lr:g}"
            steps, counts = self._tune(
                tuned, label=label, lr=lr, scratch=scratch, stop_after_steps=n_steps
            )
            merged = tuned.merge_and_unload() if self.params.method == "lora" else tuned
            return self._result(merged, lr=lr, steps=len(steps), **counts)

        return at_rate

    def whole(self, lr: float, scratch: Path) -> tuple[Trained, Candidate]:
        """The whole training at one rate, measured; resumed from ``scratch``."""
        trained = self.train(self.fresh(), lr=lr, scratch=scratch)
        kept = {name: trained.figures[name] for name in ("steps", "tokens", "tokens_padded")}
        return trained, self._result(trained.model, lr=lr, whole=True, **kept)

    def _result(self, model: PreTrainedModel, **known: Any) -> Candidate:
        after = self.measure(model)
        finite = all(math.isfinite(value) for value in after.as_json().values())
        return Candidate(after=after if finite else None, **known)

    def _wrapped(self, model: PreTrainedModel) -> Any:
        if self.params.method == "full":
            return model
        return with_adapter(model, rank=self.params.lora_rank)

    def _tune(
        self,
        tuned: Any,
        *,
        label: str,
        lr: float,
        scratch: Path,
        stop_after_steps: int | None = None,
    ) -> tuple[list[dict[str, float]], dict[str, int]]:
        from forebear.train.runtime import uses_bf16

        params = self.params
        return fine_tune(
            tuned,
            self.tokenizer,
            self.encoded,
            label=label,
            scratch=scratch,
            seed=stage_seed(params.seed, "sft"),
            epochs=params.epochs,
            batch_rows=params.batch_rows,
            lr=lr,
            grad_accumulation=params.grad_accumulation,
            warmup_ratio=params.warmup_ratio,
            weight_decay=params.weight_decay,
            max_grad_norm=params.max_grad_norm,
            packing=params.packing,
            bf16=uses_bf16(params.precision),
            stop_after_steps=stop_after_steps,
        )
