"""Teachers behind an HTTP interface: OpenAI-compatible servers, and Anthropic's own.

Requests run side by side at a bounded rate and are tried again with growing pauses. Finished ones
are durable (:mod:`forebear.train.distill.responses`). Money is reserved before it is spent: a
request that could pass the budget is not sent. The key comes from the environment and goes into no
file, no message and no digest.

What an endpoint answers cannot be reproduced: its responses are inputs, recorded by digest with the
model's name, the declared date of access and the sampling parameters.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forebear.errors import ConfigError, EnvironmentFailure, ForebearError, RecordError
from forebear.formats import strictjson
from forebear.train.distill.clients import RequestFault, Send, open_client
from forebear.train.distill.responses import Response, ResponseFile

_LONGEST_PAUSE_S = 120.0


class BudgetParams(BaseModel):
    """What a teacher may cost in all, resumed runs included."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    max_tokens: int = Field(ge=1)
    max_cost: float | None = Field(default=None, gt=0)
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    prompt_price: float | None = Field(default=None, ge=0)  # per million tokens
    answer_price: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _has_prices(self) -> BudgetParams:
        if self.max_cost is not None and None in (self.prompt_price, self.answer_price):
            raise ValueError("max_cost needs prompt_price and answer_price, per million tokens")
        return self

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Price of these tokens; 0 without prices."""
        prompt, answer = self.prompt_price or 0.0, self.answer_price or 0.0
        return (prompt * prompt_tokens + answer * answer_tokens) / 1e6


class EndpointParams(BaseModel):
    """How an endpoint is reached, and how hard it is pressed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    api: Literal["openai", "anthropic"] = "openai"
    base_url: str = Field(pattern="^https?://[^@]+$")
    model: str = Field(min_length=1)
    accessed: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    api_key_env: str | None = Field(default=None, pattern="^[A-Z_][A-Z0-9_]*$")
    system: str | None = None
    top_p: float | None = Field(default=None, gt=0, le=1)
    send_seed: bool = True
    send_temperature: bool = True  # some models refuse it
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105
    concurrency: int = Field(default=4, ge=1, le=256)
    requests_per_minute: float = Field(default=60, gt=0)
    timeout_s: float = Field(default=120, gt=0)
    max_attempts: int = Field(default=6, ge=1, le=20)
    budget: BudgetParams


class Clock(Protocol):
    """Time, so that tests need not wait."""

    def now(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float) -> None:
        """Waits."""


class WallClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to an endpoint.

    Attributes:
        key: SHA-256 of everything that the answer may depend on; the credentials are not in it.
        body: what is sent.
    """

    key: str
    body: Mapping[str, Any]

    def worst(self, max_new_tokens: int) -> tuple[int, int]:
        """Most tokens that it can be charged: no token is shorter than a byte."""
        texts = [self.body.get("system") or "", *(m["content"] for m in self.body["messages"])]
        return sum(len(text.encode()) + 16 for text in texts), max_new_tokens


def make_request(
    params: EndpointParams, prompt: str, *, temperature: float, max_new_tokens: int,
    seed: int, sample: int,
) -> Request:  # fmt: skip
    """The request for sample number ``sample`` of ``prompt``."""
    messages = [{"role": "user", "content": prompt}]
    body: dict[str, Any] = {"model": params.model}
    if params.send_temperature:
        body["temperature"] = temperature
    if params.api == "anthropic":
        body["max_tokens"] = max_new_tokens
        if params.system:
            body["system"] = params.system
    else:
        body[params.token_field] = max_new_tokens
        if params.system:
            messages.insert(0, {"role": "system", "content": params.system})
        if params.send_seed:
            digest = hashlib.sha256(f"{seed}|{sample}|{prompt}".encode()).digest()
            body["seed"] = int.from_bytes(digest[:4], "big") >> 1
    if params.top_p is not None:
        body["top_p"] = params.top_p
    body["messages"] = messages
    identity = {"api": params.api, "base_url": params.base_url, "body": body, "sample": sample}
    return Request(hashlib.sha256(strictjson.dumps(identity)).hexdigest(), body)


def ask(
    params: EndpointParams,
    requests: Sequence[Request],
    kept: ResponseFile,
    *,
    max_new_tokens: int,
    clock: Clock | None = None,
    send: Send | None = None,
) -> list[Response]:
    """The response to each request, in order; only what ``kept`` lacks is sent.

    Args:
        params: of the endpoint.
        requests: what to ask; equal ones are sent once.
        kept: finished responses.
        max_new_tokens: bound of one answer, for the budget.
        clock: time; the machine's when left out.
        send: the client; made from ``params`` when left out.
    Raises:
        ConfigError: the key's variable is not set.
        RecordError: the budget is spent.
        EnvironmentFailure: the endpoint refuses, or fails too often in a row.
        MissingExtra: the client library is not installed.
    """
    missing = {r.key: r for r in requests if kept.get(r.key) is None}
    if missing:
        ledger = _Ledger(params.budget, [r for r in map(kept.get, {q.key for q in requests}) if r])
        sender = send or open_client(params, _secret(params))
        keys = frozenset(request.key for request in requests)
        asker = _Asker(params, sender, clock or WallClock(), ledger, (kept, keys, max_new_tokens))
        asker.run(list(missing.values()))
    found = [kept.get(request.key) for request in requests]
    return [response for response in found if response is not None]


def _secret(params: EndpointParams) -> str:
    if params.api_key_env is None:
        return "none"
    secret = os.environ.get(params.api_key_env, "").strip()
    if not secret:
        raise ConfigError(
            f"the environment has no {params.api_key_env}",
            where="params.yaml: distill.teacher.endpoint.api_key_env",
            fix=f"export {params.api_key_env}=… before `dvc repro`; it is read there and nowhere "
            "else, and written nowhere",
        )
    return secret


class _Stopped(Exception):  # noqa: N818  # not a failure: another request has failed
    """A request was not sent any more."""


class _Ledger:
    """Tokens spent and reserved, against the budget; for several threads."""

    def __init__(self, budget: BudgetParams, paid: Sequence[Response]) -> None:
        self.budget, self._lock = budget, threading.Lock()
        self.prompt = sum(response.prompt_tokens for response in paid)
        self.answer = sum(response.answer_tokens for response in paid)

    def reserve(self, worst: tuple[int, int]) -> bool:
        """Takes ``worst`` from the budget; False when it does not fit."""
        limit = self.budget.max_cost
        with self._lock:
            prompt, answer = self.prompt + worst[0], self.answer + worst[1]
            fits = prompt + answer <= self.budget.max_tokens and (
                limit is None or self.budget.cost(prompt, answer) <= limit
            )
            if fits:
                self.prompt, self.answer = prompt, answer
        return fits

    def settle(self, worst: tuple[int, int], charged: tuple[int, int]) -> None:
        """Replaces a reservation by what was charged."""
        with self._lock:
            self.prompt += charged[0] - worst[0]
            self.answer += charged[1] - worst[1]


class _Asker:
    """Sends requests side by side."""

    def __init__(
        self, params: EndpointParams, send: Send, clock: Clock, ledger: _Ledger,
        keeping: tuple[ResponseFile, frozenset[str], int],
    ) -> None:  # fmt: skip
        self._params, self._send, self._clock = params, send, clock
        self._ledger, (self._kept, self._keys, self._bound) = ledger, keeping
        self._slot_lock, self._next_slot = threading.Lock(), 0.0
        self._stop = threading.Event()

    def run(self, missing: list[Request]) -> None:
        """Sends all of ``missing``, or stops cleanly: what is under way is finished and kept."""
        todo, running = list(reversed(missing)), dict[Future[Response], tuple[int, int]]()
        fault: BaseException | None = None
        with ThreadPoolExecutor(self._params.concurrency) as pool:
            try:
                while running or (todo and fault is None):
                    while todo and fault is None and len(running) < self._params.concurrency:
                        worst = self._worst(todo[-1])
                        if not self._ledger.reserve(worst):
                            break
                        running[pool.submit(self._finish, todo.pop())] = worst
                    if not running:
                        break
                    fault = self._collect(running, fault)
            except BaseException:
                self._stop.set()
                raise
        if fault is not None:
            raise fault
        if todo:
            raise self._spent()

    def _collect(
        self, running: dict[Future[Response], tuple[int, int]], fault: BaseException | None
    ) -> BaseException | None:
        """Settles what is finished; the first fault, ``fault`` when there was one before."""
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            worst = running.pop(future)
            error = future.exception()
            if error is None:
                response = future.result()
                self._ledger.settle(worst, (response.prompt_tokens, response.answer_tokens))
            elif not isinstance(error, _Stopped):
                self._stop.set()
                fault = fault or error
        return fault

    def _finish(self, request: Request) -> Response:
        """The response to ``request``, on disk; raises when every attempt failed.

        An attempt that may be charged though it brought nothing costs its whole bound: only while
        the budget bears another one is it made.
        """
        last: RequestFault | None = None
        for attempt in range(self._params.max_attempts):
            if last is not None:
                self._clock.sleep(_pause_s(request.key, attempt - 1, last.retry_after_s))
            self._wait_for_slot()
            if self._stop.is_set():
                raise _Stopped
            if last is not None and last.charged and not self._ledger.reserve(self._worst(request)):
                raise self._spent()
            try:
                return self._keep(request, self._send(request.body))
            except RequestFault as fault:
                last = fault
                if not fault.passing:
                    raise self._refused(fault) from None
        raise self._failed(last)

    def _worst(self, request: Request) -> tuple[int, int]:
        return request.worst(self._bound)

    def _keep(self, request: Request, response: Response) -> Response:
        if not response.counted:
            prompt, answer = self._worst(request)
            response = replace(response, prompt_tokens=prompt, answer_tokens=answer)
        self._kept.put(request.key, response)
        return response

    def _finished(self) -> int:
        return sum(self._kept.get(key) is not None for key in self._keys)

    def _wait_for_slot(self) -> None:
        with self._slot_lock:
            now = self._clock.now()
            slot = max(now, self._next_slot)
            self._next_slot = slot + 60.0 / self._params.requests_per_minute
        if slot > now:
            self._clock.sleep(slot - now)

    def _spent(self) -> RecordError:
        budget, ledger = self._params.budget, self._ledger
        cost = budget.cost(ledger.prompt, ledger.answer)
        priced = f", {cost:.4f} {budget.currency}" if budget.max_cost is not None else ""
        return RecordError(
            f"the budget is spent: {ledger.prompt + ledger.answer} of {budget.max_tokens} tokens"
            f"{priced}; the next request could pass it. {self._finished()} of "
            f"{len(self._keys)} responses are finished and kept",
            where="params.yaml: distill.teacher.endpoint.budget",
            fix=f"raise the budget or ask less (distill.max_prompts); kept in {self._kept.file}",
        )

    def _refused(self, fault: RequestFault) -> ForebearError:
        return EnvironmentFailure(
            f"the endpoint refuses: {fault}",
            where=self._params.base_url,
            fix="check model name, key and sampling parameters; "
            f"{self._finished()} finished responses are kept",
        )

    def _failed(self, last: RequestFault | None) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"no answer after {self._params.max_attempts} attempts: {last or 'stopped'}",
            where=self._params.base_url,
            fix="run `dvc repro` again later; "
            f"{self._finished()} finished responses are kept and are not paid for again",
        )


def _pause_s(key: str, attempt: int, retry_after_s: float | None) -> float:
    """Seconds before the next attempt: what the server asks for, else 1, 2, 4 … with a spread.

    The spread comes from the request, not from chance: equal runs pause equally.
    """
    if retry_after_s is not None:
        return min(_LONGEST_PAUSE_S, max(0.0, retry_after_s))
    spread = 0.5 + int(key[:4], 16) / 0xFFFF
    return min(_LONGEST_PAUSE_S, 2.0**attempt * spread)
