"""A model or judge behind an HTTP interface: asked side by side, paid once, never by surprise.

Every finished answer is in the journal before the next thing happens; a request that the budget
does not bear is not sent; a server that changes its model under way stops the measurement. A
request that fails for good is an ``error`` answer and is not kept, so a later run asks again.

Source: evaluation page, sections 3 and 5.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.train.distill.clients import RequestFault, Send, open_client, read_openai
from forebear.train.distill.endpoint import Clock, WallClock
from forebear.train.distill.responses import Response
from forebear.train.evaluate.backends import (
    Budget,
    EndpointSettings,
    strip_reasoning,
    worst_tokens,
)
from forebear.train.evaluate.journal import Journal, request_key
from forebear.train.evaluate.model import ChatRequest, Generation

_LONGEST_PAUSE_S = 60.0
_LONGEST_ASKED_S = 300.0
_OURS_TO_MEND = ("HTTP 401", "HTTP 403", "HTTP 404")


def request_record(request: ChatRequest) -> dict[str, Any]:
    """``request`` as it stands in a journal's key."""
    return {
        "kind": "chat",
        "messages": [[message.role, message.content] for message in request.messages],
        "max_new_tokens": request.max_new_tokens,
        "temperature": float(request.temperature),
        "seed": request.seed,
        "stop": list(request.stop),
    }


@dataclass(frozen=True, slots=True)
class _WithFirstToken(Response):
    """A response that tells how likely other first tokens were."""

    first: Mapping[str, float] | None = None


def _read_first_token(value: Any) -> Response:
    told = value.choices[0].logprobs
    content = told.content if told is not None else None
    first = {one.token: one.logprob for one in content[0].top_logprobs} if content else None
    return _WithFirstToken(**asdict(read_openai(value)), first=first)


class EndpointChat:
    """A ChatModel behind an endpoint.

    Args:
        settings: where it is and how hard it may be pressed.
        journal: keeps finished answers.
        budget: shared by all that one measurement asks.
        reasoning: tags of what is cut from answers.
        further: joins the identity: what else an answer depends on.
        top_logprobs: ask for the first token's likeliest alternatives (OpenAI's interface only).
        clock: time, so that tests need not wait.
        send: the client; made from ``settings`` when left out.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        journal: Journal,
        *,
        budget: Budget,
        reasoning: tuple[str, str] | None = None,
        further: Mapping[str, Any] | None = None,
        top_logprobs: int | None = None,
        clock: Clock | None = None,
        send: Send | None = None,
    ) -> None:
        if top_logprobs is not None and settings.api != "openai":
            raise ConfigError("only OpenAI's interface gives log-probabilities", settings.base_url)
        self.identity: Mapping[str, Any] = {
            "api": settings.api,
            "base_url": settings.base_url,
            "model": settings.model,
            "snapshot": settings.snapshot,
            **({} if top_logprobs is None else {"top_logprobs": top_logprobs}),
            **(further or {}),
        }
        self._top_logprobs = top_logprobs
        self._settings, self._journal, self._budget = settings, journal, budget
        self._reasoning, self._clock, self._send = reasoning, clock or WallClock(), send
        self._owner = request_key(self.identity, {"kind": "owner"})[:16]
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._slot_lock, self._next_slot = threading.Lock(), 0.0
        self.served_model: str | None = settings.snapshot
        self._resume()

    def key(self, request: ChatRequest) -> str:
        """The journal's key of one request to this model."""
        return request_key(self.identity, request_record(request))

    def chat(self, requests: Sequence[ChatRequest]) -> list[Generation]:
        """One answer for each request; only what the journal lacks is sent.

        Raises:
            EnvironmentFailure: the budget is spent, the network or the key is at fault, or the
                server has changed its model.
            MissingExtra: the client library is not installed.
        """
        keys = [self.key(request) for request in requests]
        missing = {
            key: request
            for key, request in zip(keys, requests, strict=True)
            if key not in self._journal.answers
        }
        failed = self._ask_all(missing) if missing else {}
        return [self._generation(key, failed) for key in keys]

    def first_token(self, request: ChatRequest) -> Mapping[str, float] | None:
        """Log-probabilities of an answer's first token by text; ``None`` when none were given.

        The request must have been answered before.
        """
        answer = self._journal.answers.get(self.key(request))
        first: Mapping[str, float] | None = answer.get("first") if answer else None
        return first

    def _resume(self) -> None:
        """Takes over what earlier runs have paid, and which model answered them."""
        paid = [
            answer
            for answer in self._journal.answers.values()
            if isinstance(answer, dict) and answer.get("owner") == self._owner
        ]
        for answer in paid:
            self._require_same(str(answer["model"]))
        usd = sum(self._usd(answer["in"], answer["out"]) for answer in paid)
        self._budget.paid_before(len(paid), usd)

    def _usd(self, prompt_tokens: int, answer_tokens: int) -> float:
        price = self._settings.price
        return 0.0 if price is None else price.of(prompt_tokens, answer_tokens)

    def _require_same(self, model: str) -> None:
        with self._lock:
            before, self.served_model = self.served_model, self.served_model or model
        if before is not None and before != model:
            raise EnvironmentFailure(
                f"the endpoint answered as '{before}' and now answers as '{model}'",
                where=self._settings.base_url,
                fix="finish with the model that began, or name the new one in the params and "
                "measure anew; the journal keeps what was answered",
            )

    def _generation(self, key: str, failed: Mapping[str, str]) -> Generation:
        answer = self._journal.answers.get(key)
        if answer is None:
            return Generation(failed[key], "error", 0, 0)
        return Generation(
            strip_reasoning(answer["text"], self._reasoning),
            "stop" if answer["finished"] else "length",
            answer["in"],
            answer["out"],
        )

    def _ask_all(self, missing: Mapping[str, ChatRequest]) -> dict[str, str]:
        """Sends what is missing; the reasons of those that failed for good, by key."""
        if self._send is None:
            read = None if self._top_logprobs is None else _read_first_token
            self._send = open_client(self._settings, self._secret(), read=read)
        todo = list(missing.items())[::-1]
        running: dict[Future[str], str] = {}
        failed: dict[str, str] = {}
        fault: BaseException | None = None
        self._stop.clear()
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            try:
                while running or (todo and fault is None):
                    while todo and fault is None and len(running) < self._settings.concurrency:
                        key, request = todo.pop()
                        running[pool.submit(self._finish, key, request)] = key
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        key, error = running.pop(future), future.exception()
                        if error is None and (reason := future.result()):
                            failed[key] = reason
                        elif error is not None:
                            # what is under way is finished and kept, nothing more is sent
                            self._stop.set()
                            fault = fault or error
            except BaseException:
                self._stop.set()
                raise
        if fault is not None:
            raise fault
        return failed

    def _finish(self, key: str, request: ChatRequest) -> str:
        """Brings one answer into the journal; why not, when it failed for good."""
        send, last = self._send, RequestFault("not sent", passing=True)
        if send is None:
            raise AssertionError("opened before")
        body = self._body(request)
        worst = worst_tokens([message.content for message in request.messages])
        most = self._usd(worst, request.max_new_tokens)
        for attempt in range(self._settings.max_attempts):
            if attempt:
                self._clock.sleep(_pause_s(key, attempt, last.retry_after_s))
            self._wait_for_slot()
            if self._stop.is_set():
                return "stopped"
            self._budget.take(1, most)
            try:
                response = send(body)
            except RequestFault as fault:
                last = fault
                if not fault.charged:
                    self._budget.settle(most, 0.0)
                if not fault.passing:
                    break
                continue
            self._keep(key, response, (worst, request.max_new_tokens), most)
            return ""
        return self._given_up(last)

    def _given_up(self, fault: RequestFault) -> str:
        """The reason of an item's error; raises when every other item would end the same way."""
        reason = str(fault)
        if reason.startswith(_OURS_TO_MEND) or "connection failed" in reason:
            raise EnvironmentFailure(
                f"the endpoint does not answer: {reason}",
                where=self._settings.base_url,
                fix="check address, model name and key, then run `dvc repro` again; finished "
                "answers are kept and are not paid for again",
            )
        return reason

    def _keep(self, key: str, response: Response, worst: tuple[int, int], reserved: float) -> None:
        counted = (response.prompt_tokens, response.answer_tokens) if response.counted else worst
        self._budget.settle(reserved, self._usd(*counted))
        self._require_same(response.model)
        answer = {
            "owner": self._owner,
            "text": response.text,
            "finished": response.finished,
            "model": response.model,
            "in": counted[0],
            "out": counted[1],
        }
        if isinstance(response, _WithFirstToken):
            answer["first"] = response.first
        with self._lock:
            self._journal.append([key], [answer])

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        settings = self._settings
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        body: dict[str, Any] = {"model": settings.model}
        if settings.send_temperature:
            body["temperature"] = request.temperature
        if settings.api == "anthropic":
            system = [m["content"] for m in messages if m["role"] == "system"]
            messages = [m for m in messages if m["role"] != "system"]
            body["max_tokens"] = request.max_new_tokens
            if system:
                body["system"] = "\n\n".join(system)
            if request.stop:
                body["stop_sequences"] = list(request.stop)
        else:
            body[settings.token_field] = request.max_new_tokens
            if settings.send_seed:
                body["seed"] = request.seed
            if request.stop:
                body["stop"] = list(request.stop)
            if self._top_logprobs is not None:
                body |= {"logprobs": True, "top_logprobs": self._top_logprobs}
        return {**body, "messages": messages}

    def _secret(self) -> str:
        name = self._settings.api_key_env
        if name is None:
            return "none"
        secret = os.environ.get(name, "").strip()
        if not secret:
            raise ConfigError(
                f"the environment has no {name}",
                where="params.yaml: measure, api_key_env",
                fix=f"export {name}=… before `dvc repro`; it is written nowhere",
            )
        return secret

    def _wait_for_slot(self) -> None:
        with self._slot_lock:
            now = self._clock.now()
            slot = max(now, self._next_slot)
            self._next_slot = slot + 60.0 / self._settings.requests_per_minute
        if slot > now:
            self._clock.sleep(slot - now)


def _pause_s(key: str, attempt: int, retry_after_s: float | None) -> float:
    """Seconds before attempt ``attempt``: full jitter, and no less than the server asks for.

    The draw comes from the request's key, so that equal runs pause equally.
    """
    draw = int(hashlib.sha256(f"{key}|{attempt}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    pause = draw * min(_LONGEST_PAUSE_S, 2.0**attempt)
    return max(pause, min(_LONGEST_ASKED_S, retry_after_s or 0.0))
