"""Continued pre-training: every parameter, on the packed sequences of ``tokenize``.

Sequences are read in an order fixed before training starts. At each checkpoint the validation
losses are measured and the weights kept; ``log.jsonl`` chains the checkpoints by digest, from the
base to the stage's out, with the range of sequences each one had seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from forebear.errors import FormatError, RecordError
from forebear.formats import strictjson
from forebear.hashing.digest import hash_tree
from forebear.train.stage import StageParams, scratch_dir, stage_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel


class CptParams(StageParams):
    """Section ``cpt`` of the params."""

    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_sequences: int = Field(ge=1)
    grad_accumulation: int = Field(ge=1)
    warmup_ratio: float = Field(ge=0, le=1)
    schedule: Literal["cosine", "warmup_stable_decay"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(gt=0)
    checkpoint_every_tokens: int = Field(ge=1)
    max_forgetting: float = Field(gt=0)


class Shards:
    """The packed sequences of ``tokenize``, memory-mapped.

    Attributes:
        train_NT: token ids of the training split, N sequences of T tokens.
        eos_id: the token that ends every document.
    Raises:
        FormatError: a shard's size does not fit its description.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "meta.json"
        meta = strictjson.parse(file.read_bytes(), where=str(file))
        if not isinstance(meta, dict):
            raise FormatError("must be an object", where=str(file))
        self.meta: dict[str, Any] = meta
        self.length_tokens = int(meta["length_tokens"])
        self.eos_id = int(meta["eos_id"])
        self.train_NT = self._map(folder / "train.bin")
        self.validation_domain_NT = self._map(folder / "validation_domain.bin")
        self.validation_replay_NT = self._map(folder / "validation_replay.bin")

    def _map(self, file: Path) -> NDArray[np.generic]:
        import numpy as np

        kind = np.dtype(str(self.meta["dtype"]))
        row_bytes = kind.itemsize * self.length_tokens
        size_bytes = file.stat().st_size
        if size_bytes == 0 or size_bytes % row_bytes:
            raise FormatError(
                f"{size_bytes} bytes are not whole sequences of {self.length_tokens} tokens",
                where=str(file),
                fix="run tokenize again",
            )
        return np.memmap(file, dtype=kind, mode="r").reshape(-1, self.length_tokens)


def boundary_inputs(rows_BT: NDArray[np.generic], eos_id: int) -> dict[str, Any]:
    """Model inputs that keep packed documents apart.

    Positions restart after every end-of-document token; transformers derives from them a mask
    under which no token sees another document. The first token of a document has no label.

    Args:
        rows_BT: token ids, shape [B, T].
        eos_id: id of the end-of-document token.
    Returns:
        ``input_ids``, ``position_ids``, ``labels``, each an int64 tensor of shape [B, T].
    """
    import torch

    ids_BT = torch.from_numpy(rows_BT.astype("int64"))
    starts_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    starts_BT[:, 0] = True
    starts_BT[:, 1:] = ids_BT[:, :-1] == eos_id
    index_T = torch.arange(ids_BT.shape[1])
    start_at_BT = torch.where(starts_BT, index_T, 0).cummax(dim=1).values
    labels_BT = ids_BT.masked_fill(starts_BT, -100)
    return {"input_ids": ids_BT, "position_ids": index_T - start_at_BT, "labels": labels_BT}


def validation_loss(
    model: PreTrainedModel, rows_NT: NDArray[np.generic], eos_id: int, *, batch: int = 4
) -> float:
    """Mean negative log-likelihood per predicted token, in nats, over ``rows_NT``."""
    import torch

    training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows_NT), batch):
            inputs = boundary_inputs(rows_NT[start : start + batch], eos_id)
            n_labels = int((inputs["labels"][:, 1:] != -100).sum())
            total += float(model(**inputs, use_cache=False).loss) * n_labels
            count += n_labels
    model.train(training)
    return total / max(1, count)


def train_cpt(
    params: CptParams,
    *,
    base: Path,
    shards: Path,
    out: Path,
    intermediate: Path,
    log: Path,
    metrics: Path,
    curves: Path,
) -> None:
    """Trains ``base`` on ``shards`` and writes checkpoint, intermediates, log and figures.

    Raises:
        RecordError: the loss is not finite, or the replay loss rose past ``max_forgetting``.
    """
    import torch
    from transformers import Trainer, TrainingArguments

    from forebear.train.checkpoint import (
        count_parameters,
        load_model,
        load_tokenizer,
        probe_logits,
        save_checkpoint,
    )
    from forebear.train.metrics import training_flop, write_curves, write_json
    from forebear.train.resume import epochs_in_order, run_trainer, trainer_arguments
    from forebear.train.runtime import configure_torch

    seed = stage_seed(params.seed, "cpt")
    configure_torch(seed)
    scratch = scratch_dir("cpt")
    model, tokenizer, data = load_model(base), load_tokenizer(base), Shards(shards)
    logits_first = probe_logits(model)
    n_sequences = len(data.train_NT)
    order = epochs_in_order(
        [data.length_tokens] * n_sequences,
        epochs=params.epochs,
        batch_rows=params.batch_sequences * params.grad_accumulation,
        seed=seed,
    )

    class Ordered(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return len(order)

        def __getitem__(self, index: int) -> int:
            return order[index]

    watch = _Watch(params, data, scratch, model, tokenizer)
    watch.at(0)
    arguments = TrainingArguments(
        **trainer_arguments(scratch, seed=seed),
        per_device_train_batch_size=params.batch_sequences,
        gradient_accumulation_steps=params.grad_accumulation,
        learning_rate=params.lr,
        lr_scheduler_type=params.schedule,
        warmup_steps=params.warmup_ratio,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Ordered(),
        data_collator=lambda rows: boundary_inputs(data.train_NT[rows], data.eos_id),
        callbacks=[watch.callback()],
    )
    model.train()
    steps = run_trainer(trainer, scratch, label="cpt")
    n_tokens = len(order) * data.length_tokens
    watch.at(len(order), final=True)
    save_checkpoint(model, tokenizer, out)
    shutil.rmtree(intermediate, ignore_errors=True)
    shutil.copytree(watch.folder, intermediate)
    _write_log(log, base=base, out=out, watch=watch, order=order, length=data.length_tokens)
    first, last = watch.rows()[0], watch.rows()[-1]
    n_parameters = count_parameters(model)
    write_json(
        metrics,
        {
            "n_params": n_parameters,
            "tokens": n_tokens,
            "tokens_padded": n_tokens,
            "flop": training_flop(n_parameters, n_tokens),
            "flop_method": "6·N·D, dense, all parameters",
            "steps": len(steps),
            "epochs": params.epochs,
            "loss_first": steps[0]["loss"],
            "loss_last": steps[-1]["loss"],
            "validation": {
                "domain_before": first["domain"],
                "domain_after": last["domain"],
                "replay_before": first["replay"],
                "replay_after": last["replay"],
                "forgetting": last["replay"] - first["replay"],
            },
            "intermediate_checkpoints": len(watch.rows()) - 2,
            "logits_first_sha256": logits_first,
            "logits_last_sha256": probe_logits(model),
        },
    )
    by_step = {row["step"]: row for row in watch.rows()}
    table = [
        {**row, **{f"validation_{k}": by_step[row["step"]][k] for k in ("domain", "replay")}}
        if row["step"] in by_step
        else row
        for row in steps
    ]
    columns = (
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "validation_domain",
        "validation_replay",
    )
    write_curves(curves, table, columns)


class _Watch:
    """Validation losses and kept weights at each checkpoint, durable in scratch."""

    def __init__(
        self, params: CptParams, data: Shards, scratch: Path, model: Any, tokenizer: Any
    ) -> None:
        self.params, self.data, self.model, self.tokenizer = params, data, model, tokenizer
        self.folder = scratch / "intermediate"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = scratch / "validation.json"
        self.per_step = params.batch_sequences * params.grad_accumulation
        self.kept: dict[int, dict[str, Any]] = {}
        if self.journal.exists():
            self.kept = {int(k): v for k, v in json.loads(self.journal.read_text()).items()}

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per checkpoint in order: ``sequences``, ``step``, ``domain``, ``replay``."""
        return [self.kept[key] for key in sorted(self.kept)]

    def at(self, sequences: int, *, final: bool = False) -> None:
        """Measures both validation losses after ``sequences``, and keeps the weights between."""
        from forebear.train.checkpoint import save_checkpoint

        if sequences in self.kept:
            return
        if sequences and not final:
            tokens = sequences * self.data.length_tokens
            save_checkpoint(self.model, self.tokenizer, self.folder / f"{tokens:09d}", "bfloat16")
        eos_id = self.data.eos_id
        row = {
            "sequences": sequences,
            "step": math.ceil(sequences / self.per_step),
            "domain": validation_loss(self.model, self.data.validation_domain_NT, eos_id),
            "replay": validation_loss(self.model, self.data.validation_replay_NT, eos_id),
        }
        if not (math.isfinite(row["domain"]) and math.isfinite(row["replay"])):
            raise RecordError(
                f"the validation loss is not finite after {sequences} sequences",
                where="cpt",
                fix="lower cpt.lr; earlier outs are untouched",
            )
        self.kept[sequences] = row
        partial = self.journal.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as handle:
            json.dump(self.kept, handle)
            handle.flush()
            os.fsync(handle.fileno())
        partial.rename(self.journal)
        self._require_memory(row)

    def _require_memory(self, row: Mapping[str, Any]) -> None:
        rise = row["replay"] - self.kept[0]["replay"]
        if rise <= self.params.max_forgetting:
            return
        good = [
            r
            for r in self.rows()
            if r["replay"] - self.kept[0]["replay"] <= self.params.max_forgetting
        ]
        raise RecordError(
            f"the replay loss rose by {rise:.3f} nats, more than cpt.max_forgetting "
            f"{self.params.max_forgetting:g}; the last good checkpoint is the one after "
            f"{good[-1]['sequences'] * self.data.length_tokens} tokens",
            where="cpt",
            fix="lower cpt.lr or raise tokenize.replay_share",
        )

    def callback(self) -> Any:
        """A trainer callback that calls :meth:`at` whenever enough tokens have gone by."""
        from transformers import TrainerCallback

        watch = self
        every = max(1, self.params.checkpoint_every_tokens // self.data.length_tokens)

        class Checkpoints(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                now = state.global_step * watch.per_step
                last = state.global_step >= state.max_steps
                if not last and now // every > (now - watch.per_step) // every:
                    watch.at(now)

        return Checkpoints()


def _write_log(
    log: Path, *, base: Path, out: Path, watch: _Watch, order: Sequence[int], length: int
) -> None:
    """Chains base, intermediates and out: each entry holds the digest of the one before."""
    parent = hash_tree(base).digest
    previous, seen, lines = hashlib.sha256(b"").hexdigest(), 0, []
    for row in watch.rows()[1:]:
        tokens = row["sequences"] * length
        kept = watch.folder / f"{tokens:09d}"
        tree = hash_tree(kept if kept.is_dir() else out).digest
        entry = {
            "tokens": tokens,
            "sequences": list(order[seen : row["sequences"]]),
            "parent": parent,
            "tree": tree,
            "validation": {"domain": row["domain"], "replay": row["replay"]},
            "previous": previous,
        }
        line = strictjson.dumps(entry)
        previous, parent, seen = hashlib.sha256(line).hexdigest(), tree, row["sequences"]
        lines.append(line)
    log.write_bytes(b"".join(lines))
