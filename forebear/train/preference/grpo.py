"""GRPO: reinforcement learning with the verifier's verdict as the reward, by TRL's trainer.

The policy answers a prompt several times; an answer counts by how its reward differs from its
group's. Every step answers anew, so a resumed run needs nothing but the generators' state. A run
in which no group held both verified and refuted answers has learned nothing, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from forebear.errors import RecordError
from forebear.train.distill.verifiers import Verifier, load_verifier
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

    from forebear.train.sft import Row

_COLUMNS = (*STEP_KEYS, "reward", "reward_std", "kl", "answer_tokens", "groups_without_signal")
_LOGGED = {
    "reward": "reward",
    "reward_std": "reward_std",
    "kl": "kl",
    "answer_tokens": "completions/mean_length",
    "groups_without_signal": "frac_reward_zero_std",
}


def train_rewards(job: Job, rows: Sequence[Row]) -> Trained:
    """Trains a fresh copy of the parent to answer ``rows`` so that the verifier agrees.

    Raises:
        RecordError: no group of answers differed in its rewards, so nothing was learned.
    """
    from forebear.train.metrics import forward_flop, training_flop

    batch_rows = job.params.batch_pairs
    lengths = [len(job.tokenizer(row["prompt"])["input_ids"]) for row in rows]
    order = in_order(job, lengths, batch_rows=batch_rows)
    verify = load_verifier(job.params.verifier, where="params.yaml: prefer.verifier")
    ordered = [rows[row] for row in order]
    try:
        model, trainer, figures = run(job, lambda model: _grpo(job, model, ordered, verify))
    except RuntimeError as error:
        if "probability tensor" not in str(error):  # how torch refuses to draw from such
            raise
        raise RecordError(
            "the policy's probabilities are no longer finite",
            where="prefer",
            fix="lower the learning rate; earlier outs are untouched",
        ) from error
    steps = logged(trainer, _LOGGED)
    _require_signal(steps)
    n_params, tokens = figures["n_params"], int(trainer.state.num_input_tokens_seen)
    passes = 2 if job.params.grpo.beta else 1
    counts = {
        "prompts": len(rows),
        "group": job.params.grpo.group,
        "reward_first": steps[0]["reward"],
        "reward_last": steps[-1]["reward"],
        "tokens": tokens,
        "flop": training_flop(n_params, tokens) + passes * forward_flop(n_params, tokens),
        "flop_method": "training 6·N·D, answers and reference 2·N·D each, dense, padding left out",
    }
    return Trained(model, steps, _COLUMNS, {**figures, **counts})


def _require_signal(steps: Sequence[dict[str, Any]]) -> None:
    if all(step["groups_without_signal"] == 1 for step in steps):
        raise RecordError(
            "no group of answers held both verified and refuted ones: nothing was learned",
            where="prefer",
            fix="train sft longer, or raise prefer.temperature or prefer.grpo.group",
        )


def _reward(verify: Verifier, rows: Sequence[Row]) -> Callable[..., list[float]]:
    def verified(completions: list[Any], row: list[int], **_: Any) -> list[float]:
        return [
            float(verify(answer[0]["content"], rows[number]).verified)
            for answer, number in zip(completions, row, strict=True)
        ]

    return verified


def _grpo(job: Job, model: PreTrainedModel, rows: Sequence[Row], verify: Verifier) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    group = job.params.grpo.group
    prompts = [
        {"prompt": [{"role": "user", "content": row["prompt"]}], "row": number}
        for number, row in enumerate(rows)
    ]
    return GRPOTrainer(
        model=model,
        reward_funcs=_reward(verify, rows),
        args=GRPOConfig(
            **arguments(job, batch_rows=group * job.params.batch_pairs),
            num_generations=group,
            steps_per_generation=1,
            num_iterations=1,
            shuffle_dataset=False,
            temperature=job.params.temperature,
            max_completion_length=job.params.max_new_tokens,
            beta=job.params.grpo.beta,
        ),
        train_dataset=Dataset.from_list(prompts),
        processing_class=job.tokenizer,
    )
