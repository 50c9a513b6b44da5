"""Section ``tokenize`` of the params; imports nothing heavy."""

from __future__ import annotations

from pydantic import Field

from forebear.train.stage import StageParams

# Accepted share of replay, by tokens (training page, section tokenize).
REPLAY_RANGE = (0.05, 0.20)


class TokenizeParams(StageParams):
    """Section ``tokenize`` of the params.

    Attributes:
        length_tokens: tokens in one sequence.
        replay_share: replay tokens in all training tokens; accepted 0.05 to 0.20.
        domain_tokens: domain tokens to train on, rounded so that sequences come out whole.
        validation_tokens: tokens held out of each role, rounded up to whole sequences.
        extend: whether new tokens may be learned on the domain corpus.
        extend_above: tokens that domain text costs over what replay text costs, per word or per
            byte, past which the vocabulary is extended.
        max_new_tokens: how many at most.
        min_saved_tokens: what a new token must save of the text it is learned on; a token that
            the training hardly meets stays what the mean of its parts made it.
        learn_bytes: domain text to learn on, from the corpus's beginning (its order is random),
            which bounds time and memory.
    """

    length_tokens: int = Field(ge=16)
    replay_share: float = Field(ge=0, lt=1)
    domain_tokens: int = Field(ge=1)
    validation_tokens: int = Field(ge=1)
    extend: bool = False
    extend_above: float = Field(default=1.3, ge=0)
    max_new_tokens: int = Field(default=1000, ge=1)
    min_saved_tokens: int = Field(default=50, ge=1)
    learn_bytes: int = Field(default=16_000_000, ge=1)
