"""Which model answers, how hard an endpoint is pressed, and what a measurement may cost.

Settings that people write, and the budget that every backend asks before it spends. Light: no
torch, no client library.

Source: evaluation page, sections 3 and 5.
"""

from __future__ import annotations

import threading
import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forebear.errors import EnvironmentFailure

_MESSAGE_TOKENS = 16  # what a chat template may add to a message, generously


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    in_per_m: float = Field(ge=0)
    out_per_m: float = Field(ge=0)

    def of(self, prompt_tokens: int, answer_tokens: int) -> float:
        """US dollars for these tokens."""
        return (self.in_per_m * prompt_tokens + self.out_per_m * answer_tokens) / 1e6


class EndpointSettings(BaseModel):
    """A server that answers chat requests: hosted, or vLLM, llama.cpp and Ollama beside us."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    api: Literal["openai", "anthropic"] = "openai"
    base_url: str = Field(pattern="^https?://[^@]+$")
    model: str = Field(min_length=1)
    snapshot: str | None = Field(default=None, min_length=1)
    api_key_env: str | None = Field(default=None, pattern="^[A-Z_][A-Z0-9_]*$")
    timeout_s: float = Field(default=120, gt=0)
    concurrency: int = Field(default=4, ge=1, le=256)
    requests_per_minute: float = Field(default=600, gt=0)
    max_attempts: int = Field(default=6, ge=1, le=20)
    send_seed: bool = True
    send_temperature: bool = True  # some models refuse it
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105  # a field's name
    price: Price | None = None


class ModelSettings(BaseModel):
    """How the measured checkpoint is asked for texts.

    Attributes:
        backend: ``hf`` runs the checkpoint here; the others ask a server that has it loaded.
        batch_rows: conversations generated side by side.
        chunk: conversations made durable together.
        strip_reasoning: tags around what is cut from an answer before anything reads it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    backend: Literal["hf", "openai", "anthropic", "vllm", "gguf"] = "hf"
    batch_rows: int = Field(default=16, ge=1)
    chunk: int = Field(default=32, ge=1)
    strip_reasoning: tuple[str, str] | None = Field(default=("<think>", "</think>"), strict=False)
    endpoint: EndpointSettings | None = None

    @model_validator(mode="after")
    def _endpoint_fits(self) -> ModelSettings:
        if (self.endpoint is None) != (self.backend == "hf"):
            raise ValueError("an endpoint is needed by every backend but hf, which takes none")
        wanted = "anthropic" if self.backend == "anthropic" else "openai"
        if self.endpoint is not None and self.endpoint.api != wanted:
            raise ValueError(f"backend {self.backend} speaks the interface {wanted}")
        return self


class BudgetSettings(BaseModel):
    """What one measurement may cost; requests and dollars count resumed runs, minutes do not."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    max_requests: int = Field(default=200_000, ge=0)
    max_usd: float = Field(default=0.0, ge=0)
    max_minutes: float = Field(default=120.0, gt=0)
    on_exceed: Literal["stop"] = "stop"


class Budget:
    """Counts requests, dollars and minutes; refuses what would pass the limit, before it is spent.

    For several threads. A refusal is resumable: what was answered stays in the journal.
    """

    def __init__(self, settings: BudgetSettings) -> None:
        self.settings = settings
        self.requests = 0
        self.usd = 0.0
        self._deadline = time.monotonic() + 60 * settings.max_minutes
        self._lock = threading.Lock()

    def take(self, requests: int, usd: float = 0.0) -> None:
        """Reserves what is about to be sent.

        Raises:
            EnvironmentFailure: the budget does not bear it.
        """
        with self._lock:
            limits = self.settings
            if time.monotonic() > self._deadline:
                raise self._spent(f"{limits.max_minutes:g} minutes", "max_minutes")
            if self.requests + requests > limits.max_requests:
                raise self._spent(f"{limits.max_requests} requests", "max_requests")
            if usd and self.usd + usd > limits.max_usd:
                raise self._spent(f"{limits.max_usd:g} USD", "max_usd")
            self.requests += requests
            self.usd += usd

    def settle(self, reserved_usd: float, charged_usd: float) -> None:
        """Replaces a reservation by what was charged."""
        with self._lock:
            self.usd += charged_usd - reserved_usd

    def paid_before(self, requests: int, usd: float) -> None:
        """Counts what an earlier, interrupted run has paid."""
        with self._lock:
            self.requests += requests
            self.usd += usd

    def _spent(self, what: str, key: str) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"the budget of {what} does not bear the next request; "
            f"{self.requests} requests and {self.usd:.4f} USD are spent",
            where=f"params.yaml: measure.budget.{key}",
            fix="raise it or measure less, then run `dvc repro` again: finished answers are kept",
        )


def worst_tokens(texts: list[str]) -> int:
    """Most tokens that messages can be charged: no token is shorter than a byte."""
    return sum(len(text.encode("utf-8")) + _MESSAGE_TOKENS for text in texts)


def strip_reasoning(text: str, tags: tuple[str, str] | None) -> str:
    """``text`` without what stands between the tags; empty when a tag is never closed.

    A closing tag without an opening one ends reasoning that the template itself began.
    """
    if tags is None:
        return text
    opening, closing = tags
    head, opened, _ = text.partition(opening)
    if closing in text and (not opened or closing in head):
        text = text.split(closing, 1)[1]
    while opening in text:
        before, _, rest = text.partition(opening)
        _, closed, after = rest.partition(closing)
        if not closed:
            return ""
        text = before + after
    return text.lstrip()
