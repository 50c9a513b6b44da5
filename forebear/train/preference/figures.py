"""Figures of a policy before and after, the same for every method, from forward passes alone.

Margin and accuracy use the reward that DPO implies (beta times the log-ratio to the parent), with
``prefer.beta``, whatever was trained: so methods compare. What a method itself optimised stands in
its curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebear.train.distill.teachers import Samples
from forebear.train.distill.verifiers import load_verifier
from forebear.train.pairs import (
    Scores,
    compare_scores,
    compare_thumbs,
    encode_pairs,
    encode_thumbs,
    score_pairs,
    score_sequences,
)
from forebear.train.preference.data import Material
from forebear.train.preference.settings import PreferParams

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, material: Material) -> Scores:
    """What ``model`` thinks of the held-out pairs or thumbs."""
    import torch

    if material.kind == "pairs":
        return score_pairs(model, encode_pairs(material.held_out, tokenizer))
    sides = [
        score_sequences(
            model,
            encode_thumbs([row for row in material.held_out if row["thumb"] == side], tokenizer),
        )
        for side in ("up", "down")
    ]
    return Scores(sides[0][0], sides[1][0], torch.cat([side[1] for side in sides]))


def compare(policy: Scores, reference: Scores, material: Material, beta: float) -> dict[str, float]:
    """Margin, accuracy and divergence on what is held out."""
    figures = compare_scores if material.kind == "pairs" else compare_thumbs
    return figures(policy, reference, beta=beta)


def lengths(material: Material, after: Samples) -> dict[str, float]:
    """Mean lengths: of what is preferred in characters, of the policy's answers in tokens."""
    rows = [*material.held_out, *material.train]
    if material.kind == "pairs":
        chosen, rejected = ([row[side] for row in rows] for side in ("chosen", "rejected"))
    else:
        chosen, rejected = (
            [row["answer"] for row in rows if row["thumb"] == side] for side in ("up", "down")
        )
    before_tokens = _mean_tokens(material.before, len(after.answers))
    after_tokens = _mean_tokens(after, len(after.answers))
    return {
        "chosen_characters": _mean([len(text) for text in chosen]),
        "rejected_characters": _mean([len(text) for text in rejected]),
        "answer_tokens_before": before_tokens,
        "answer_tokens_after": after_tokens,
        "answer_tokens_change": after_tokens - before_tokens,
    }


def verified(params: PreferParams, material: Material, after: Samples) -> dict[str, float]:
    """Share of the policy's answers to held-out prompts that the verifier accepts."""
    verify = load_verifier(params.verifier, where="params.yaml: prefer.verifier")

    def share(samples: Samples) -> float:
        pairs = zip(material.probe, samples.answers[: len(material.probe)], strict=True)
        return _mean(
            [int(verify(answer.text, row).verified) for row, given in pairs for answer in given]
        )

    return {"before": share(material.before), "after": share(after)}


def counts(params: PreferParams, material: Material, digest: str) -> dict[str, Any]:
    """What was asked for and what was found."""
    rows = [*material.held_out, *material.train]
    common = {
        "method": params.method,
        "beta": params.beta,
        "epochs": params.epochs,
        "policy_tree": digest,
    }
    if material.kind == "thumbs":
        n_held_out = len(material.held_out)
        return {**common, "thumbs": len(rows), "thumbs_held_out": n_held_out}
    found: Mapping[str, int] = {
        origin: sum(row["rejected_from"] == origin for row in rows)
        for origin in ("policy", "sibling")
    }
    return {
        **common,
        "pairs": len(rows),
        "pairs_held_out": len(material.held_out),
        "pairs_from_policy": found["policy"],
        "pairs_from_siblings": found["sibling"],
    }


def _mean_tokens(samples: Samples, n_prompts: int) -> float:
    part = samples.answers[:n_prompts]
    return _mean([answer.n_tokens for answers in part for answer in answers])


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(1, len(values))
