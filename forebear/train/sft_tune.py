"""Fine-tuning itself: TRL's trainer on answers only, in full or through a LoRA adapter.

Every row's place is fixed before training starts, so a shorter run is a prefix of a longer one and
a resumed run is the same run. Rests on :mod:`forebear.train.resume`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError
from forebear.formats import strictjson

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100  # label of a position that has no loss


def training_order(
    encoded: Sequence[Mapping[str, list[int]]], *, epochs: int, batch_rows: int, seed: int
) -> list[int]:
    """Row numbers of all epochs in training order, as :func:`fine_tune` reads them."""
    from forebear.train.resume import epochs_in_order

    lengths = [len(row["input_ids"]) for row in encoded]
    return epochs_in_order(lengths, epochs=epochs, batch_rows=batch_rows, seed=seed)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Mapping[str, list[int]]],
    *,
    label: str,
    scratch: Path,
    seed: int,
    epochs: int,
    batch_rows: int,
    lr: float,
    grad_accumulation: int = 1,
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    packing: bool = False,
    bf16: bool = False,
    stop_after_steps: int | None = None,
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Trains ``model`` in place on ``encoded`` rows with TRL's ``SFTTrainer``.

    Args:
        model: full model, or one wrapped by PEFT.
        tokenizer: for padding.
        encoded: from :func:`forebear.train.sft_rows.encode_rows`.
        label: stage name in progress lines.
        scratch: folder for resume state.
        seed: of the stage.
        epochs: passes over the rows.
        batch_rows: rows per optimizer step; must be a multiple of ``grad_accumulation``.
        lr: peak learning rate, warmed up, then cosine to zero.
        grad_accumulation: parts that a step's rows are computed in; more parts, less memory.
        warmup_ratio: share of the steps that warm up.
        weight_decay: of AdamW.
        max_grad_norm: gradients are scaled down to this norm.
        packing: lay the rows of a part end to end in one sequence without padding; positions
            restart at each row, and no token sees another row. The same rows meet in a step and
            the loss is the same but for rounding.
        bf16: compute forward passes in bf16 by autocast; weights stay as they are.
        stop_after_steps: leave after so many steps of the schedule of the whole run; such a run
            must not be resumed.
    Returns:
        One row per step, and token counts ``tokens`` and ``tokens_padded``.
    Raises:
        ConfigError: the batch does not divide.
        RecordError: the loss is no longer finite.
    """
    from datasets import Dataset
    from trl import SFTConfig

    from forebear.train.resume import run_trainer, trainer_arguments

    if batch_rows % grad_accumulation:
        raise ConfigError(
            f"{batch_rows} rows are no multiple of {grad_accumulation} accumulation steps",
            where=f"params.yaml: {label}.batch_rows",
        )
    order = training_order(encoded, epochs=epochs, batch_rows=batch_rows, seed=seed)
    per_device = batch_rows // grad_accumulation
    arguments = SFTConfig(
        **trainer_arguments(scratch, seed=seed),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=grad_accumulation,
        learning_rate=lr,
        lr_scheduler_type="cosine",
        warmup_steps=warmup_ratio,
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        max_length=None,
        packing=False,
        padding_free=packing,
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=bf16,
        dataset_num_proc=None,
    )
    trainer = answer_trainer()(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([dict(encoded[row]) for row in order]),
        processing_class=tokenizer,
        callbacks=[] if stop_after_steps is None else [_stop_after(stop_after_steps)],
    )
    steps = run_trainer(trainer, scratch, label=label)
    model.config.use_cache = True  # TRL turns it off, and the checkpoint's config would keep that
    seen = order[: len(steps) * batch_rows]
    lengths = [len(row["input_ids"]) for row in encoded]
    batches = [seen[i : i + per_device] for i in range(0, len(seen), per_device)]
    n_tokens = sum(lengths[row] for row in seen)
    n_padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    return steps, {"tokens": n_tokens, "tokens_padded": n_tokens if packing else n_padded}


def _stop_after(n_steps: int) -> Any:
    """A trainer callback that ends the training early; the schedule stays that of the whole."""
    from transformers import TrainerCallback

    class StopAfter(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= state.global_step >= n_steps

    return StopAfter()


def answer_trainer() -> Any:
    """TRL's ``SFTTrainer`` with the output layer computed where answers stand, and only there.

    TRL's own loss walks the vocabulary in tiles, twice; that saves memory on a GPU and takes a
    third of a step on a CPU (measured, 135M parameters, 640 tokens a step).
    """
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc]  # TRL is untyped
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,  # TRL's signature
            num_items_in_batch: Any = None,
        ) -> Any:
            labels_BT = inputs.pop("labels")
            first = int((labels_BT != IGNORED).int().argmax(dim=1).min())
            n_kept = labels_BT.shape[1] - first + 1  # the position before the first answer token
            output = model(**inputs, logits_to_keep=n_kept, use_cache=False)
            total = cross_entropy(
                output.logits[:, :-1].flatten(0, 1).float(),
                labels_BT[:, 1 - n_kept :].flatten(),
                ignore_index=IGNORED,
                reduction="sum",
            )
            count = num_items_in_batch
            loss = total / (count if count is not None else (labels_BT != IGNORED).sum())
            return (loss, output) if return_outputs else loss

    return AnswerTrainer


def with_adapter(model: PreTrainedModel, *, rank: int) -> Any:
    """``model`` wrapped by a fresh LoRA adapter on all linear layers but the output layer.

    The adapter's output is zero at first, so the wrapped model answers as ``model`` does. Its
    scale is 2: alpha is twice the rank.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def write_adapter(tuned: Any, folder: Path, *, parent: Path) -> None:
    """Writes the adapter of a wrapped model; ``parent`` is named as what it was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    tuned.save_pretrained(folder)
    for stray in folder.glob("*.md"):
        stray.unlink()
    config = folder / "adapter_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = parent.as_posix()  # else the machine's own folder
    for key in ("target_modules", "modules_to_save"):
        if isinstance(values.get(key), list):
            values[key] = sorted(values[key])  # a set: its order differs from run to run
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_no_adapter(folder: Path) -> None:
    """Says in the adapter's place that full tuning leaves none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "none.json").write_bytes(
        strictjson.dumps({"adapter": None, "reason": "sft.method is full: no adapter is trained"})
    )
