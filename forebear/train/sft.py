"""Supervised fine-tuning with TRL: answers only, chat template pinned, every row in a fixed order.

``method: full`` trains every parameter; ``lora`` trains an adapter on all linear layers, keeps it
as an out of its own and merges it into the checkpoint that the next stage starts from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from forebear.errors import ConfigError, FormatError
from forebear.formats import strictjson
from forebear.train.stage import StageParams, scratch_dir, stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Accepted learning rates: training page, section sft; LoRA's is about ten times the full one
# (Hu et al. 2021 tune GPT-2 and GPT-3 at 2e-4; "LoRA Without Regret", 2025, finds a factor of 10).
_RANGES = {"full": (1e-5, 5e-5), "lora": (1e-4, 5e-4)}


class SftParams(StageParams):
    """Section ``sft`` of the params."""

    method: Literal["full", "lora"] = "full"
    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    max_rows: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    grad_accumulation: int = Field(default=1, ge=1)
    warmup_ratio: float = Field(ge=0, le=0.1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora_rank: int = Field(default=64, ge=1)
    held_out_rows: int = Field(default=64, ge=1)


Row = Mapping[str, str]
IGNORED = -100  # label of a position that has no loss


def read_rows(file: Path) -> list[Row]:
    """Rows of prompt and answer, in file order.

    Raises:
        FormatError: a line is not an object with text ``id``, ``prompt`` and ``answer``.
    """
    rows: list[Row] = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        row = strictjson.parse(line, where=f"{file}:{number}")
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) for key in ("id", "prompt", "answer")
        ):
            raise FormatError("needs id, prompt and answer as text", where=f"{file}:{number}")
        rows.append({key: value for key, value in row.items() if isinstance(value, str)})
    return rows


def encode_rows(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, list[int]]]:
    """Token ids of each row through the pinned chat template, with a mask over the answer.

    Returns:
        One dict per row: ``input_ids`` and ``completion_mask`` (1 on the answer and its end mark).
    """
    encoded = []
    for row in rows:
        question = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(
            [*question, {"role": "assistant", "content": row["answer"]}], tokenize=False
        ).rstrip("\n")
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        answer_ids = tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
        encoded.append(
            {
                "input_ids": prompt_ids + answer_ids,
                "completion_mask": [0] * len(prompt_ids) + [1] * len(answer_ids),
            }
        )
    return encoded


def answer_loss(
    model: PreTrainedModel, encoded: Sequence[Mapping[str, list[int]]], *, batch: int = 16
) -> float:
    """Mean negative log-likelihood per answer token, in nats."""
    import torch

    training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(encoded), batch):
            part = encoded[start : start + batch]
            width = max(len(row["input_ids"]) for row in part)
            ids_BT = torch.zeros(len(part), width, dtype=torch.long)
            labels_BT = torch.full((len(part), width), -100)
            seen_BT = torch.zeros(len(part), width, dtype=torch.long)
            for i, row in enumerate(part):
                n = len(row["input_ids"])
                ids_BT[i, :n] = torch.tensor(row["input_ids"])
                seen_BT[i, :n] = 1
                mask = torch.tensor(row["completion_mask"], dtype=torch.bool)
                labels_BT[i, :n][mask] = ids_BT[i, :n][mask]
            n_labels = int((labels_BT[:, 1:] != -100).sum())
            output = model(
                input_ids=ids_BT, attention_mask=seen_BT, labels=labels_BT, use_cache=False
            )
            total += float(output.loss) * n_labels
            count += n_labels
    model.train(training)
    return total / max(1, count)


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
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """Trains ``model`` in place on ``encoded`` rows with TRL's ``SFTTrainer``.

    Args:
        model: full model, or one wrapped by PEFT.
        tokenizer: for padding.
        encoded: from :func:`encode_rows`.
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
    Returns:
        One row per step, and token counts ``tokens`` and ``tokens_padded``.
    Raises:
        ConfigError: the batch does not divide.
        RecordError: the loss is no longer finite.
    """
    from datasets import Dataset
    from trl import SFTConfig

    from forebear.train.resume import epochs_in_order, run_trainer, trainer_arguments

    if batch_rows % grad_accumulation:
        raise ConfigError(
            f"{batch_rows} rows are no multiple of {grad_accumulation} accumulation steps",
            where=f"params.yaml: {label}.batch_rows",
        )
    lengths = [len(row["input_ids"]) for row in encoded]
    order = epochs_in_order(lengths, epochs=epochs, batch_rows=batch_rows, seed=seed)
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
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=False,
        dataset_num_proc=None,
    )
    trainer = _answer_trainer()(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([dict(encoded[row]) for row in order]),
        processing_class=tokenizer,
    )
    steps = run_trainer(trainer, scratch, label=label)
    model.config.use_cache = True  # TRL turns it off, and the checkpoint's config would keep that
    batches = [order[i : i + per_device] for i in range(0, len(order), per_device)]
    counts = {
        "tokens": sum(lengths[row] for row in order),
        "tokens_padded": sum(len(batch) * max(lengths[row] for row in batch) for batch in batches),
    }
    return steps, counts


def _answer_trainer() -> Any:
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


def split_rows(
    rows: Sequence[Row], *, n_train: int, n_held_out: int, seed: int
) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out, drawn by hash of seed and row id, so nested in size."""
    ranked = sorted(
        rows,
        key=lambda row: hashlib.sha256(f"{seed}|{row['id']}|{row['prompt']}".encode()).digest(),
    )
    return list(ranked[n_held_out : n_held_out + n_train]), list(ranked[:n_held_out])


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
) -> None:
    """Fine-tunes the checkpoint ``base`` on ``rows`` and writes checkpoint, adapter and figures.

    ``adapter`` holds the LoRA adapter; after full tuning it holds one file that says so.

    Raises:
        ConfigError: the learning rate is outside its range without allowance, or too few rows.
    """
    from forebear.train.checkpoint import (
        count_parameters,
        load_model,
        load_tokenizer,
        probe_logits,
        save_checkpoint,
    )
    from forebear.train.cpt import Shards, validation_loss
    from forebear.train.metrics import training_flop, write_curves, write_json
    from forebear.train.runtime import configure_torch

    params.require_range("sft.lr", params.lr, *_RANGES[params.method])
    seed = stage_seed(params.seed, "sft")
    configure_torch(seed)
    scratch = scratch_dir("sft")
    train, held_out = split_rows(
        read_rows(rows), n_train=params.max_rows, n_held_out=params.held_out_rows, seed=seed
    )
    if not train:
        raise ConfigError("no rows are left to train on", where=str(rows))
    model, tokenizer = load_model(base), load_tokenizer(base)
    n_parameters = count_parameters(model)
    data = Shards(shards)
    probe = encode_rows(held_out, tokenizer)
    before = {
        "domain_loss": validation_loss(model, data.validation_domain_NT, data.eos_id),
        "answer_loss": answer_loss(model, probe),
    }
    logits_first = probe_logits(model)
    tuned: Any = _with_adapter(model, params) if params.method == "lora" else model
    steps, counts = fine_tune(
        tuned,
        tokenizer,
        encode_rows(train, tokenizer),
        label="sft",
        scratch=scratch,
        seed=seed,
        epochs=params.epochs,
        batch_rows=params.batch_rows,
        lr=params.lr,
        grad_accumulation=params.grad_accumulation,
        warmup_ratio=params.warmup_ratio,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
    )
    model = _keep_adapter(tuned, params, adapter, parent=base)
    save_checkpoint(model, tokenizer, out)
    after = {
        "domain_loss": validation_loss(model, data.validation_domain_NT, data.eos_id),
        "answer_loss": answer_loss(model, probe),
    }
    template = str(tokenizer.chat_template or "")
    write_json(
        metrics,
        {
            "method": params.method,
            "n_params": n_parameters,
            "rows": len(train),
            "held_out_rows": len(held_out),
            **counts,
            "flop": training_flop(n_parameters, counts["tokens_padded"]),
            "flop_method": "6·N·D, dense, padding included"
            + (", upper bound for LoRA" if params.method == "lora" else ""),
            "steps": len(steps),
            "epochs": params.epochs,
            "loss_first": steps[0]["loss"],
            "loss_last": steps[-1]["loss"],
            "before": before,
            "after": after,
            "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
            "logits_first_sha256": logits_first,
            "logits_last_sha256": probe_logits(model),
        },
    )
    write_curves(curves, steps, ("step", "loss", "learning_rate", "grad_norm"))


def _with_adapter(model: PreTrainedModel, params: SftParams) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=params.lora_rank,
        lora_alpha=2 * params.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _keep_adapter(tuned: Any, params: SftParams, adapter: Path, *, parent: Path) -> Any:
    """Writes the adapter out; returns the model with the adapter merged into its weights."""
    adapter.mkdir(parents=True, exist_ok=True)
    if params.method == "full":
        (adapter / "none.json").write_bytes(
            strictjson.dumps(
                {"adapter": None, "reason": "sft.method is full: no adapter is trained"}
            )
        )
        return tuned
    tuned.save_pretrained(adapter)
    for stray in adapter.glob("*.md"):
        stray.unlink()
    config = adapter / "adapter_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = parent.as_posix()  # else the machine's own folder
    for key in ("target_modules", "modules_to_save"):
        if isinstance(values.get(key), list):
            values[key] = sorted(values[key])  # a set: its order differs from run to run
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return tuned.merge_and_unload()
