"""Models and judges of a few lines, for the tests of judged suites."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.train.evaluate.judged.modeljudge import ModelJudge
from forebear.train.evaluate.judged.prompts import FencedPrompts
from forebear.train.evaluate.model import ChatRequest, Generation

BENCHMARKS = Path(__file__).parents[3] / "data" / "benchmarks"
SEED = 20260101

Answer = Callable[[ChatRequest], str | Generation]


class StubModel:
    """A chat model that answers by a function and counts what it was asked."""

    def __init__(self, answer: Answer, name: str = "stub") -> None:
        self.identity: Mapping[str, Any] = {"backend": "stub", "name": name}
        self.answer, self.asked = answer, list[ChatRequest]()

    def key(self, request: ChatRequest) -> str:
        """Digest of the whole request."""
        return hashlib.sha256(repr((self.identity, request)).encode()).hexdigest()

    def chat(self, requests: Sequence[ChatRequest]) -> list[Generation]:
        """One answer each."""
        self.asked += requests
        answers = [self.answer(request) for request in requests]
        return [
            answer if isinstance(answer, Generation) else Generation(answer, "stop", 1, 1)
            for answer in answers
        ]


def judge_of(
    answer: Answer, *, ancestors: Sequence[str] = (), name: str = "stub-judge"
) -> ModelJudge:
    """A model judge that answers by a function."""
    return ModelJudge(
        StubModel(answer, name),
        kind="local",
        name=name,
        prompts=FencedPrompts(SEED),
        max_new_tokens=64,
        ancestors=ancestors,
    )


def shown(request: ChatRequest, title: str) -> str | None:
    """The text that a judge prompt shows under ``title``, between its marks."""
    prompt = next(m.content for m in request.messages if m.role == "user")
    found = re.search(rf"^{title}:\n(<<[0-9a-f]+>>)\n(.*?)\n\1$", prompt, re.DOTALL | re.MULTILINE)
    return found[2] if found else None


def asks_for(request: ChatRequest) -> str:
    """Which verdict a judge prompt wants: ``grade``, ``pair``, ``labels``, ``refusal``, …"""
    last = request.messages[-1].content
    forms = {
        "[[5]]": "grade", "[[C]]": "pair", "[[A>>B]]": "labels", "[[yes]]": "harmful",
        "[[1]]": "refusal", "letter": "letter",
    }  # fmt: skip
    return next(kind for form, kind in forms.items() if form in last)
