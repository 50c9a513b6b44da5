"""Preference pairs: made from a policy's own answers, encoded, scored.

A pair is a prompt, the verified answer (chosen) and a refuted one (rejected). Scores are plain
forward passes, so figures on held-out pairs do not depend on a trainer.

Shapes: N pairs, B sequences of T tokens, V vocabulary, A answer tokens of one sequence, K of all.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forebear.train.distill.teachers import Answer
from forebear.train.distill.verifiers import load_verifier

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from forebear.train.sft import Row


@dataclass(frozen=True, slots=True)
class Encoded:
    """One pair as token ids: the prompt, then either answer with its end mark."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def n_tokens(self) -> int:
        """Tokens of both sequences."""
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


def make_pairs(
    rows: Sequence[Row],
    answers: Sequence[Sequence[Answer]],
    *,
    verifier: str,
    siblings: Sequence[str],
) -> list[dict[str, Any]]:
    """One pair per row that has something to reject.

    Args:
        rows: prompts and right answers.
        answers: the policy's answers to each.
        verifier: name of the verifier that refutes.
        siblings: all known right answers, sorted; the nearest one stands in for a refuted answer
            where the policy gave none.
    """
    verify = load_verifier(verifier, where="params.yaml: prefer.verifier")
    pairs = []
    for row, given in zip(rows, answers, strict=True):
        judged = [(answer, verify(answer.text, row)) for answer in given]
        refuted = [(answer, verdict) for answer, verdict in judged if not verdict.verified]
        # an unfinished answer teaches where to stop, not which code is right: take it last
        refuted.sort(key=lambda entry: not entry[0].finished)
        if refuted:
            rejected, origin, reason = refuted[0][0].text, "policy", refuted[0][1].reason
        else:
            rejected, origin, reason = _sibling(row["answer"], siblings), "sibling", "sibling code"
        if not rejected and origin == "sibling":
            continue
        pairs.append(
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "chosen": row["answer"],
                "rejected": rejected,
                "rejected_from": origin,
                "reason": reason,
                "verifier": verifier,
                "rejected_sha256": hashlib.sha256(rejected.encode()).hexdigest(),
            }
        )
    return pairs


def _sibling(answer: str, siblings: Sequence[str]) -> str:
    """The neighbour of ``answer`` in code order that shares the longer prefix; empty if alone."""
    place = bisect.bisect_left(siblings, answer)
    near = [*siblings[max(0, place - 1) : place], *siblings[place : place + 2]]
    near = [code for code in near if code != answer]
    return max(near, key=lambda code: _shared(code, answer), default="")


def _shared(left: str, right: str) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )


def encode_thumbs(
    thumbs: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each thumb's prompt and of its answer with its end mark."""
    from forebear.train.sft import encode_rows

    rows = [{"prompt": thumb["prompt"], "answer": thumb["answer"]} for thumb in thumbs]
    encoded = []
    for row in encode_rows(rows, tokenizer):
        n = row["completion_mask"].index(1)
        encoded.append((row["input_ids"][:n], row["input_ids"][n:]))
    return encoded


def encode_pairs(
    pairs: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
) -> list[Encoded]:
    """Token ids of each pair, exactly as fine-tuning encodes the same prompt and answer."""
    from forebear.train.sft import encode_rows

    def side(name: str) -> list[dict[str, list[int]]]:
        rows = [{"prompt": pair["prompt"], "answer": pair[name]} for pair in pairs]
        return encode_rows(rows, tokenizer)

    encoded = []
    for chosen, rejected in zip(side("chosen"), side("rejected"), strict=True):
        n = chosen["completion_mask"].index(1)
        encoded.append(
            Encoded(chosen["input_ids"][:n], chosen["input_ids"][n:], rejected["input_ids"][n:])
        )
    return encoded


@dataclass(frozen=True, slots=True)
class Scores:
    """What one model thinks of N pairs.

    Attributes:
        chosen_N: log-probability of each chosen answer, in nats.
        rejected_N: the same of each rejected answer.
        answer_KV: log-probabilities of the whole vocabulary at the K answer positions of all.
    """

    chosen_N: Tensor
    rejected_N: Tensor
    answer_KV: Tensor


def score_pairs(model: PreTrainedModel, pairs: Sequence[Encoded], *, batch: int = 8) -> Scores:
    """Scores both answers of every pair; ``model`` is left as it was."""
    sequences = [
        (pair.prompt_ids, ids) for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids)
    ]
    sum_S, answer_KV = score_sequences(model, sequences, batch=2 * batch)
    return Scores(sum_S[0::2], sum_S[1::2], answer_KV)


def score_sequences(
    model: PreTrainedModel, sequences: Sequence[tuple[list[int], list[int]]], *, batch: int = 16
) -> tuple[Tensor, Tensor]:
    """Scores S answers to their prompts; ``model`` is left as it was.

    Returns:
        Log-probability of each answer in nats, shape [S], and those of the whole vocabulary at
        every answer position, shape [K, V].
    """
    import torch

    forward: Any = model  # transformers types the call too narrowly
    training = model.training
    model.eval()
    sums, kept = [], []
    with torch.no_grad():
        for start in range(0, len(sequences), batch):
            part = sequences[start : start + batch]
            width = max(len(prompt) + len(answer) for prompt, answer in part)
            ids_BT = torch.zeros(len(part), width, dtype=torch.long)
            seen_BT = torch.zeros(len(part), width, dtype=torch.long)
            for row, (prompt, answer) in enumerate(part):
                ids_BT[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
                seen_BT[row, : len(prompt) + len(answer)] = 1
            logits_BTV = forward(input_ids=ids_BT, attention_mask=seen_BT, use_cache=False).logits
            for row, (prompt, answer) in enumerate(part):
                first, last = len(prompt) - 1, len(prompt) + len(answer) - 1
                logp_AV = torch.log_softmax(logits_BTV[row, first:last].float(), dim=-1)
                sums.append(logp_AV.gather(1, torch.tensor(answer).unsqueeze(1)).sum())
                kept.append(logp_AV)
    model.train(training)
    return torch.stack(sums), torch.cat(kept)


def compare_scores(policy: Scores, reference: Scores, *, beta: float) -> dict[str, float]:
    """Figures of a policy against its reference on the same pairs.

    Returns:
        ``reward_margin`` (mean of beta times the difference of log-ratios) and
        ``reward_accuracy`` (share of pairs where it is positive), both zero for the reference
        itself; ``logp_margin`` and ``preference_accuracy``, the same from log-probabilities alone;
        ``kl`` in nats per answer token, policy to reference, over the whole vocabulary at the
        positions of the pairs' answers.
    """
    chosen_N = beta * (policy.chosen_N - reference.chosen_N)
    rejected_N = beta * (policy.rejected_N - reference.rejected_N)
    plain_N = policy.chosen_N - policy.rejected_N
    return {
        "reward_margin": float((chosen_N - rejected_N).mean()),
        "reward_accuracy": float((chosen_N > rejected_N).float().mean()),
        "reward_chosen": float(chosen_N.mean()),
        "reward_rejected": float(rejected_N.mean()),
        "logp_margin": float(plain_N.mean()),
        "preference_accuracy": float((plain_N > 0).float().mean()),
        "kl": _divergence(policy, reference),
    }


def compare_thumbs(policy: Scores, reference: Scores, *, beta: float) -> dict[str, float]:
    """The figures of :func:`compare_scores` for thumbs, which answer different prompts.

    ``chosen_N`` holds thumbs up, ``rejected_N`` thumbs down. Margins are differences of means;
    accuracies are shares of all combinations of an up and a down that stand in the right order.
    """
    up_N = beta * (policy.chosen_N - reference.chosen_N)
    down_N = beta * (policy.rejected_N - reference.rejected_N)
    reward_NN = up_N.unsqueeze(1) > down_N.unsqueeze(0)
    plain_NN = policy.chosen_N.unsqueeze(1) > policy.rejected_N.unsqueeze(0)
    return {
        "reward_margin": float(up_N.mean() - down_N.mean()),
        "reward_accuracy": float(reward_NN.float().mean()),
        "reward_chosen": float(up_N.mean()),
        "reward_rejected": float(down_N.mean()),
        "logp_margin": float(policy.chosen_N.mean() - policy.rejected_N.mean()),
        "preference_accuracy": float(plain_NN.float().mean()),
        "kl": _divergence(policy, reference),
    }


def _divergence(policy: Scores, reference: Scores) -> float:
    """Nats per answer token, policy to reference, over the whole vocabulary."""
    gap_KV = policy.answer_KV - reference.answer_KV
    return float((policy.answer_KV.exp() * gap_KV).sum(dim=-1).mean())
