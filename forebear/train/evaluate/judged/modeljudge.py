"""A language model as judge: greedy, fixed prompts, strict reading, one second chance.

Rests on any :class:`~forebear.train.evaluate.model.ChatModel`, so its calls are journalled, counted
and paid like those of the model that is measured.

Source: evaluation page, section 9.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from forebear.formats import strictjson
from forebear.train.evaluate.judged.prompts import Asked, Case, read_verdict
from forebear.train.evaluate.judged.protocol import (
    Behaviour,
    Graded,
    Pair,
    Verdict,
    preference,
    text_sha256,
)
from forebear.train.evaluate.model import ChatModel, ChatRequest, Generation


class Prompts(Protocol):
    """Where judge prompts come from."""

    @property
    def wording(self) -> str:
        """Whose words they are."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of their fixed words."""
        ...

    def ask(self, case: Case) -> Asked:
        """The prompt for one case."""
        ...


class ModelJudge:
    """Judges by asking a model.

    Args:
        model: the judge.
        kind: ``local``, ``openai`` or ``anthropic``.
        name: model and snapshot, as it stands in item rows.
        prompts: its words.
        max_new_tokens: of one verdict, the reasons included.
        ancestors: what the judge descends from, as declared.
        weighs: the model gives log-probabilities of a first token.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        kind: str,
        name: str,
        prompts: Prompts,
        max_new_tokens: int,
        ancestors: Sequence[str] = (),
        weighs: bool = False,
    ) -> None:
        self.kind, self.name, self.weighs = kind, name, weighs
        self.ancestors: Sequence[str] = tuple(ancestors)
        self.wording = prompts.wording
        self._model, self._prompts, self._max_new_tokens = model, prompts, max_new_tokens
        answering = dict(model.identity)
        self.identity: Mapping[str, Any] = {
            "kind": kind,
            "model": name,
            "digest": hashlib.sha256(strictjson.canonical(answering)).hexdigest(),
            "prompts_sha256": prompts.digest,
            "decoding": {"temperature": 0.0, "max_new_tokens": max_new_tokens},
        }

    def compare(self, cases: Sequence[Pair], *, repeat: int = 0) -> list[Verdict]:
        """A preference each, with the probability that A is better."""
        return self._judge(cases, repeat)

    def grade(self, cases: Sequence[Graded], *, repeat: int = 0) -> list[Verdict]:
        """A grade each, 1 to 10."""
        return self._judge(cases, repeat)

    def classify(self, cases: Sequence[Behaviour], *, repeat: int = 0) -> list[Verdict]:
        """A class each."""
        return self._judge(cases, repeat)

    def _judge(self, cases: Sequence[Case], repeat: int) -> list[Verdict]:
        asked = [self._prompts.ask(case) for case in cases]
        requests = [self._request(one, repeat) for one in asked]
        said = self._model.chat(requests)
        verdicts = [self._read(*three) for three in zip(asked, requests, said, strict=True)]
        unread = [
            index for index, verdict in enumerate(verdicts)
            if not verdict.parse_ok and not verdict.error
        ]  # fmt: skip
        if unread:
            again = [asked[index].again(said[index].text) for index in unread]
            requests = [self._request(one, repeat) for one in again]
            second = self._model.chat(requests)
            for index, one, request, answer in zip(unread, again, requests, second, strict=True):
                before = verdicts[index].requests
                verdicts[index] = self._read(one, request, answer, before)
        return verdicts

    def _request(self, asked: Asked, repeat: int) -> ChatRequest:
        return ChatRequest(asked.messages, self._max_new_tokens, temperature=0.0, seed=repeat)

    def _read(
        self, asked: Asked, request: ChatRequest, said: Generation, before: tuple[str, ...] = ()
    ) -> Verdict:
        keys = (*before, self._model.key(request))
        if said.finish_reason == "error":
            return Verdict(None, None, parse_ok=False, requests=keys, error=True)
        raw = text_sha256(said.text)
        label = read_verdict(asked.kind, said.text)
        if label is None:
            return Verdict(None, None, parse_ok=False, requests=keys, raw_sha256=raw)
        score, weighted = None, False
        if asked.kind == "grade":
            score = float(label)
        elif asked.kind not in {"harmful", "refusal", "classifier"}:
            share = self._share_of_a(request) if asked.kind == "letter" else None
            weighted = share is not None
            score = preference(label) if share is None else share
        return Verdict(label, score, requests=keys, raw_sha256=raw, weighted=weighted)

    def _share_of_a(self, request: ChatRequest) -> float | None:
        """Probability of A against B in the first token; ``None`` where the backend gives none."""
        first_token = getattr(self._model, "first_token", None)
        if first_token is None:
            return None
        logarithms: Mapping[str, float] | None = first_token(request)
        shares = {"A": 0.0, "B": 0.0}
        for token, logarithm in (logarithms or {}).items():
            if token.strip() in shares:
                shares[token.strip()] += math.exp(logarithm)
        total = shares["A"] + shares["B"]
        return shares["A"] / total if total > 0 else None
