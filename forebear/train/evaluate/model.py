"""What a suite asks of a model that writes: a conversation in, a text out.

Light on purpose: suites, judges and their tests import it without torch. Answers by likelihood
are lm-eval's interface, not this one; see ``lm.py``.

Source: evaluation page, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length", "error"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        content: its text.
    """

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One conversation that waits for an answer, with how the answer is to be drawn.

    Attributes:
        messages: the turns so far; the last one is the user's.
        max_new_tokens: tokens after which the answer is cut and its finish reason is ``length``.
        temperature: 0 is greedy.
        seed: of the drawing; plays no part when greedy.
        stop: texts that end the answer and are cut from it.
    """

    messages: tuple[Message, ...]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer.

    Attributes:
        text: without the reasoning between the configured tags.
        finish_reason: ``error`` when no answer could be had; the text is then the reason.
        prompt_tokens: tokens of the prompt, as the backend counts them.
        completion_tokens: tokens of the answer, reasoning included.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


class ChatModel(Protocol):
    """Answers conversations; what was answered once is read from its journal."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What every key of this model's journal rests on."""
        ...

    def key(self, request: ChatRequest) -> str:
        """The journal's key of one request to this model."""
        ...

    def chat(self, requests: Sequence[ChatRequest]) -> list[Generation]:
        """One answer for each request, in the order asked."""
        ...
