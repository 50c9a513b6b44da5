"""Checkpoints of continued pre-training: validation losses, kept weights, and the chained log.

The losses are journalled in scratch as they are measured, so a run that was killed measures none
twice; weights lie beside them until the stage ends.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from forebear.errors import RecordError
from forebear.formats import strictjson
from forebear.hashing.digest import hash_tree
from forebear.train import world
from forebear.train.checkpoint import probe_logits, save_checkpoint
from forebear.train.packed import Shards, validation_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.cpt_params import CptParams

# Kept between checkpoints: half the bytes of the stage's out, which stays in fp32.
_KEPT_DTYPE = "bfloat16"


class Weights(Protocol):
    """The weights in training. Every process calls; the first one writes."""

    model: PreTrainedModel

    def save(self, out: Path, dtype: str = "float32") -> None:
        """Writes a whole checkpoint to ``out``."""
        ...

    def probe(self) -> str:
        """What :func:`forebear.train.checkpoint.probe_logits` gives; empty but in the first."""
        ...


@dataclass(slots=True)
class WholeWeights:
    """Weights of which every process holds a whole copy."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def save(self, out: Path, dtype: str = "float32") -> None:
        """Writes the checkpoint in the first process; the others wait."""
        if world.rank() == 0:
            save_checkpoint(self.model, self.tokenizer, out, dtype)
        world.barrier()

    def probe(self) -> str:
        """The digest of the probe's logits."""
        return probe_logits(self.model) if world.rank() == 0 else ""


@dataclass(slots=True)
class Watch:
    """Validation losses and kept weights at each checkpoint, durable in scratch.

    Attributes:
        kept: one row per checkpoint, by sequences seen: ``sequences``, ``step``, ``domain``,
            ``replay``.
    """

    params: CptParams
    data: Shards
    scratch: Path
    weights: Weights
    kept: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if world.rank() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
        if self.journal.exists():
            self.kept = {int(k): v for k, v in json.loads(self.journal.read_text()).items()}
        world.barrier()  # none reads what the first one writes later
        for row in self.rows():
            self._require_memory(row)

    @property
    def folder(self) -> Path:
        """Where the weights are kept."""
        return self.scratch / "intermediate"

    @property
    def journal(self) -> Path:
        """Where the losses are kept."""
        return self.scratch / "validation.json"

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per checkpoint, in order."""
        return [self.kept[key] for key in sorted(self.kept)]

    def after_step(self, step: int, n_steps: int) -> None:
        """Called after each optimizer step; measures and keeps when enough tokens have gone by."""
        per_step = self.params.sequences_per_step
        every = max(1, self.params.checkpoint_every_tokens // self.data.length_tokens)
        now = step * per_step
        if step < n_steps and now // every > (now - per_step) // every:
            self.at(now)

    def at(self, sequences: int, *, final: bool = False) -> None:
        """Measures both validation losses after ``sequences``, and keeps the weights between.

        Raises:
            RecordError: a loss is not finite, or the replay loss rose past the bound.
        """
        if sequences in self.kept:
            return
        if sequences and not final:
            self.weights.save(self._place(sequences), _KEPT_DTYPE)
        eos_id, model = self.data.eos_id, self.weights.model
        row = {
            "sequences": sequences,
            "step": math.ceil(sequences / self.params.sequences_per_step),
            "domain": validation_loss(model, self.data.validation_domain_NT, eos_id),
            "replay": validation_loss(model, self.data.validation_replay_NT, eos_id),
        }
        if not (math.isfinite(row["domain"]) and math.isfinite(row["replay"])):
            raise RecordError(
                f"the validation loss is not finite after {sequences} sequences",
                where="cpt",
                fix="lower cpt.lr; earlier outs are untouched",
            )
        self.kept[sequences] = row
        if world.rank() == 0:
            self._write_journal()
        self._require_memory(row)

    def _place(self, sequences: int) -> Path:
        return self.folder / f"{sequences * self.data.length_tokens:09d}"

    def _write_journal(self) -> None:
        partial = self.journal.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as handle:
            json.dump(self.kept, handle)
            handle.flush()
            os.fsync(handle.fileno())
        partial.rename(self.journal)

    def _require_memory(self, row: Mapping[str, Any]) -> None:
        start = self.kept[0]["replay"]
        bound = self.params.max_forgetting
        rise = row["replay"] - start
        if rise <= bound:
            return
        good = [r for r in self.rows() if r["replay"] - start <= bound][-1]["sequences"]
        named = f"the one after {good * self.data.length_tokens} tokens" if good else "the base"
        raise RecordError(
            f"the replay loss rose by {rise:.3f} nats, more than cpt.max_forgetting {bound:g}; "
            f"the last good checkpoint is {named}",
            where="cpt",
            fix="lower cpt.lr or raise tokenize.replay_share"
            + (f"; the good weights lie in {self._place(good)}" if good else ""),
        )


def write_log(
    log: Path,
    *,
    base: Path,
    out: Path,
    watch: Watch,
    order: Sequence[int],
    steps: Sequence[Mapping[str, float]],
) -> None:
    """Chains base, intermediates and out: each entry holds the digest of the one before.

    An entry says what one checkpoint had seen: tokens in all, and the sequences since the last
    one, in training order; with the digest of its parent and of its own tree, the training loss
    of its step, and both validation losses.

    Args:
        log: the file to write.
        base: checkpoint that training started from.
        out: checkpoint that it ended with.
        watch: of the finished run.
        order: sequences in training order.
        steps: from the trainer, one row per step.
    """
    parent = hash_tree(base).digest
    loss_of = {row["step"]: row["loss"] for row in steps}
    previous, seen, lines = hashlib.sha256(b"").hexdigest(), 0, []
    for row in watch.rows()[1:]:
        tokens = row["sequences"] * watch.data.length_tokens
        kept = watch.folder / f"{tokens:09d}"
        tree = hash_tree(kept if kept.is_dir() else out).digest
        entry = {
            "tokens": tokens,
            "step": row["step"],
            "sequences": list(order[seen : row["sequences"]]),
            "parent": parent,
            "tree": tree,
            "loss": loss_of[row["step"]],
            "validation": {"domain": row["domain"], "replay": row["replay"]},
            "previous": previous,
        }
        line = strictjson.dumps(entry)
        previous, parent, seen = hashlib.sha256(line).hexdigest(), tree, row["sequences"]
        lines.append(line)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"".join(lines))
