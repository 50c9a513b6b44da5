"""How the student learns: from the teacher's kept answers, or from the teacher's distributions.

``sft`` fine-tunes on kept answers. ``logits`` is on-policy distillation: the student answers the
prompts that the teacher was verified to answer, and at every token of its own answer moves towards
the teacher's distribution, so it is corrected where it itself goes wrong.

Source of ``logits``: Agarwal et al. 2024, "On-Policy Distillation of Language Models", equation 1;
the training is TRL's ``DistillationTrainer``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import RecordError
from forebear.train.distill.settings import DistillParams
from forebear.train.stage import stage_seed

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.sft_rows import Row

Encoded = Sequence[Mapping[str, list[int]]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a student is taught with.

    Attributes:
        kept: rows whose answers were verified, as many as the student may learn from.
        held_out: rows to measure on.
        teacher: the teacher's checkpoint, for ``logits``.
        scratch: folder for resume state.
    """

    kept: Sequence[Row]
    held_out: Sequence[Row]
    teacher: Path | None
    scratch: Path


@dataclass(frozen=True, slots=True)
class Taught:
    """What came of it.

    Attributes:
        report: figures.
        steps: one row per optimizer step.
        used: the rows trained on, in the order of their first use.
    """

    report: Mapping[str, Any]
    steps: list[dict[str, float]]
    used: list[Row]


def teach(
    params: DistillParams,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lesson: Lesson,
) -> Taught:
    """Trains ``model`` in place.

    Raises:
        RecordError: the training changed no weight, or its loss is no longer finite.
    """
    from forebear.train.checkpoint import count_parameters, probe_logits
    from forebear.train.sft_guard import answer_loss
    from forebear.train.sft_rows import encode_rows

    by_logits = params.student.method == "logits"
    probe = encode_rows(lesson.held_out, tokenizer)
    before, logits_first = answer_loss(model, probe), probe_logits(model)
    train = _by_logits if by_logits else _by_answers
    taught = train(params, model, tokenizer, lesson)
    logits_last = probe_logits(model)
    if logits_last == logits_first:
        raise RecordError(
            f"{len(taught.steps)} training step(s) on {len(lesson.kept)} kept answers changed no "
            "weight: the first step of a warm-up has a learning rate of zero",
            where="distill",
            fix="raise distill.max_prompts or distill.samples_per_prompt, lower "
            "distill.student.batch_rows, or raise distill.student.epochs",
        )
    report = {
        "n_params": count_parameters(model),
        "rows": len(lesson.kept),
        "held_out_rows": len(lesson.held_out),
        "epochs": params.student.epochs,
        "steps": len(taught.steps),
        "student_method": params.student.method,
        **taught.report,
        "loss_first": taught.steps[0]["loss"],
        "loss_last": taught.steps[-1]["loss"],
        "answer_loss_before": before,
        "answer_loss_after": answer_loss(model, probe),
        "logits_first_sha256": logits_first,
        "logits_last_sha256": logits_last,
    }
    return Taught(report, taught.steps, taught.used)


def _by_answers(
    params: DistillParams,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lesson: Lesson,
) -> Taught:
    """Fine-tunes on the kept answers."""
    from forebear.train.checkpoint import count_parameters
    from forebear.train.metrics import training_flop
    from forebear.train.sft_rows import encode_rows
    from forebear.train.sft_tune import fine_tune

    student, encoded = params.student, encode_rows(lesson.kept, tokenizer)
    steps, counts = fine_tune(
        model,
        tokenizer,
        encoded,
        label="distill",
        scratch=lesson.scratch,
        seed=stage_seed(params.seed, "distill"),
        epochs=student.epochs,
        batch_rows=student.batch_rows,
        lr=student.lr,
        grad_accumulation=student.grad_accumulation,
        warmup_ratio=student.warmup_ratio,
    )
    order = _order(params, [len(row["input_ids"]) for row in encoded])
    report = {
        **counts,
        "flop": training_flop(count_parameters(model), counts["tokens_padded"]),
        "flop_method": "6·N·D, dense, padding included",
    }
    return Taught(report, steps, _first_uses(lesson.kept, order))


def _by_logits(
    params: DistillParams,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lesson: Lesson,
) -> Taught:
    """Moves towards the teacher's distributions on the student's own answers."""
    from forebear.train.checkpoint import count_parameters, load_model
    from forebear.train.distill.teachers import encode_prompt
    from forebear.train.metrics import forward_flop, training_flop
    from forebear.train.resume import run_trainer
    from forebear.train.runtime import configure_torch
    from forebear.train.sft_rows import encode_rows

    if lesson.teacher is None:
        raise AssertionError("refused before anything was sampled")
    teacher = load_model(lesson.teacher)
    prompts = [_prompt(row) for row in lesson.kept]
    lengths = [len(encode_prompt(tokenizer, row["prompt"])) for row in lesson.kept]
    order = _order(params, lengths)
    probe = encode_rows(lesson.held_out, tokenizer)
    gap = divergence_from(teacher, model, probe)
    configure_torch(stage_seed(params.seed, "distill"))
    trainer = _trainer(params, (model, teacher), tokenizer, [prompts[i] for i in order], lesson)
    kept_ids = model.config.pad_token_id, model.generation_config.pad_token_id
    steps = run_trainer(trainer, lesson.scratch, label="distill")
    model.config.pad_token_id, model.generation_config.pad_token_id = kept_ids
    model.config.use_cache = True  # TRL turns it off
    model.eval()
    tokens = int(trainer.state.num_input_tokens_seen)
    padded = _padded(trainer.state.log_history, [lengths[i] for i in order], params)
    n_student, n_teacher = count_parameters(model), count_parameters(teacher)
    report = {
        "tokens": tokens,
        "tokens_padded": padded,
        "flop": training_flop(n_student, padded)
        + forward_flop(n_student, tokens)
        + forward_flop(n_teacher, padded),
        "flop_method": "6·N·D of the student, 2·N·D of its answers, 2·N·D of the teacher; dense",
        "teacher_params": n_teacher,
        "kl_before": gap,
        "kl_after": divergence_from(teacher, model, probe),
    }
    return Taught(report, steps, _first_uses(lesson.kept, order))


def _trainer(
    params: DistillParams,
    models: tuple[PreTrainedModel, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Any],
    lesson: Lesson,
) -> Any:
    """TRL's trainer for the student, ``models[0]``; prompts in training order."""
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    from forebear.train.distill.teachers import end_of_answer_id
    from forebear.train.resume import trainer_arguments

    student, stop = params.student, end_of_answer_id(tokenizer, where="distill")
    arguments = DistillationConfig(
        **trainer_arguments(lesson.scratch, seed=stage_seed(params.seed, "distill")),
        per_device_train_batch_size=student.batch_rows // student.grad_accumulation,
        gradient_accumulation_steps=student.grad_accumulation,
        learning_rate=student.lr,
        lr_scheduler_type="cosine",
        warmup_steps=student.warmup_ratio,
        weight_decay=0.0,
        max_grad_norm=1.0,
        beta=student.divergence,
        temperature=student.temperature,
        max_completion_length=params.max_new_tokens,
        generation_kwargs={"eos_token_id": [stop]},
        shuffle_dataset=False,  # the order is fixed by us
        gradient_checkpointing=False,
        bf16=False,
    )
    trainer = DistillationTrainer(
        model=models[0],
        teacher_model=models[1],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=tokenizer,
    )
    trainer.eos_token_ids = [stop]
    return trainer


def _prompt(row: Row) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["prompt"]}]


def _order(params: DistillParams, lengths: Sequence[int]) -> list[int]:
    """Row numbers of all epochs in training order."""
    from forebear.train.resume import epochs_in_order

    student = params.student
    return epochs_in_order(
        lengths,
        epochs=student.epochs,
        batch_rows=student.batch_rows,
        seed=stage_seed(params.seed, "distill"),
    )


def _first_uses(rows: Sequence[Row], order: Sequence[int]) -> list[Row]:
    return [rows[number] for number in dict.fromkeys(order)]


def _padded(history: Sequence[Mapping[str, Any]], lengths: list[int], params: DistillParams) -> int:
    """Tokens that the models computed on: a step is as wide as its longest prompt and answer."""
    rows = params.student.batch_rows
    longest = [row["completions/max_length"] for row in history if "loss" in row]
    prompts = [max(lengths[start : start + rows]) for start in range(0, len(lengths), rows)]
    return sum(
        rows * (prompt + round(answer)) for prompt, answer in zip(prompts, longest, strict=True)
    )


def divergence_from(
    teacher: PreTrainedModel, student: PreTrainedModel, encoded: Encoded, *, batch: int = 4
) -> float:
    """Mean Kullback-Leibler divergence of ``student`` from ``teacher`` per answer token, in nats.

    Shapes: B rows, T tokens, V vocabulary, N answer tokens of the batch.
    """
    import torch

    training = student.training
    student.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(encoded), batch):
            part = encoded[start : start + batch]
            ours_NV, theirs_NV = (_answer_logits(model, part) for model in (student, teacher))
            total += float(
                torch.nn.functional.kl_div(ours_NV, theirs_NV, reduction="sum", log_target=True)
            )
            count += len(ours_NV)
    student.train(training)
    return total / max(1, count)


def _answer_logits(model: PreTrainedModel, part: Encoded) -> Tensor:
    """Log-probabilities that ``model`` gives at the answers' tokens, shape [N, V]."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(key: str) -> Tensor:
        rows = [torch.tensor(row[key]) for row in part]
        return pad_sequence(rows, batch_first=True).to(model.device)

    ids_BT, answer_BT = padded("input_ids"), padded("completion_mask").bool()
    lengths_B = torch.tensor([len(row["input_ids"]) for row in part], device=model.device)
    seen_BT = torch.arange(ids_BT.shape[1], device=model.device) < lengths_B.unsqueeze(1)
    keep = ids_BT.shape[1] - int(answer_BT.int().argmax(dim=1).min()) + 1
    forward: Any = model  # transformers types the call too narrowly
    logits_BTV = forward(
        input_ids=ids_BT, attention_mask=seen_BT.long(), logits_to_keep=keep, use_cache=False
    ).logits
    kept_NV = logits_BTV[:, :-1][answer_BT[:, 1 - keep :]]
    return torch.log_softmax(kept_NV.float(), dim=-1)
