"""Rejection-sampling self-distillation: sample the SFT checkpoint, verify, train on what holds.

Refuses a teacher whose terms forbid training on its output, an unknown verifier, and a run in which
too few answers were verified to train on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.errors import ConfigError, RecordError
from forebear.train.distill.teachers import Samples, Sampling, sample_answers
from forebear.train.distill.trajectories import (
    Trajectory,
    judge,
    student_rows,
    write_trajectories,
    yields,
)
from forebear.train.distill.verifiers import load_verifier
from forebear.train.stage import StageParams, scratch_dir, stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.sft import Row

# Accepted learning rates of full fine-tuning: training page, section sft.
_LR_RANGE = (1e-5, 5e-5)


class TeacherParams(BaseModel):
    """Who answers, and whether its terms let a student learn from the answers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["checkpoint"]
    name: str = Field(min_length=1)
    terms: str = Field(min_length=1)
    training_on_output: Literal["permitted", "forbidden"]


class StudentParams(BaseModel):
    """How the student is fine-tuned on the kept answers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    max_rows: int = Field(ge=1)
    per_prompt: int = Field(default=1, ge=1)
    warmup_ratio: float = Field(default=0.1, ge=0, le=0.1)


class DistillParams(StageParams):
    """Section ``distill`` of the params."""

    teacher: TeacherParams
    verifier: str = "exact_match"
    forms: tuple[str, ...] = Field(strict=False, min_length=1)
    max_prompts: int = Field(ge=1)
    held_out_rows: int = Field(default=16, ge=1)
    samples_per_prompt: int = Field(ge=1)
    temperature: float = Field(ge=0)
    max_new_tokens: int = Field(ge=1)
    batch_rows: int = Field(ge=1)
    min_kept: int = Field(default=1, ge=1)
    student: StudentParams


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
    teacher: Path,
    rows: Path,
    out: Path,
    trajectories: Path,
    metrics: Path,
    curves: Path,
) -> None:
    """Samples ``teacher`` on ``rows``, keeps verified answers, trains the student from it.

    Raises:
        ConfigError: a parameter is refused, or no row has one of the forms.
        RecordError: fewer than ``min_kept`` answers were verified.
    """
    from forebear.hashing.digest import hash_tree
    from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint
    from forebear.train.metrics import write_curves, write_json
    from forebear.train.runtime import configure_torch
    from forebear.train.sft import read_rows, split_rows

    _require_params(params)
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
    model, tokenizer = load_model(teacher), load_tokenizer(teacher)
    sampling = Sampling(
        samples_per_prompt=params.samples_per_prompt,
        temperature=params.temperature,
        max_new_tokens=params.max_new_tokens,
        batch_rows=params.batch_rows,
        seed=seed,
    )
    digest = hash_tree(teacher).digest
    samples = sample_answers(
        model,
        tokenizer,
        [row["prompt"] for row in asked],
        sampling,
        teacher_digest=digest,
        journal=scratch / "answers.jsonl",
        label="distill",
    )
    judged = _judge_all(params, asked, samples, sampling, digest)
    kept = student_rows(judged, per_prompt=params.student.per_prompt)
    _require_kept(params, kept, judged)
    configure_torch(seed)
    report, steps = _train_student(
        params,
        model=model,
        tokenizer=tokenizer,
        kept=kept[: params.student.max_rows],
        held_out=held_out,
        scratch=scratch,
    )
    write_trajectories(trajectories, judged)
    save_checkpoint(model, tokenizer, out)
    summary = {
        "method": "rejection-sampling self-distillation",
        "teacher": {"kind": params.teacher.kind, "name": params.teacher.name, "tree": digest},
        **report,
        "sampling": _sampling_figures(samples, report["n_params"]),
        "yield": yields(judged, samples_per_prompt=params.samples_per_prompt),
    }
    write_json(metrics, summary)
    write_curves(curves, steps, ("step", "loss", "learning_rate", "grad_norm"))


def _require_params(params: DistillParams) -> None:
    load_verifier(params.verifier, where="params.yaml: distill.verifier")
    params.require_range("distill.student.lr", params.student.lr, *_LR_RANGE)
    forbidden = params.teacher.training_on_output == "forbidden"
    if forbidden and not params.allows("distill.teacher.terms"):
        raise ConfigError(
            f"the terms of {params.teacher.name} forbid training on its output",
            where="params.yaml: distill.teacher",
            fix="choose another teacher, or add an allowance for distill.teacher.terms",
        )


def _judge_all(
    params: DistillParams,
    asked: Sequence[Row],
    samples: Samples,
    sampling: Sampling,
    digest: str,
) -> list[Trajectory]:
    provenance = {
        "teacher": {"kind": params.teacher.kind, "name": params.teacher.name, "tree": digest},
        "terms": params.teacher.terms,
        "sampling": asdict(sampling),
    }
    verify = load_verifier(params.verifier, where="params.yaml: distill.verifier")
    judged: list[Trajectory] = []
    for row, answers in zip(asked, samples.answers, strict=True):
        judged += judge(
            row, answers, verifier=params.verifier, verify=verify, provenance=provenance
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


def _train_student(
    params: DistillParams,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kept: Sequence[dict[str, str]],
    held_out: Sequence[Row],
    scratch: Path,
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Fine-tunes ``model`` in place; returns figures and one row per step."""
    from forebear.train.checkpoint import count_parameters, probe_logits
    from forebear.train.metrics import training_flop
    from forebear.train.sft import answer_loss, encode_rows, fine_tune

    probe = encode_rows(held_out, tokenizer)
    before, logits_first = answer_loss(model, probe), probe_logits(model)
    steps, counts = fine_tune(
        model,
        tokenizer,
        encode_rows(kept, tokenizer),
        label="distill",
        scratch=scratch,
        seed=stage_seed(params.seed, "distill"),
        epochs=params.student.epochs,
        batch_rows=params.student.batch_rows,
        lr=params.student.lr,
        warmup_ratio=params.student.warmup_ratio,
    )
    logits_last = probe_logits(model)
    if logits_last == logits_first:
        raise RecordError(
            f"{len(steps)} training step(s) on {len(kept)} kept answers changed no weight: "
            "the first step of a warm-up has a learning rate of zero",
            where="distill",
            fix="raise distill.max_prompts or distill.samples_per_prompt, lower "
            "distill.student.batch_rows, or raise distill.student.epochs",
        )
    n_parameters = count_parameters(model)
    report = {
        "n_params": n_parameters,
        "rows": len(kept),
        "held_out_rows": len(held_out),
        "epochs": params.student.epochs,
        "steps": len(steps),
        **counts,
        "flop": training_flop(n_parameters, counts["tokens_padded"]),
        "flop_method": "6·N·D, dense, padding included",
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "answer_loss_before": before,
        "answer_loss_after": answer_loss(model, probe),
        "logits_first_sha256": logits_first,
        "logits_last_sha256": logits_last,
    }
    return report, steps


def _sampling_figures(samples: Samples, n_parameters: int) -> dict[str, Any]:
    from forebear.train.metrics import forward_flop

    n_tokens = samples.prompt_tokens + samples.answer_tokens
    return {
        "prompts": len(samples.answers),
        "prompt_tokens": samples.prompt_tokens,
        "answer_tokens": samples.answer_tokens,
        "flop": forward_flop(n_parameters, n_tokens),
        "flop_method": "2·N·D, dense, each prompt read once",
    }
