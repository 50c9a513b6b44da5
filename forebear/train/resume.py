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
from forebear.train.checkpoint import disk_refusal, flush_tree
from forebear.train.runtime import threads

if TYPE_CHECKING:
    from transformers import Trainer

_MARK = "complete"
_SAVE_EVERY_S = 60.0
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
    state = _newest_complete(scratch / "trainer")
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


def _newest_complete(folder: Path) -> Path | None:
    """The saved state with the most steps that is whole; unfinished ones are deleted."""
    states = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for state in states:
        if not (state / _MARK).exists():
            shutil.rmtree(state)
    whole = [state for state in states if (state / _MARK).exists()]
    return whole[-1] if whole else None


def _durable_callback(label: str) -> Any:
    """A trainer callback that saves by the clock, marks whole states, and reports progress."""
    from transformers import TrainerCallback

    save_every_s = _save_every_s()

    class Durable(TrainerCallback):
        def __init__(self) -> None:
            self.saved_at = self.reported_at = self.started_at = time.monotonic()
            self.first_step = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.first_step = state.global_step
            if state.global_step:
                _say(f"{label}: resumed at step {state.global_step} of {state.max_steps}")

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            due = time.monotonic() - self.saved_at >= save_every_s
            control.should_save = due and state.global_step < state.max_steps

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _mark_complete(Path(args.output_dir), state.global_step)
            self.saved_at = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                _require_finite(float(logs["loss"]), state.global_step, label)
                self.report(state, float(logs["loss"]))

        def report(self, state: Any, loss: float) -> None:
            now, done = time.monotonic(), state.global_step
            if now - self.reported_at < _REPORT_EVERY_S and done != state.max_steps:
                return
            self.reported_at = now
            step_s = (now - self.started_at) / max(1, done - self.first_step)
            _say(
                f"{label}: step {done} of {state.max_steps} ({done / state.max_steps:.0%}), "
                f"loss {loss:.3f}, {(state.max_steps - done) * step_s:.0f} s left "
                f"({threads()} threads)"
            )

    return Durable()


def _save_every_s() -> float:
    wanted = os.environ.get("FOREBEAR_SAVE_EVERY_S", str(_SAVE_EVERY_S))
    try:
        return float(wanted)
    except ValueError as error:
        raise ConfigError(
            f"{wanted[:40]!r} is no number of seconds", where="FOREBEAR_SAVE_EVERY_S"
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
