"""Continued pre-training in one process, or in one of several that train together.

What the stage does is the same in all of them: load the base, fix the order of the sequences,
train with checkpoints on the way, write the outs. Only the first process writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.train import world
from forebear.train.cpt_params import CptParams
from forebear.train.cpt_watch import Watch, Weights, WholeWeights, write_log
from forebear.train.packed import Shards, boundary_inputs
from forebear.train.resume import epochs_in_order

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CURVES = ("step", "loss", "learning_rate", "grad_norm", "validation_domain", "validation_replay")


@dataclass(frozen=True, slots=True)
class Places:
    """What the stage reads and writes.

    Attributes:
        tokenizer: folder of ``tokenize``'s tokenizer; the base's own when None.
    """

    base: Path
    shards: Path
    out: Path
    intermediate: Path
    log: Path
    metrics: Path
    curves: Path
    tokenizer: Path | None = None


def train_process(params: CptParams, places: Places, *, scratch: Path, seed: int) -> None:
    """Trains from ``places.base`` and writes every out; all processes of a world call it.

    Raises:
        RecordError: a loss is not finite, or the replay loss rose past ``max_forgetting``.
        FormatError: base, tokenizer or shards are damaged, or do not belong together.
    """
    from forebear.train.checkpoint import load_model, probe_logits
    from forebear.train.runtime import configure_torch

    configure_torch(seed)
    data = Shards(places.shards)
    model = load_model(places.base)
    logits_first = probe_logits(model) if world.rank() == 0 else ""
    tokenizer = take_tokenizer(model, data, places)
    if world.rank() == 0:
        data.require_ids_below(model.get_input_embeddings().weight.shape[0])
    sizes = _sizes(model)
    order = data_order(params, data, seed=seed)
    weights = place_weights(params, model, tokenizer)
    watch = Watch(params, data, scratch, weights)
    watch.at(0)
    steps = train_steps(params, weights, data, order, scratch=scratch, seed=seed, watch=watch)
    watch.at(len(order), final=True)
    weights.save(places.out)
    logits = {"logits_first_sha256": logits_first, "logits_last_sha256": weights.probe()}
    if world.rank() == 0:
        shutil.rmtree(places.intermediate, ignore_errors=True)
        shutil.copytree(watch.folder, places.intermediate)
        write_log(
            places.log, base=places.base, out=places.out, watch=watch, order=order, steps=steps
        )
        _write_figures(params, places, watch, steps, {**sizes, **logits}, n_sequences=len(order))
    world.barrier()


def take_tokenizer(model: PreTrainedModel, data: Shards, places: Places) -> PreTrainedTokenizerBase:
    """The tokenizer that the shards were made with; ``model`` gets the rows that it asks for.

    Raises:
        FormatError: the shards were made with another.
    """
    from forebear.train.checkpoint import load_tokenizer
    from forebear.train.tokenize.extension import apply_extension

    folder = places.tokenizer or places.base
    data.require_tokenizer(folder)
    if places.tokenizer is not None:
        apply_extension(model, folder)
    return load_tokenizer(folder)


def data_order(params: CptParams, data: Shards, *, seed: int) -> list[int]:
    """Numbers of the training sequences of all epochs, in training order."""
    return epochs_in_order(
        [data.length_tokens] * len(data.train_NT),
        epochs=params.epochs,
        batch_rows=params.sequences_per_step,
        seed=seed,
    )


def place_weights(
    params: CptParams, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Weights:
    """The model as it trains: whole in this process, or split over all."""
    if params.launch.sharding == "fsdp2":
        from forebear.train.sharded import ShardedWeights

        return ShardedWeights.split(
            model, tokenizer, activation_checkpointing=params.activation_checkpointing
        )
    return WholeWeights(model, tokenizer)


def train_steps(
    params: CptParams,
    weights: Weights,
    data: Shards,
    order: Sequence[int],
    *,
    scratch: Path,
    seed: int,
    watch: Watch | None = None,
) -> list[dict[str, float]]:
    """The training alone, resumed from ``scratch``: what a benchmark times.

    Args:
        params: of the stage.
        weights: from :func:`place_weights`; changed in place.
        data: the sequences.
        order: from :func:`data_order`.
        scratch: folder for resume state.
        seed: of the stage.
        watch: told of every step.
    Returns:
        One row per step: ``step``, ``loss``, ``learning_rate``, ``grad_norm``.
    """
    if params.launch.sharding == "fsdp2":
        from forebear.train.sharded import train_sharded

        return train_sharded(params, weights.model, data, order, scratch, seed, watch)
    return _train_whole(params, weights.model, data, order, scratch, seed, watch)


def _train_whole(  # noqa: PLR0917  # as train_steps has them
    params: CptParams,
    model: PreTrainedModel,
    data: Shards,
    order: Sequence[int],
    scratch: Path,
    seed: int,
    watch: Watch | None,
) -> list[dict[str, float]]:
    """By transformers' trainer: in this process alone, or under DDP with a whole copy in each."""
    import torch
    from transformers import Trainer, TrainingArguments

    from forebear.train.resume import run_trainer, trainer_arguments
    from forebear.train.runtime import uses_bf16

    class Ordered(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return len(order)

        def __getitem__(self, index: int) -> int:
            return order[index]

    # without a rebuild of its buckets after the first step, DDP sums in one order throughout, so a
    # resumed run of three processes or more gives the same bytes as an undisturbed one
    together = {"ddp_find_unused_parameters": True} if world.size() > 1 else {}
    arguments = TrainingArguments(
        **trainer_arguments(scratch, seed=seed),
        **together,
        per_device_train_batch_size=params.batch_sequences // world.size(),
        gradient_accumulation_steps=params.grad_accumulation,
        learning_rate=params.lr,
        lr_scheduler_type=params.schedule,
        lr_scheduler_kwargs=schedule_options(params, len(order) // params.sequences_per_step),
        warmup_steps=params.warmup_ratio,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        remove_unused_columns=False,
        bf16=uses_bf16(params.precision),
        activation_checkpointing=params.activation_checkpointing,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Ordered(),
        data_collator=lambda rows: boundary_inputs(data.train_NT[rows], data.eos_id),
        callbacks=[_watching(watch)] if watch else [],
    )
    model.train()
    return run_trainer(trainer, scratch, label="cpt")


def schedule_options(params: CptParams, n_steps: int) -> dict[str, Any]:
    """What transformers' scheduler of that name wants beyond warm-up and length."""
    if params.schedule == "cosine":
        return {}
    return {"num_decay_steps": max(1, round(n_steps * params.decay_ratio))}


def _watching(watch: Watch) -> Any:
    """A trainer callback that tells ``watch`` of every step."""
    from transformers import TrainerCallback

    class Checkpoints(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.after_step(state.global_step, state.max_steps)

    return Checkpoints()


def _sizes(model: PreTrainedModel) -> dict[str, int]:
    from forebear.train.checkpoint import count_active_parameters, count_parameters

    return {
        "n_params": count_parameters(model),
        "n_params_active": count_active_parameters(model),
    }


def _write_figures(
    params: CptParams,
    places: Places,
    watch: Watch,
    steps: Sequence[Mapping[str, float]],
    known: Mapping[str, Any],
    *,
    n_sequences: int,
) -> None:
    """Metrics and curves."""
    from forebear.train.metrics import training_flop, write_curves, write_json
    from forebear.train.runtime import threads, uses_bf16

    n_tokens = n_sequences * watch.data.length_tokens
    first, last = watch.rows()[0], watch.rows()[-1]
    dense = known["n_params"] == known["n_params_active"]
    write_json(
        places.metrics,
        {
            **known,
            "tokens": n_tokens,
            "tokens_padded": n_tokens,
            "flop": training_flop(known["n_params_active"], n_tokens),
            "flop_method": "6·N·D, dense, all parameters"
            if dense
            else "6·N·D, mixture of experts, active parameters",
            "steps": len(steps),
            "epochs": params.epochs,
            "schedule": params.schedule,
            "precision": "bf16 autocast, fp32 weights" if uses_bf16(params.precision) else "fp32",
            "launch": {
                "kind": params.launch.kind,
                "processes": world.size(),
                "nodes": params.launch.nodes,
                "sharding": params.launch.sharding,
                "backend": world.backend() if world.size() > 1 else "none",
                "threads_per_process": threads(),
            },
            "loss_first": steps[0]["loss"],
            "loss_last": steps[-1]["loss"],
            "validation": {
                "domain_before": first["domain"],
                "domain_after": last["domain"],
                "replay_before": first["replay"],
                "replay_after": last["replay"],
                "forgetting": last["replay"] - first["replay"],
                **_bits(watch, first, last),
            },
            "intermediate_checkpoints": len(watch.rows()) - 2,
        },
    )
    by_step = {row["step"]: row for row in watch.rows()}
    table = [
        {**row, **{f"validation_{k}": by_step[row["step"]][k] for k in ("domain", "replay")}}
        if row["step"] in by_step
        else row
        for row in steps
    ]
    write_curves(places.curves, table, _CURVES)


def _bits(watch: Watch, first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Validation losses in bits per byte; none where the shards do not count their bytes."""
    found = {}
    for role in ("domain", "replay"):
        for when, row in (("before", first), ("after", last)):
            bits = watch.data.bits_per_byte(role, row[role])
            if bits is not None:
                found[f"{role}_bits_per_byte_{when}"] = bits
    return found
