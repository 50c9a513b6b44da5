"""A ChatModel as lm-eval wants one: lm-eval poses the question and scores, the ChatModel answers.

Conversations reach :meth:`ChatLM.generate_until` as JSON, so that one task file serves a checkpoint
loaded here and an endpoint alike. Likelihoods are refused: chat interfaces do not give them.

Imports lm-eval at the top, because it is a subclass; import it inside functions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from forebear.errors import EnvironmentFailure
from forebear.train.evaluate.model import ChatModel, ChatRequest, Generation, Message

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class ChatLM(LM):  # type: ignore[misc]  # lm-eval is untyped
    """lm-eval's interface over a ChatModel.

    Args:
        model: answers the conversations.
        seed: of what is drawn; the n-th answer to one question gets ``seed + n``.
    """

    def __init__(self, model: ChatModel, *, seed: int) -> None:
        super().__init__()
        self.model = model
        self.seed = seed
        self._answered: dict[str, list[tuple[str, Generation]]] = {}

    def answers(self, arguments: Sequence[Any]) -> list[tuple[str, Generation]]:
        """Journal key and answer of each repetition of one request, in order."""
        return self._answered[_name(arguments)]

    def generate_until(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[str]:  # lm-eval's signature
        """The text generated for each request; empty when it ended in an error."""
        seen: Counter[str] = Counter()
        asked = []
        for request in requests:
            name = _name(request.args)
            asked.append((name, self._request(request.args, seen[name])))
            seen[name] += 1
            self._answered.pop(name, None)
        answers = self.model.chat([request for _, request in asked])
        for (name, request), answer in zip(asked, answers, strict=True):
            self._answered.setdefault(name, []).append((self.model.key(request), answer))
        return ["" if answer.finish_reason == "error" else answer.text for answer in answers]

    def _request(self, arguments: Sequence[Any], repetition: int) -> ChatRequest:
        context, settings = arguments
        temperature = float(settings.get("temperature", 0.0)) if settings.get("do_sample") else 0.0
        until = settings.get("until") or ()
        return ChatRequest(
            messages=_messages(str(context)),
            max_new_tokens=int(settings["max_gen_toks"]),
            temperature=temperature,
            seed=self.seed + repetition,
            stop=tuple(until) if not isinstance(until, str) else (until,),
        )

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refused."""
        raise EnvironmentFailure(f"{len(requests)} likelihoods were asked of a chat interface")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refused."""
        raise EnvironmentFailure(f"{len(requests)} likelihoods were asked of a chat interface")

    @property
    def tokenizer_name(self) -> str:
        """Name that lm-eval fingerprints its request cache with; we do not use that cache."""
        return "chat"

    def chat_template(self, chat_template: bool | str = False) -> str | None:  # lm-eval's signature
        """No template: the ChatModel applies its own."""
        return None

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # lm-eval's signature
    ) -> str:
        """The conversation as JSON, to be read back by :meth:`generate_until`."""
        return json.dumps(chat_history, ensure_ascii=False)


def _messages(context: str) -> tuple[Message, ...]:
    history: list[Mapping[str, str]] = json.loads(context)
    return tuple(Message(str(turn["role"]), str(turn["content"])) for turn in history)


def prompt_of(arguments: Sequence[Any]) -> str:
    """The words of a request, as a reader wants to see them."""
    return "\n\n".join(message.content for message in _messages(str(arguments[0])))


def _name(arguments: Sequence[Any]) -> str:
    return json.dumps(list(arguments), sort_keys=True, ensure_ascii=False)
