"""KTO: learns from thumbs up and down, each on its own, by TRL's trainer.

The parent's log-probabilities are computed once, before the first step. The reference point is the
divergence that the batch itself shows: each prompt is scored with its neighbour's answer too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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

_COLUMNS = (*STEP_KEYS, "reward_margin", "reward_up", "reward_down", "kl")
_LOGGED = {
    "reward_margin": "rewards/margins",
    "reward_up": "rewards/chosen",
    "reward_down": "rewards/rejected",
    "kl": "kl",
}

Sequences = Sequence[tuple[list[int], list[int]]]


def train_thumbs(job: Job, thumbs: Sequences, ups: Sequence[bool]) -> Trained:
    """Trains a fresh copy of the parent on encoded ``thumbs``.

    Args:
        job: what is trained, and how.
        thumbs: prompt and answer ids; thumbs up first, so that neighbours of one length, which
            share a batch, rarely share a prompt.
        ups: whether each is a thumb up; both kinds must be there.
    """
    from forebear.train.metrics import forward_flop, training_flop

    batch_rows = 2 * job.params.batch_pairs
    lengths = [len(prompt) + len(answer) for prompt, answer in thumbs]
    order = in_order(job, lengths, batch_rows=batch_rows)
    weights = job.params.kto_weights(sum(ups), len(ups) - sum(ups))
    rows = [
        {"prompt_ids": thumbs[row][0], "completion_ids": thumbs[row][1], "label": ups[row]}
        for row in order
    ]
    _add_neighbours(rows, batch_rows)
    model, trainer, figures = run(job, lambda model: _kto(job, model, rows, weights))
    own, other = (_padded(rows, key, batch_rows) for key in ("completion_ids", "KL_completion_ids"))
    n_params = figures["n_params"]
    counts = {
        "thumbs_up": sum(ups),
        "thumbs_down": len(ups) - sum(ups),
        "desirable_weight": weights[0],
        "undesirable_weight": weights[1],
        "tokens": sum(lengths[row] for row in order),
        "tokens_padded": own + other,
        "flop": training_flop(n_params, own) + forward_flop(n_params, own + 2 * other),
        "flop_method": "training 6·N·D, reference and reference point 2·N·D each, dense, "
        "padding included",
    }
    return Trained(model, logged(trainer, _LOGGED), _COLUMNS, {**figures, **counts})


def _add_neighbours(rows: list[dict[str, Any]], batch_rows: int) -> None:
    """Gives each row the answer of the row before it in its batch, as TRL does."""
    for start in range(0, len(rows), batch_rows):
        batch = rows[start : start + batch_rows]
        for row, before in zip(batch, [batch[-1], *batch[:-1]], strict=True):
            row["KL_completion_ids"] = before["completion_ids"]


def _padded(rows: Sequence[dict[str, Any]], answers: str, batch_rows: int) -> int:
    padded = 0
    for start in range(0, len(rows), batch_rows):
        batch = rows[start : start + batch_rows]
        padded += len(batch) * max(len(row["prompt_ids"]) + len(row[answers]) for row in batch)
    return padded


def _kto(
    job: Job, model: PreTrainedModel, rows: list[dict[str, Any]], weights: tuple[float, float]
) -> Any:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    class EncodedTrainer(KTOTrainer):
        """Takes token ids as they are: the library would render text anew and add its own end."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    return EncodedTrainer(
        model=model,
        args=KTOConfig(
            **arguments(job, batch_rows=2 * job.params.batch_pairs),
            loss_type="kto",
            beta=job.params.beta,
            desirable_weight=weights[0],
            undesirable_weight=weights[1],
            precompute_ref_log_probs=True,
            max_length=None,
            dataset_num_proc=None,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=job.tokenizer,
    )
