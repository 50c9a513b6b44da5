"""The vendors' client libraries, behind one function: a request body in, a response or a fault out.

Imported when an endpoint is used and not before. The libraries' own retries are off: pauses,
budget and durability are :mod:`forebear.train.distill.endpoint`'s. A fault never carries the key.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from forebear.errors import MissingExtra
from forebear.train.distill.responses import Response

Send = Callable[[Mapping[str, Any]], Response]
Read = Callable[[Any], Response]
_PASSING = (408, 409, 425, 429)
_SAMPLING = ("temperature", "top_p")


class RequestFault(Exception):  # noqa: N818  # part of the work, not a failure of it
    """A request that brought no response.

    Args:
        what: short, without secrets.
        passing: worth another attempt.
        charged: the server may have answered, and may charge for it.
        retry_after_s: the pause that the server asks for.
    """

    def __init__(
        self, what: str, *, passing: bool, charged: bool = False,
        retry_after_s: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(what)
        self.passing = passing
        self.charged = charged
        self.retry_after_s = retry_after_s


class Endpoint(Protocol):
    """What a client needs to know."""

    @property
    def api(self) -> str:
        """``openai`` or ``anthropic``."""

    @property
    def base_url(self) -> str:
        """Where it listens."""

    @property
    def timeout_s(self) -> float:
        """Longest silence."""


def open_client(endpoint: Endpoint, secret: str, *, read: Read | None = None) -> Send:
    """A function that sends one request body.

    Args:
        endpoint: where, and which interface.
        secret: the key.
        read: takes the place of :func:`read_openai`, to keep more of what the library returns.
    Raises:
        MissingExtra: the vendor's library is not installed.
    """
    if endpoint.api == "anthropic":
        return _open_anthropic(endpoint, secret)
    return _open_openai(endpoint, secret, read or read_openai)


def _open_openai(endpoint: Endpoint, secret: str, read: Read) -> Send:
    try:
        import openai
    except ImportError:
        raise MissingExtra("teachers", "a teacher behind an OpenAI-compatible endpoint") from None
    client = openai.OpenAI(
        api_key=secret, base_url=endpoint.base_url, timeout=endpoint.timeout_s, max_retries=0
    )

    def send(body: Mapping[str, Any]) -> Response:
        return _read(lambda: client.chat.completions.create(**body), read, openai, secret)

    return send


def _open_anthropic(endpoint: Endpoint, secret: str) -> Send:
    try:
        anthropic: Any = importlib.import_module("anthropic")
    except ImportError:
        raise MissingExtra("teachers", "a teacher of Anthropic's") from None
    client = anthropic.Anthropic(
        api_key=secret, base_url=endpoint.base_url, timeout=endpoint.timeout_s, max_retries=0
    )

    def send(body: Mapping[str, Any]) -> Response:
        # sampling parameters are no keywords of this library any more; the service judges them
        known = {key: value for key, value in body.items() if key not in _SAMPLING}
        further = {key: value for key, value in body.items() if key in _SAMPLING}
        reading = (_of_anthropic, anthropic, secret)
        return _read(lambda: client.messages.create(**known, extra_body=further), *reading)

    return send


def _read(call: Callable[[], Any], shape: Read, lib: Any, key: str) -> Response:
    """Calls; whatever goes wrong becomes a :class:`RequestFault`. Both libraries name alike."""
    try:
        value = call()
    except lib.APIStatusError as error:
        status = int(error.status_code)
        passing = status in _PASSING or status >= 500
        pause = _seconds(error.response.headers.get("retry-after"))
        what = f"HTTP {status}: {_short(error.message, key)}"
        raise RequestFault(what, passing=passing, retry_after_s=pause) from None
    except lib.APITimeoutError:
        raise RequestFault("timed out", passing=True, charged=True) from None
    except lib.APIConnectionError as error:
        cause = type(error.__cause__).__name__
        what = f"the connection failed ({cause})"
        raise RequestFault(what, passing=True, charged=cause != "ConnectError") from None
    except (lib.APIError, ValueError) as error:  # a body that is no JSON
        what = f"malformed response ({type(error).__name__})"
        raise RequestFault(what, passing=True, charged=True) from None
    except TypeError as error:  # the library knows no such parameter
        raise RequestFault(f"not sent: {_short(str(error), key)}", passing=False) from None
    try:
        return shape(value)
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # JSON of another shape
        what = f"malformed response ({type(error).__name__})"
        raise RequestFault(what, passing=True, charged=True) from None


def read_openai(value: Any) -> Response:
    """The response that a chat completion of the ``openai`` library holds."""
    choice, usage = value.choices[0], value.usage
    text = choice.message.content or ""
    return _response(
        text, choice.finish_reason == "stop", value.model,
        usage and usage.prompt_tokens, usage and usage.completion_tokens,
    )  # fmt: skip


def _of_anthropic(value: Any) -> Response:
    text = "".join(block.text for block in value.content if block.type == "text")
    finished = value.stop_reason in ("end_turn", "stop_sequence")
    usage = value.usage
    return _response(text, finished, value.model, usage.input_tokens, usage.output_tokens)


def _response(text: Any, finished: bool, model: Any, prompt: Any, answer: Any) -> Response:
    if not isinstance(text, str):
        raise TypeError("the answer is no text")
    text.encode()  # a lone surrogate cannot be kept
    counted = all(type(count) is int and count >= 0 for count in (prompt, answer))
    return Response(
        text=text,
        finished=finished,
        model=str(model or "not reported")[:200],
        prompt_tokens=prompt if counted else 0,
        answer_tokens=answer if counted else 0,
        counted=counted,
    )


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None  # a date, or nothing: our own pauses then
    return seconds if math.isfinite(seconds) else None


def _short(text: str, key: str) -> str:
    clean = text.replace(key, "…") if len(key) > 4 else text
    return " ".join(clean.split())[:200]
