"""Training with weights, gradients and optimizer state split over the processes (FSDP2).

Every process holds its part of each tensor and gathers a layer only while it computes it. The
trainer of transformers splits nothing on processors, so the loop stands here; losses, schedule,
weight decay and clipping are the trainer's, and a test compares them. State is saved in parts,
each process its own. The base is loaded whole by each process before it is split: models that do
not fit into a machine's memory that often are for engine ``megatron``.

Rests on: torch's ``fully_shard`` and ``torch.distributed.checkpoint``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.train import world
from forebear.train.checkpoint import flush_tree, probe_logits, save_checkpoint
from forebear.train.packed import Shards, boundary_inputs, count_labels
from forebear.train.resume import Progress, newest_complete
from forebear.train.runtime import uses_bf16

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.cpt_params import CptParams
    from forebear.train.cpt_watch import Watch

_ROWS = "rows.json"
# Weight decay leaves these alone, as the trainer does.
_UNDECAYED = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


@dataclass(slots=True)
class ShardedWeights:
    """A model whose tensors are split over all processes, and what it takes to put it together."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: type[PreTrainedModel]

    @classmethod
    def split(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        activation_checkpointing: bool,
    ) -> ShardedWeights:
        """Splits ``model`` in place: each of its layers, then the rest."""
        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        kind = type(model)
        place = "cuda" if torch.cuda.is_available() else "cpu"
        model.to(place)  # type: ignore[arg-type]  # transformers' own annotation is narrower
        if activation_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        mesh = init_device_mesh(place, (world.size(),))
        layers = set(model._no_split_modules or ())  # noqa: SLF001  # what accelerate goes by
        for module in model.modules():
            if type(module).__name__ in layers:
                fully_shard(module, mesh=mesh)
        # the rest, too, is split again after a forward pass: one without a backward pass, as a
        # validation is, would else leave whole tensors where the optimizer's parts belong
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        return cls(model, tokenizer, kind)

    def save(self, out: Path, dtype: str = "float32") -> None:
        """Gathers the weights in the first process, which writes them; the others wait."""
        whole = self._whole()
        if whole is not None:
            save_checkpoint(whole, self.tokenizer, out, dtype)
        world.barrier()

    def probe(self) -> str:
        """The digest of the probe's logits; empty but in the first process."""
        whole = self._whole()
        return probe_logits(whole) if whole is not None else ""

    def _whole(self) -> PreTrainedModel | None:
        """The model put together, in the first process; all of them call."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        tensors = get_model_state_dict(self.model, options=options)
        if world.rank() != 0:
            return None
        whole = self.kind(self.model.config)
        whole.load_state_dict(tensors, assign=True, strict=False)
        whole.tie_weights()
        whole.generation_config = self.model.generation_config
        return whole.eval()


def train_sharded(  # noqa: PLR0917  # as train_steps has them
    params: CptParams,
    model: PreTrainedModel,
    data: Shards,
    order: Sequence[int],
    scratch: Path,
    seed: int,
    watch: Watch | None,
) -> list[dict[str, float]]:
    """Trains to the end, resuming the newest complete state in ``scratch``.

    Returns:
        One row per step, as the trainer logs it.
    Raises:
        RecordError: the loss is no longer finite.
    """
    from forebear.train.cpt_run import schedule_options

    n_steps = len(order) // params.sequences_per_step
    optimizer = _optimizer(params, model)
    scheduler = _scheduler(params, optimizer, n_steps, schedule_options(params, n_steps))
    progress = Progress("cpt")
    folder = scratch / "trainer"
    state = newest_complete(folder)
    rows: list[dict[str, float]] = []
    if state is not None:
        rows = _load(state, model, optimizer)
        for _ in rows:
            scheduler.step()
    progress.begin(len(rows), n_steps)
    model.config.use_cache = False  # as the trainer leaves it: the checkpoint's config holds it
    model.train()
    for step in range(len(rows) + 1, n_steps + 1):
        # what a layer draws depends on the step and the process, never on a resumed generator
        _seed_step(seed, step)
        rate = float(scheduler.get_last_lr()[0])
        loss, norm = _step(params, model, data, order, step)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        rows.append({"step": step, "loss": loss, "grad_norm": norm, "learning_rate": rate})
        if watch is not None:
            watch.after_step(step, n_steps)
        progress.stepped(step, n_steps, loss)
        if progress.save_is_due(step, n_steps):
            _save(folder / f"checkpoint-{step}", model, optimizer, rows)
            progress.saved(folder, step)
    return rows


def _step(
    params: CptParams, model: PreTrainedModel, data: Shards, order: Sequence[int], step: int
) -> tuple[float, float]:
    """Forward and backward passes of one optimizer step; its loss and its gradient's norm.

    A process computes its share of each batch. The loss is divided by the predicted tokens of the
    whole step, so it is what one process alone would have computed.
    """
    import torch

    per_step = params.sequences_per_step
    rows = order[(step - 1) * per_step : step * per_step]
    n_labels = count_labels(data.train_NT[rows], data.eos_id)
    mine = params.batch_sequences // world.size()
    total = 0.0
    for start in range(0, per_step, params.batch_sequences):
        first = start + world.rank() * mine
        inputs = boundary_inputs(data.train_NT[rows[first : first + mine]], data.eos_id)
        placed = {name: value.to(model.device) for name, value in inputs.items()}
        with torch.autocast(
            model.device.type, dtype=torch.bfloat16, enabled=uses_bf16(params.precision)
        ):
            share = model(**placed, use_cache=False, num_items_in_batch=n_labels).loss
        # gradients are averaged over the processes, and the shares are to be summed
        (share * world.size()).backward()
        total += float(share.detach())
    norm: Any = torch.nn.utils.clip_grad_norm_(model.parameters(), params.max_grad_norm)
    whole_norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    return world.total([total])[0], whole_norm


def _optimizer(params: CptParams, model: PreTrainedModel) -> torch.optim.Optimizer:
    """AdamW as the trainer sets it up."""
    import torch
    from transformers.trainer_pt_utils import get_parameter_names

    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], list(_UNDECAYED)))
    named = list(model.named_parameters())
    return torch.optim.AdamW(
        [
            {
                "params": [p for name, p in named if name in decayed],
                "weight_decay": params.weight_decay,
            },
            {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0},
        ],
        lr=params.lr,
        fused=True,
    )


def _scheduler(
    params: CptParams, optimizer: torch.optim.Optimizer, n_steps: int, options: dict[str, Any]
) -> torch.optim.lr_scheduler.LRScheduler:
    from transformers import get_scheduler

    ratio = params.warmup_ratio  # 1 means one step, as for the trainer
    n_warmup = int(ratio) if ratio >= 1 else math.ceil(n_steps * ratio)
    return get_scheduler(params.schedule, optimizer, n_warmup, n_steps, options)  # type: ignore[no-any-return]  # untyped


def _seed_step(seed: int, step: int) -> None:
    import torch

    torch.manual_seed((seed * 1_000_003 + step * 8191 + world.rank()) % 2**63)


def _save(
    folder: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[dict[str, float]],
) -> None:
    """Writes every process's part of weights and optimizer, and the rows so far."""
    from torch.distributed.checkpoint.state_dict import get_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save

    weights, moments = get_state_dict(model, optimizer)
    save({"model": weights, "optimizer": moments}, checkpoint_id=folder)
    if world.rank() == 0:
        (folder / _ROWS).write_text(json.dumps(list(rows)), encoding="utf-8")
        flush_tree(folder)


def _load(
    folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Takes a saved state over; the rows of the steps that it had done."""
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    weights, moments = get_state_dict(model, optimizer)
    load({"model": weights, "optimizer": moments}, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
    rows: list[dict[str, float]] = json.loads((folder / _ROWS).read_text(encoding="utf-8"))
    return rows
