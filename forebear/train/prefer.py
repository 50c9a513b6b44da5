"""Preference optimisation with TRL's DPO, on pairs made on policy.

The policy answers each prompt once more; a refuted answer becomes the rejected side, the verified
code the chosen one. Where every answer was right, a sibling code is the rejected side. The
reference is the parent itself: its log-probabilities are computed once, before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from forebear.errors import ConfigError
from forebear.formats import strictjson
from forebear.train.distill.teachers import Samples, Sampling, sample_answers
from forebear.train.distill.verifiers import load_verifier
from forebear.train.pairs import Encoded, compare_scores, encode_pairs, make_pairs, score_pairs
from forebear.train.stage import StageParams, scratch_dir, stage_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.sft import Row

# Accepted by the field: training page, section prefer.
_BETA_RANGE = (0.1, 0.5)
_EPOCHS_RANGE = (1, 2)

_CURVES = ("step", "loss", "learning_rate", "grad_norm", "reward_margin", "reward_accuracy")


class PreferParams(StageParams):
    """Section ``prefer`` of the params."""

    method: Literal["dpo"] = "dpo"
    beta: float = Field(gt=0)
    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_pairs: int = Field(ge=1)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    verifier: str = "exact_match"
    forms: tuple[str, ...] = Field(strict=False, min_length=1)
    max_pairs: int = Field(ge=1)
    held_out_pairs: int = Field(ge=1)
    samples_per_prompt: int = Field(ge=1)
    temperature: float = Field(ge=0)
    max_new_tokens: int = Field(ge=1)
    batch_rows: int = Field(ge=1)


def train_prefer(
    params: PreferParams,
    *,
    start: Path,
    rows: Path,
    out: Path,
    pairs: Path,
    metrics: Path,
    curves: Path,
) -> None:
    """Makes pairs with the checkpoint ``start``, trains it on them, writes pairs and figures.

    Raises:
        ConfigError: a parameter is refused, or too few rows for the pairs asked for.
    """
    from forebear.hashing.digest import hash_tree
    from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint
    from forebear.train.metrics import write_curves, write_json
    from forebear.train.runtime import configure_torch

    params.require_range("prefer.beta", params.beta, *_BETA_RANGE)
    params.require_range("prefer.epochs", params.epochs, *_EPOCHS_RANGE)
    load_verifier(params.verifier, where="params.yaml: prefer.verifier")
    seed = stage_seed(params.seed, "prefer")
    configure_torch(seed)
    scratch = scratch_dir("prefer")
    asked, siblings = _choose_rows(params, rows, seed)
    model, tokenizer, digest = load_model(start), load_tokenizer(start), hash_tree(start).digest
    samples = _sample(
        params, model, tokenizer, rows=asked, digest=digest, journal=scratch / "answers.jsonl"
    )
    made = make_pairs(asked, samples.answers, verifier=params.verifier, siblings=siblings)
    _require_enough(params, made)
    held_out, train = made[: params.held_out_pairs], made[params.held_out_pairs :]
    probe = encode_pairs(held_out, tokenizer)
    reference = score_pairs(model, probe)
    del model  # the trainer loads its own
    configure_torch(seed)
    trained = _train_dpo(params, start, tokenizer, encode_pairs(train, tokenizer), scratch)
    policy = score_pairs(trained.model, probe)
    again = _sample(
        params,
        trained.model,
        tokenizer,
        rows=asked[: params.held_out_pairs],
        digest=trained.figures["logits_last_sha256"],
        journal=scratch / "answers-after.jsonl",
    )
    _write_pairs(pairs, held_out, train, digest)
    save_checkpoint(trained.model, tokenizer, out)
    figures = {
        **_counts(params, made, digest),
        **trained.figures,
        "before": compare_scores(reference, reference, beta=params.beta),
        "after": compare_scores(policy, reference, beta=params.beta),
        "length": _length_figures(made, samples, again),
    }
    write_json(metrics, figures)
    write_curves(curves, trained.steps, _CURVES)


def _require_enough(params: PreferParams, made: Sequence[Mapping[str, Any]]) -> None:
    if len(made) <= params.held_out_pairs:
        raise ConfigError(
            f"{len(made)} pairs could be made, {params.held_out_pairs} of them are held out",
            where="params.yaml: prefer.held_out_pairs",
            fix="raise prefer.max_pairs or hold out fewer",
        )


def _choose_rows(params: PreferParams, file: Path, seed: int) -> tuple[list[Row], list[str]]:
    """Rows to make pairs from, held-out ones first, and all right answers, sorted."""
    from forebear.train.distill.run import rows_of_forms
    from forebear.train.sft import read_rows, split_rows

    rows = rows_of_forms(read_rows(file), params.forms, where="prefer")
    train, held_out = split_rows(
        rows, n_train=params.max_pairs, n_held_out=params.held_out_pairs, seed=seed
    )
    return [*held_out, *train], sorted({row["answer"] for row in rows})


def _sample(
    params: PreferParams,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    rows: Sequence[Row],
    digest: str,
    journal: Path,
) -> Samples:
    sampling = Sampling(
        samples_per_prompt=params.samples_per_prompt,
        temperature=params.temperature,
        max_new_tokens=params.max_new_tokens,
        batch_rows=params.batch_rows,
        seed=stage_seed(params.seed, "prefer"),
    )
    prompts = [row["prompt"] for row in rows]
    return sample_answers(
        model, tokenizer, prompts, sampling, teacher_digest=digest, journal=journal, label="prefer"
    )


@dataclass(frozen=True, slots=True)
class Trained:
    """What DPO training leaves: the model, one row per step, and figures."""

    model: PreTrainedModel
    steps: list[dict[str, float]]
    figures: dict[str, Any]


def _train_dpo(
    params: PreferParams,
    start: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Encoded],
    scratch: Path,
) -> Trained:
    """Trains a fresh copy of the checkpoint ``start`` on ``pairs``."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from forebear.train.checkpoint import load_model, probe_logits
    from forebear.train.resume import epochs_in_order, run_trainer, trainer_arguments

    seed = stage_seed(params.seed, "prefer")
    order = epochs_in_order(
        [pair.n_tokens for pair in pairs],
        epochs=params.epochs,
        batch_rows=params.batch_pairs,
        seed=seed,
    )

    class Encoded_(DPOTrainer):  # noqa: N801  # local to this function
        """Takes token ids as they are: the library would render text anew and add its own end."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    arguments = DPOConfig(
        **trainer_arguments(scratch, seed=seed),
        per_device_train_batch_size=params.batch_pairs,
        learning_rate=params.lr,
        lr_scheduler_type="cosine",
        warmup_steps=params.warmup_ratio,
        max_grad_norm=params.max_grad_norm,
        beta=params.beta,
        loss_type=["sigmoid"],
        precompute_ref_log_probs=True,
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        dataset_num_proc=None,
    )
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    dataset = Dataset.from_list([{c: getattr(pairs[i], c) for c in columns} for i in order])
    # loaded here, not handed over: the reference log-probabilities must be the parent's
    model = load_model(start)
    logits_first, use_cache = probe_logits(model), model.config.use_cache
    trainer = Encoded_(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    steps = run_trainer(trainer, scratch, label="prefer")
    model.config.use_cache = use_cache  # the trainer turns it off for itself
    figures = {
        **_training_figures(model, [pairs[i] for i in order], params.batch_pairs),
        "steps": len(steps),
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "logits_first_sha256": logits_first,
        "logits_last_sha256": probe_logits(model),
    }
    return Trained(model, _with_rewards(steps, trainer.state.log_history), figures)


def _with_rewards(
    steps: Sequence[Mapping[str, float]], history: Sequence[Mapping[str, float]]
) -> list[dict[str, float]]:
    logged = [row for row in history if "loss" in row]
    return [
        {
            **step,
            "reward_margin": row["rewards/margins"],
            "reward_accuracy": row["rewards/accuracies"],
        }
        for step, row in zip(steps, logged, strict=True)
    ]


def _training_figures(
    model: PreTrainedModel, pairs: Sequence[Encoded], batch_pairs: int
) -> dict[str, Any]:
    """Parameters, tokens with and without padding, and FLOPs of one pass over ``pairs``."""
    from forebear.train.checkpoint import count_parameters
    from forebear.train.metrics import forward_flop, training_flop

    padded = 0
    for start in range(0, len(pairs), batch_pairs):
        batch = pairs[start : start + batch_pairs]
        width = max(
            len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
            for pair in batch
        )
        padded += 2 * len(batch) * width
    n_parameters = count_parameters(model)
    return {
        "n_params": n_parameters,
        "tokens": sum(pair.n_tokens for pair in pairs),
        "tokens_padded": padded,
        "flop": training_flop(n_parameters, padded) + forward_flop(n_parameters, padded),
        "flop_method": "training 6·N·D and reference 2·N·D, dense, padding included",
    }


def _write_pairs(
    file: Path,
    held_out: Sequence[Mapping[str, Any]],
    train: Sequence[Mapping[str, Any]],
    digest: str,
) -> None:
    rows = [
        {**pair, "split": split, "policy_tree": digest}
        for split, part in (("held_out", held_out), ("train", train))
        for pair in part
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(strictjson.dumps(row) for row in rows))


def _length_figures(
    made: Sequence[Mapping[str, Any]], before: Samples, after: Samples
) -> dict[str, float]:
    """Mean lengths: of the pairs in characters, of the policy's answers in tokens."""

    def mean(values: Sequence[int]) -> float:
        return sum(values) / max(1, len(values))

    def tokens(samples: Samples) -> float:
        part = samples.answers[: len(after.answers)]
        return mean([answer.n_tokens for answers in part for answer in answers])

    return {
        "chosen_characters": mean([len(pair["chosen"]) for pair in made]),
        "rejected_characters": mean([len(pair["rejected"]) for pair in made]),
        "answer_tokens_before": tokens(before),
        "answer_tokens_after": tokens(after),
        "answer_tokens_change": tokens(after) - tokens(before),
    }


def _counts(params: PreferParams, made: Sequence[Mapping[str, Any]], digest: str) -> dict[str, Any]:
    return {
        "method": params.method,
        "beta": params.beta,
        "epochs": params.epochs,
        "pairs": len(made),
        "pairs_held_out": params.held_out_pairs,
        "pairs_from_policy": sum(pair["rejected_from"] == "policy" for pair in made),
        "pairs_from_siblings": sum(pair["rejected_from"] == "sibling" for pair in made),
        "policy_tree": digest,
    }
