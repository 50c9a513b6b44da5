"""A small OpenAI-compatible server on loopback, with faults on order and a count of requests.

Speaks Anthropic's messages, too.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[Mapping[str, Any]], str]


class TeacherServer(ThreadingHTTPServer):
    """Answers chat requests; ``faults`` are served first, one per request.

    A fault is one of ``429`` (with ``Retry-After: 7``), ``500``, ``401``, ``slow``, ``cut``,
    ``malformed``, ``shape``.
    """

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.faults: list[str] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.seen_headers: list[Mapping[str, str]] = []
        self.with_usage = True
        self.model_id: str | None = None  # returned instead of the model's name and -0001
        self.first_token: Callable[[Mapping[str, Any]], Mapping[str, float] | None] = (
            lambda _body: None  # log-probabilities of the answer's first token
        )
        self.on_request: Callable[[int], None] = lambda _count: None
        self.lock, self.released = threading.Lock(), threading.Event()
        self.running = self.most_at_once = 0

    @property
    def url(self) -> str:
        """Base URL for a client."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: TeacherServer

    def do_POST(self) -> None:  # the name that http.server calls
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        with server.lock:
            server.running += 1
            server.most_at_once = max(server.most_at_once, server.running)
            server.asked[prompt] += 1
            server.seen_headers.append(
                {name.lower(): value for name, value in self.headers.items()}
            )
            fault = server.faults.pop(0) if server.faults else ""
            count = sum(server.asked.values())
        try:
            server.on_request(count)
            self._serve(body, prompt, fault)
        finally:
            with server.lock:
                server.running -= 1

    def _serve(self, body: Mapping[str, Any], prompt: str, fault: str) -> None:
        if fault.isdigit():
            self._send(int(fault), b'{"error": {"message": "on order"}}')
        elif fault == "slow":
            self.server.released.wait(20)
        elif fault == "cut":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "malformed":
            self._send(200, b'{"choices": [{"mess')
        elif fault == "shape":
            self._send(200, b'{"choices": []}')
        else:
            with self.server.lock:
                self.server.answered[prompt] += 1
            self._send(200, json.dumps(self._completion(body, prompt)).encode())

    def _completion(self, body: Mapping[str, Any], prompt: str) -> dict[str, Any]:
        text = self.server.answer(body)
        if self.path.endswith("/messages"):
            return {
                "id": "m1",
                "type": "message",
                "role": "assistant",
                "model": self._model_id(body),
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 5, "output_tokens": len(text.split())},
            }
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        return {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": self._model_id(body),
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                    **self._logprobs(body),
                }
            ],
            **({"usage": {**usage, "total_tokens": sum(usage.values())}}
               if self.server.with_usage else {}),
        }  # fmt: skip

    def _model_id(self, body: Mapping[str, Any]) -> str:
        return self.server.model_id or f"{body['model']}-0001"

    def _logprobs(self, body: Mapping[str, Any]) -> dict[str, Any]:
        tokens = self.server.first_token(body) if body.get("logprobs") else None
        if tokens is None:
            return {}
        ranked = [{"token": t, "logprob": p, "bytes": None} for t, p in tokens.items()]
        first = {**ranked[0], "top_logprobs": ranked}
        return {"logprobs": {"content": [first], "refusal": None}}

    def _send(self, status: int, payload: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def teacher_server(answer: Answer) -> Iterator[TeacherServer]:
    """A running server, closed at the end."""
    server = TeacherServer(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class FakeClock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.time, self.slept, self._lock = 0.0, list[float](), threading.Lock()

    def now(self) -> float:
        """Seconds slept so far."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Passes at once."""
        with self._lock:
            self.slept.append(seconds)
            self.time += seconds
