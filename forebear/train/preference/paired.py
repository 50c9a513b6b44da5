"""DPO, SimPO and ORPO: the methods that learn from pairs, by TRL's trainers.

DPO holds the policy to its parent, whose log-probabilities are computed once, before the first
step. SimPO and ORPO have no reference: SimPO compares mean log-probabilities of a token against a
target margin, ORPO adds the odds ratio to plain fine-tuning on the chosen answer.

Token ids are handed over as fine-tuning encodes them: the trainers would render text anew and add
an end of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forebear.train.pairs import Encoded
from forebear.train.preference.training import (
    STEP_KEYS,
    Job,
    Trained,
    arguments,
    in_order,
    logged,
    run,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_COLUMNS = (*STEP_KEYS, "reward_margin", "reward_accuracy")
_LOGGED = {"reward_margin": "rewards/margins", "reward_accuracy": "rewards/accuracies"}
_IGNORED = -100  # label of a position without loss


def train_pairs(job: Job, pairs: Sequence[Encoded]) -> Trained:
    """Trains a fresh copy of the parent on ``pairs`` with the method that the params name."""
    from forebear.train.metrics import forward_flop, training_flop

    batch_rows = job.params.batch_pairs
    order = in_order(job, [pair.n_tokens for pair in pairs], batch_rows=batch_rows)
    ordered = [pairs[row] for row in order]
    build = {"dpo": _dpo, "simpo": _simpo, "orpo": _orpo}[job.params.method]
    model, trainer, figures = run(job, lambda model: build(job, model, ordered))
    n_params, padded = figures["n_params"], _padded(ordered, batch_rows)
    flop, method = training_flop(n_params, padded), "training 6·N·D, dense, padding included"
    if job.params.method == "dpo":
        flop += forward_flop(n_params, padded)
        method = "training 6·N·D and reference 2·N·D, dense, padding included"
    counts = {
        "tokens": sum(pair.n_tokens for pair in ordered),
        "tokens_padded": padded,
        "flop": flop,
        "flop_method": method,
    }
    return Trained(model, logged(trainer, _LOGGED), _COLUMNS, {**figures, **counts})


def _padded(pairs: Sequence[Encoded], batch_rows: int) -> int:
    """Tokens of all batches with padding: both answers of a batch are as long as the longest."""
    padded = 0
    for start in range(0, len(pairs), batch_rows):
        batch = pairs[start : start + batch_rows]
        width = max(
            len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
            for pair in batch
        )
        padded += 2 * len(batch) * width
    return padded


def _dpo(job: Job, model: PreTrainedModel, pairs: Sequence[Encoded]) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class EncodedTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    return EncodedTrainer(
        model=model,
        args=DPOConfig(
            **arguments(job, batch_rows=job.params.batch_pairs),
            beta=job.params.beta,
            loss_type=["sigmoid"],
            precompute_ref_log_probs=True,
            max_length=None,
            dataset_num_proc=None,
        ),
        train_dataset=Dataset.from_list([{c: getattr(pair, c) for c in columns} for pair in pairs]),
        processing_class=job.tokenizer,
    )


def _simpo(job: Job, model: PreTrainedModel, pairs: Sequence[Encoded]) -> Any:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # it warns of itself at import
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    class EncodedTrainer(CPOTrainer):
        @staticmethod
        def tokenize_row(feature: dict[str, Any]) -> dict[str, Any]:
            return feature

    return EncodedTrainer(
        model=model,
        args=CPOConfig(
            **arguments(job, batch_rows=job.params.batch_pairs),
            loss_type="simpo",
            cpo_alpha=0.0,
            beta=job.params.simpo.beta,
            simpo_gamma=job.params.simpo.gamma,
            max_length=_longest(pairs),
            remove_unused_columns=False,
        ),
        train_dataset=_whole_sequences(pairs),
        processing_class=job.tokenizer,
    )


def _orpo(job: Job, model: PreTrainedModel, pairs: Sequence[Encoded]) -> Any:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # it warns of itself at import
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    class EncodedTrainer(ORPOTrainer):
        @staticmethod
        def tokenize_row(feature: dict[str, Any]) -> dict[str, Any]:
            return feature

        def concatenated_forward(self, model: Any, batch: Any) -> Any:
            """Fine-tunes on the answer alone, as the paper and sft do; TRL counts the prompt too.

            Source: ORPO, section 4.2: the mean over the answer's tokens.
            """
            found = super().concatenated_forward(model, batch)
            chosen_logp_N = found[0]
            return (*found[:4], -chosen_logp_N.mean(), *found[5:])

    return EncodedTrainer(
        model=model,
        args=ORPOConfig(
            **arguments(job, batch_rows=job.params.batch_pairs),
            beta=job.params.orpo.weight,  # TRL's name for lambda
            max_length=_longest(pairs),
            remove_unused_columns=False,
        ),
        train_dataset=_whole_sequences(pairs),
        processing_class=job.tokenizer,
    )


def _longest(pairs: Sequence[Encoded]) -> int:
    return max(
        len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs
    )


def _whole_sequences(pairs: Sequence[Encoded]) -> Any:
    """The columns that these trainers' collator pads: prompts, and whole sequences with labels."""
    from datasets import Dataset

    rows = []
    for pair in pairs:
        row = {
            "prompt_input_ids": pair.prompt_ids,
            "prompt_attention_mask": [1] * len(pair.prompt_ids),
        }
        for side, ids in (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids)):
            row[f"{side}_input_ids"] = pair.prompt_ids + ids
            row[f"{side}_attention_mask"] = [1] * (len(pair.prompt_ids) + len(ids))
            row[f"{side}_labels"] = [_IGNORED] * len(pair.prompt_ids) + ids
        rows.append(row)
    return Dataset.from_list(rows)
