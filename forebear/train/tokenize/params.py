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
    """

    length_tokens: int = Field(ge=16)
    replay_share: float = Field(ge=0, lt=1)
    domain_tokens: int = Field(ge=1)
    validation_tokens: int = Field(ge=1)
