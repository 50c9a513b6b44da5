"""``sft.lr: auto``: a short run at each candidate rate, and the highest that stays in the bound.

Each candidate starts from the stage's own parent and runs the first steps of the very training
that would follow: same rows in the same order, same schedule, left early. What holds for a few
steps need not hold for all, so the whole training is guarded again: where it leaves the bound, the
next lower rate is trained. Every result is durable: a run started again repeats none.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from forebear.errors import RecordError
from forebear.train.sft_guard import Standing, Transition

T = TypeVar("T")

COLUMNS = (
    "lr",
    "steps",
    "retention",
    "uptake",
    "domain_loss_before",
    "domain_loss_after",
    "answer_loss_before",
    "answer_loss_after",
    "answer_accuracy_before",
    "answer_accuracy_after",
    "tokens",
    "tokens_padded",
    "whole",
    "within_bound",
    "chosen",
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rate's run: its first steps or, when ``whole``, all of them.

    ``after`` is None when a loss was no longer finite.
    """

    lr: float
    steps: int
    tokens: int
    tokens_padded: int
    after: Standing | None
    whole: bool = False

    def transition(self, before: Standing) -> Transition:
        """From ``before`` to this run's end."""
        lost = Standing(float("inf"), float("inf"), 0.0)
        return Transition(before, self.after or lost)


def run_sweep(
    rates: Sequence[float], trial: Callable[[float, Path], Candidate], *, scratch: Path
) -> list[Candidate]:
    """Runs every rate, in rising order, and keeps each result in ``scratch`` as it is reached.

    Args:
        rates: candidates, each once.
        trial: trains and measures at one rate; is given an empty folder for its own state.
        scratch: the stage's scratch folder; results of a killed run are read from it.
    """
    found = []
    for lr in sorted(set(rates)):
        file = scratch / "sweep" / f"{lr!r}.json"
        done = _read(file)
        if done is None:
            own = file.with_suffix(".state")
            # a candidate is a few steps: one cut short starts anew
            shutil.rmtree(own, ignore_errors=True)
            own.mkdir(parents=True)
            try:
                done = trial(lr, own)
            except RecordError as error:  # the trainer's word for a loss that is not finite
                done = _diverged(lr, error)
            _write(file, done)
            shutil.rmtree(own)
        found.append(done)
    return found


def inside(
    candidates: Sequence[Candidate], before: Standing, *, min_retention: float
) -> list[Candidate]:
    """The candidates that keep enough and learn something, the highest rate first.

    Raises:
        RecordError: there are none; the retention of each is listed.
    """
    found = [
        one
        for one in candidates
        if (change := one.transition(before)).holds(min_retention) and change.uptake > 0
    ]
    if not found:
        raise _none_holds(candidates, before, min_retention)
    return sorted(found, key=lambda one: -one.lr)


def descend(
    candidates: Sequence[Candidate],
    before: Standing,
    train: Callable[[float, Path], tuple[T, Candidate]],
    *,
    min_retention: float,
    scratch: Path,
) -> tuple[T, list[Candidate]]:
    """Trains to the end at the highest rate inside the bound, or the next lower if that leaves it.

    Args:
        candidates: of :func:`run_sweep`.
        before: the parent's standing.
        train: trains and measures at one rate; resumes from the folder that it is given.
        min_retention: the bound.
        scratch: the stage's scratch folder.
    Returns:
        What ``train`` gave, and the whole trainings, of which the last one holds.
    Raises:
        RecordError: none holds.
    """
    whole: list[Candidate] = []
    for one in inside(candidates, before, min_retention=min_retention):
        own = scratch / "whole" / f"{one.lr!r}.state"
        own.mkdir(parents=True, exist_ok=True)
        refused = _read(own.with_suffix(".json"))
        if refused is None:
            try:
                trained, result = train(one.lr, own)
            except RecordError as error:
                refused = _diverged(one.lr, error)
            else:
                if result.transition(before).holds(min_retention):
                    return trained, [*whole, result]
                refused = result
                del trained  # one model in memory at a time
            _write(own.with_suffix(".json"), refused)
        shutil.rmtree(own)
        whole.append(refused)
    raise _none_holds(whole, before, min_retention)


def _none_holds(
    candidates: Sequence[Candidate], before: Standing, min_retention: float
) -> RecordError:
    shown = [(one.transition(before), one.lr) for one in candidates]
    listed = ", ".join(f"{change.retention:.3f} at {lr:g}" for change, lr in shown)
    return RecordError(
        f"no candidate rate learns and keeps retention at {min_retention:g}: it is {listed}",
        where="sft",
        fix="give lower rates in sft.sweep.rates; earlier outs are untouched",
    )


def sweep_table(
    candidates: Sequence[Candidate],
    before: Standing,
    *,
    min_retention: float,
    chosen: Candidate | None = None,
) -> list[dict[str, Any]]:
    """One row of :data:`COLUMNS` per candidate; figures of a run that diverged stay empty."""
    rows: list[dict[str, Any]] = []
    for one in candidates:
        transition = one.transition(before)
        row: dict[str, Any] = {
            "lr": one.lr,
            "steps": one.steps,
            "retention": transition.retention,
            "tokens": one.tokens,
            "tokens_padded": one.tokens_padded,
            "whole": int(one.whole),
            "within_bound": int(transition.holds(min_retention)),
            "chosen": int(one is chosen),
            **{f"{name}_before": value for name, value in before.as_json().items()},
        }
        if one.after is not None:
            row["uptake"] = transition.uptake
            row |= {f"{name}_after": value for name, value in one.after.as_json().items()}
        rows.append(row)
    return rows


def _diverged(lr: float, error: RecordError) -> Candidate:
    sys.stderr.write(f"sft: learning rate {lr:g} is out: {error}\n")
    return Candidate(lr=lr, steps=0, tokens=0, tokens_padded=0, after=None)


def _read(file: Path) -> Candidate | None:
    try:
        values: Mapping[str, Any] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    after = values["after"]
    return Candidate(**{**values, "after": None if after is None else Standing(**after)})


def _write(file: Path, one: Candidate) -> None:
    """Writes a result whole or not at all; floats survive the round trip exactly."""
    values = {
        "lr": one.lr,
        "steps": one.steps,
        "tokens": one.tokens,
        "tokens_padded": one.tokens_padded,
        "whole": one.whole,
        "after": None if one.after is None else one.after.as_json(),
    }
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as handle:
        json.dump(values, handle)
        handle.flush()
        os.fsync(handle.fileno())
    partial.rename(file)
