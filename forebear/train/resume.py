"""Runs a transformers or TRL trainer so that a kill at any moment costs little and changes nothing.

The trainer's state (weights, optimizer, schedule, generators) goes to scratch every so many
seconds of wall time, is flushed, and only then marked complete; a run started again takes the
newest complete state. When a state is saved never enters the result, so it may follow the clock.

Data order is fixed before the trainer starts: :func:`epochs_in_order` lays all epochs out in one
sequence, read front to back. So "where was I" is one number, and shuffling, epochs and gradient
accumulation cannot be resumed wrongly.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError, EnvironmentFailure, ForebearError, RecordError
from forebear.train import world
from forebear.train.checkpoint import disk_refusal, flush_tree
from forebear.train.runtime import threads

if TYPE_CHECKING:
    from transformers import Trainer

_MARK = "complete"
# Seconds between two saves, when a person sets them.
_SAVE_EVERY_ENV = "FOREBEAR_SAVE_EVERY_S"
_SAVE_EVERY_S = 60.0
# A save takes at most one part in so many of the time, whatever the model's size.
_SAVE_SHARE = 100.0
_REPORT_EVERY_S = 5.0
_CURVE_KEYS = ("step", "loss", "learning_rate", "grad_norm")


def epochs_in_order(
    lengths: Sequence[int], *, epochs: int, batch_rows: int, seed: int
) -> list[int]:
    """Row numbers of all epochs in training order, shuffled, rows of like length together.

    Within an epoch rows are shuffled, cut into windows of eight batches, sorted by length inside
    a window (less padding), cut into batches, and the batches shuffled. Every batch is full, so
    none straddles two epochs: what is left over at an epoch's end is dropped for that epoch (the
    next one shuffles anew), and fewer rows than one batch are repeated to fill it.

    Args:
        lengths: tokens of each row; at least one row.
        epochs: how often the rows are gone through.
        batch_rows: rows per optimizer step.
        seed: of the stage.
    """
    order: list[int] = []
    for epoch in range(epochs):
        generator = random.Random(f"{seed}|{epoch}")  # data order, not a secret
        rows = list(range(len(lengths)))
        generator.shuffle(rows)
        while len(rows) < batch_rows:
            rows += rows[: batch_rows - len(rows)]
        window = 8 * batch_rows
        batches: list[list[int]] = []
        for start in range(0, len(rows) // batch_rows * batch_rows, window):
            whole = len(rows[start : start + window]) // batch_rows * batch_rows
            part = sorted(rows[start : start + whole], key=lambda row: (lengths[row], row))
            batches += [part[i : i + batch_rows] for i in range(0, len(part), batch_rows)]
        generator.shuffle(batches)
        order += [row for batch in batches for row in batch]
    return order


def trainer_arguments(scratch: Path, *, seed: int) -> dict[str, Any]:
    """Arguments that every trainer of the pipeline shares, for a ``TrainingArguments`` class."""
    import torch

    return {
        "output_dir": str(scratch / "trainer"),
        "seed": seed,
        "data_seed": seed,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        # else a loss that is not finite is replaced by the mean of the others, and never seen
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "optim": "adamw_torch_fused",
        "log_level": "error",
    }


def run_trainer(trainer: Trainer, scratch: Path, *, label: str) -> list[dict[str, float]]:
    """Trains to the end, resuming the newest complete state in ``scratch``.

    Args:
        trainer: built on :func:`trainer_arguments`.
        scratch: the stage's scratch folder.
        label: name of the stage in progress lines.
    Returns:
        One row per logged step: ``step``, ``loss``, ``learning_rate``, ``grad_norm``.
    Raises:
        RecordError: the loss is no longer finite.
        EnvironmentFailure: the disk is full.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_durable_callback(label))
    state = newest_complete(scratch / "trainer")
    try:
        trainer.train(resume_from_checkpoint=str(state) if state else None)
    except ForebearError:
        raise
    except Exception as error:
        refusal = disk_refusal(error)
        if refusal is None:
            raise
        raise EnvironmentFailure(
            f"cannot save the training state: {refusal}",
            where=str(scratch),
            fix="free disk space and run `dvc repro` again; it goes on from the last durable point",
        ) from error
    history = trainer.state.log_history
    return [{k: row[k] for k in _CURVE_KEYS if k in row} for row in history if "loss" in row]


def newest_complete(folder: Path) -> Path | None:
    """The saved state with the most steps that is whole; unfinished ones are deleted.

    Processes that train together all call it, and get the same.
    """
    states = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = [state for state in states if (state / _MARK).exists()]
    world.barrier()  # all have looked
    if world.rank() == 0:
        for state in set(states) - set(whole):
            shutil.rmtree(state)
    world.barrier()
    return whole[-1] if whole else None


class Progress:
    """When to save, by the clock, and what is said on the terminal. One process speaks for all."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.save_every_s = _save_every_s()
        self.saved_at = self.reported_at = self.started_at = self.asked_at = time.monotonic()
        self.first_step = 0

    def begin(self, step: int, n_steps: int) -> None:
        """Called before the first step; ``step`` are done already."""
        self.first_step = step
        if step:
            self._say(f"{self.label}: resumed at step {step} of {n_steps}")

    def save_is_due(self, step: int, n_steps: int) -> bool:
        """Whether a state is to be saved after ``step``; the same in all processes."""
        self.asked_at = time.monotonic()
        due = self.asked_at - self.saved_at >= self.save_every_s
        return world.agree(due) and step < n_steps

    def saved(self, folder: Path, step: int) -> None:
        """Marks the state of ``step`` below ``folder`` as whole, and drops the older ones."""
        world.barrier()  # every process has written its part
        if world.rank() == 0:
            _mark_complete(folder, step)
        world.barrier()
        self.saved_at = time.monotonic()
        if _SAVE_EVERY_ENV not in os.environ:
            took_s = self.saved_at - self.asked_at
            self.save_every_s = max(_SAVE_EVERY_S, _SAVE_SHARE * took_s)

    def stepped(self, step: int, n_steps: int, loss: float) -> None:
        """Reports a step.

        Raises:
            RecordError: its loss is not finite.
        """
        _require_finite(loss, step, self.label)
        now = time.monotonic()
        if now - self.reported_at < _REPORT_EVERY_S and step != n_steps:
            return
        self.reported_at = now
        step_s = (now - self.started_at) / max(1, step - self.first_step)
        each = f" in each of {world.size()} processes" if world.size() > 1 else ""
        self._say(
            f"{self.label}: step {step} of {n_steps} ({step / n_steps:.0%}), "
            f"loss {loss:.3f}, {(n_steps - step) * step_s:.0f} s left "
            f"({threads()} threads{each})"
        )

    def _say(self, text: str) -> None:
        if world.rank() == 0:
            _say(text)


def _durable_callback(label: str) -> Any:
    """A trainer callback that saves by the clock, marks whole states, and reports progress."""
    from transformers import TrainerCallback

    progress = Progress(label)

    class Durable(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress.begin(state.global_step, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = progress.save_is_due(state.global_step, state.max_steps)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress.saved(Path(args.output_dir), state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                progress.stepped(state.global_step, state.max_steps, float(logs["loss"]))

    return Durable()


def _save_every_s() -> float:
    wanted = os.environ.get(_SAVE_EVERY_ENV, str(_SAVE_EVERY_S))
    try:
        return float(wanted)
    except ValueError as error:
        raise ConfigError(
            f"{wanted[:40]!r} is no number of seconds", where=_SAVE_EVERY_ENV
        ) from error


def _mark_complete(folder: Path, step: int) -> None:
    """Flushes the state of ``step`` to disk, marks it, and drops the older ones."""
    saved = folder / f"checkpoint-{step}"
    flush_tree(saved)
    (saved / _MARK).touch()
    flush_tree(saved)
    for older in folder.glob("checkpoint-*"):
        if older != saved:
            shutil.rmtree(older)


def _require_finite(loss: float, step: int, label: str) -> None:
    if not math.isfinite(loss):
        raise RecordError(
            f"the loss is {loss} at step {step}",
            where=label,
            fix="lower the learning rate; earlier outs are untouched",
        )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
