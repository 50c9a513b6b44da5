"""Distillation: a teacher answers, a verifier judges each answer, the student learns what holds.

The teacher is a checkpoint (the student's own start by default: rejection-sampling
self-distillation), a model behind an endpoint, or a data set of finished answers.

Refuses a teacher whose terms forbid training on its output, an unknown verifier, and a run in which
too few answers were verified to train on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forebear.errors import ConfigError, FormatError, RecordError
from forebear.train.distill.gather import Gathered, gather
from forebear.train.distill.settings import DistillParams
from forebear.train.distill.student import Lesson, teach
from forebear.train.distill.trajectories import (
    Trajectory,
    judge,
    student_rows,
    write_trajectories,
    yields,
)
from forebear.train.distill.verifiers import BY_ROW, Verifier, load_verifier
from forebear.train.distill.vocabulary import require_shared_vocabulary
from forebear.train.stage import scratch_dir, stage_seed

if TYPE_CHECKING:
    from forebear.train.sft_rows import Row

__all__ = ["DistillParams", "rows_of_forms", "train_distill"]


def rows_of_forms(rows: Sequence[Row], forms: Sequence[str], *, where: str) -> list[Row]:
    """The rows whose ``form`` is one of ``forms``, in file order.

    Raises:
        ConfigError: there are none.
    """
    chosen = [row for row in rows if row.get("form") in forms]
    if not chosen:
        known = sorted({row.get("form", "") for row in rows})
        raise ConfigError(
            f"no row has a form of {', '.join(forms)}",
            where=f"params.yaml: {where}.forms",
            fix=f"the rows have these forms: {', '.join(known)}",
        )
    return chosen


def train_distill(
    params: DistillParams,
    *,
    teacher: Path | None,
    rows: Path,
    out: Path,
    trajectories: Path,
    used: Path,
    metrics: Path,
    curves: Path,
    student: Path | None = None,
    dataset: Path | None = None,
    responses: Path | None = None,
) -> None:
    """Has ``rows`` answered, keeps verified answers, trains the student on them.

    Args:
        params: section ``distill``.
        teacher: checkpoint that answers, for a teacher of that kind.
        rows: prompts and right answers.
        out: the student.
        trajectories: folder of kept and rejected answers.
        used: the rows trained on, in training order, and those held out.
        metrics: figures.
        curves: one line per training step.
        student: checkpoint that the student starts from; the teacher's when left out.
        dataset: finished answers, for a teacher of kind ``trajectories``.
        responses: folder where an endpoint's finished responses are kept for later runs too; in
            scratch when left out.
    Raises:
        ConfigError: a parameter is refused, or no row has one of the forms.
        RecordError: fewer than ``min_kept`` answers were verified, or the budget is spent.
    """
    from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint
    from forebear.train.metrics import row_files, write_curves, write_json
    from forebear.train.runtime import configure_torch
    from forebear.train.sft_rows import read_rows, split_rows, write_row_list

    params.require()
    start = _start(params, teacher=teacher, student=student)
    seed = stage_seed(params.seed, "distill")
    configure_torch(seed)
    scratch = scratch_dir("distill")
    asked, held_out = split_rows(
        rows_of_forms(read_rows(rows), params.forms, where="distill"),
        n_train=params.max_prompts,
        n_held_out=params.held_out_rows,
        seed=seed,
    )
    if not asked:
        raise ConfigError(
            "no rows are left to ask after the held-out ones",
            where="params.yaml: distill.held_out_rows",
        )
    verifiers = _verifiers(params, asked)  # before anything is paid for
    model, tokenizer = load_model(start), load_tokenizer(start)
    answered = gather(
        params, asked,
        model=model, tokenizer=tokenizer, start=start, teacher=teacher,
        dataset=dataset, responses=responses or scratch, scratch=scratch, seed=seed,
    )  # fmt: skip
    judged = _judge_all(params, answered, verifiers)
    kept = student_rows(judged, per_prompt=params.student.per_prompt)
    _require_kept(params, kept, judged)
    configure_torch(seed)
    lesson = Lesson(kept[: params.student.max_rows], held_out, teacher, scratch)
    taught = teach(params, model, tokenizer, lesson)
    write_trajectories(trajectories, judged)
    write_row_list(used, trained=taught.used, held_out=held_out)
    save_checkpoint(model, tokenizer, out)
    by_logits = params.student.method == "logits"
    summary = {
        "method": "on-policy logit distillation" if by_logits else answered.method,
        "teacher": answered.teacher,
        **taught.report,
        "sampling": answered.figures,
        "yield": yields(judged, samples_per_prompt=params.samples_per_prompt),
        "files": row_files(*sorted(trajectories.iterdir())),
    }
    write_json(metrics, summary)
    write_curves(curves, taught.steps, ("step", "loss", "learning_rate", "grad_norm"))


def _start(params: DistillParams, *, teacher: Path | None, student: Path | None) -> Path:
    """The checkpoint that the student starts from; refused when it cannot learn as asked.

    Raises:
        ConfigError: none is given, or ``logits`` of a teacher that is the student itself or has
            another vocabulary.
    """
    start = student or teacher
    if start is None:
        raise ConfigError(
            "no checkpoint is given for the student to start from",
            where="distill",
            fix="add --student to the stage's command",
        )
    if params.student.method == "logits" and teacher is not None:
        if teacher == start:
            raise ConfigError(
                "the student starts from its teacher, whose distributions it already has",
                where="params.yaml: distill.student.method",
                fix="add --student CHECKPOINT to the stage's command, or choose method sft",
            )
        require_shared_vocabulary(start, teacher)
    return start


def _verifiers(params: DistillParams, asked: Sequence[Row]) -> dict[str, Verifier]:
    """The verifiers that the rows need, by name, each ready to judge."""
    names = {_verifier_of(params, row) for row in asked}
    where = "params.yaml: distill.verifier"
    settings = params.verifier_settings
    return {name: load_verifier(name, where=where, settings=settings) for name in sorted(names)}


def _verifier_of(params: DistillParams, row: Row) -> str:
    if params.verifier != BY_ROW:
        return params.verifier
    if not row.get("verifier"):
        raise FormatError("names no verifier", where=f"row {row['id']}", fix="add `verifier`")
    return row["verifier"]


def _judge_all(
    params: DistillParams, answered: Gathered, verifiers: dict[str, Verifier]
) -> list[Trajectory]:
    judged: list[Trajectory] = []
    allowed = params.terms_allowance
    provenance = {**answered.provenance, **({"terms_allowance": allowed} if allowed else {})}
    for number, (row, answers) in enumerate(zip(answered.rows, answered.answers, strict=True)):
        name = _verifier_of(params, row)
        judged += judge(
            row,
            answers,
            verifier=name,
            verify=verifiers[name],
            provenance=provenance,
            extras=answered.extras[number] if answered.extras else (),
        )
    return judged


def _require_kept(
    params: DistillParams, kept: Sequence[dict[str, str]], judged: Sequence[Trajectory]
) -> None:
    if len(kept) >= params.min_kept:
        return
    reasons = yields(judged, samples_per_prompt=params.samples_per_prompt)["rejected_by"]
    shown = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    raise RecordError(
        f"{len(kept)} prompts have a verified answer, distill.min_kept asks for "
        f"{params.min_kept}; of {len(judged)} answers were rejected: {shown}",
        where="distill",
        fix="raise distill.max_prompts or distill.samples_per_prompt, lower distill.temperature, "
        "or train the teacher longer (sft.epochs, sft.max_rows); many unfinished answers ask for "
        "a larger distill.max_new_tokens",
    )
