"""Generation on a checkpoint that is loaded here: batched, left-padded, durable chunk by chunk.

Written for the Llama-like decoders that the pipeline trains: the prompts' cache is read once, one
token a step is drawn for every row. Greedy answers and drawn ones depend on the model, the request
and the composition of the batch, and the batch on the requests alone.

Imports torch inside functions.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebear.errors import EnvironmentFailure
from forebear.train.evaluate.backends import Budget, strip_reasoning
from forebear.train.evaluate.endpoint import request_record
from forebear.train.evaluate.journal import Journal, request_key
from forebear.train.evaluate.model import ChatRequest, FinishReason, Generation

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PROGRESS_S = 5.0
_STOP_WINDOW_TOKENS = 24  # a stop text is looked for at the end of an answer
_NOT_FINISHED = -1

Work = tuple[str, ChatRequest, list[int]]


class HfChat:
    """A ChatModel on a loaded checkpoint.

    Args:
        model: in evaluation mode.
        tokenizer: with the chat template.
        journal: keeps finished chunks.
        identity: of model and decoding environment; joins every key.
        chunk: requests made durable together.
        batch_rows: requests generated side by side.
        templated: whether conversations go through the chat template; else their texts are joined.
        reasoning: tags of what is cut from answers.
        budget: asked before each chunk.
        on_chunk: called whenever a chunk has become durable.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        journal: Journal,
        *,
        identity: Mapping[str, Any],
        chunk: int,
        batch_rows: int,
        templated: bool = True,
        reasoning: tuple[str, str] | None = None,
        budget: Budget | None = None,
        on_chunk: Callable[[], None] = lambda: None,
    ) -> None:
        # how answers are batched moves their last bits, so it names them, too
        self.identity: Mapping[str, Any] = {
            **identity, "chunk": chunk, "batch_rows": batch_rows, "templated": templated,
        }  # fmt: skip
        self._model, self._tokenizer, self._journal = model, tokenizer, journal
        self._chunk, self._batch_rows, self._templated = chunk, batch_rows, templated
        self._reasoning, self._budget, self._on_chunk = reasoning, budget, on_chunk
        self._max_length = int(getattr(model.config, "max_position_embeddings", 2048))
        self._ends = _end_ids(model, tokenizer)

    def key(self, request: ChatRequest) -> str:
        """The journal's key of one request to this model."""
        return request_key(self.identity, request_record(request))

    def chat(self, requests: Sequence[ChatRequest]) -> list[Generation]:
        """One answer for each request, in the order asked.

        Chunks are cut from the requests in the order asked; one that lacks an answer is generated
        again whole, because the composition of a batch moves the last bits of its results.

        Raises:
            EnvironmentFailure: the budget is spent, or the model's output is not finite.
        """
        keys = [self.key(request) for request in requests]
        unique = dict(zip(keys, requests, strict=True))
        names = list(unique)
        chunks = [names[start : start + self._chunk] for start in range(0, len(names), self._chunk)]
        known = self._journal.answers
        missing = [chunk for chunk in chunks if any(key not in known for key in chunk)]
        started = shown = time.monotonic()
        for done, chunk in enumerate(missing, start=1):
            if self._budget is not None:
                self._budget.take(len(chunk))
            answers = self._generate({key: unique[key] for key in chunk})
            self._journal.append(chunk, [answers[key] for key in chunk])
            self._on_chunk()
            now = time.monotonic()
            if now - shown >= _PROGRESS_S or (done == len(missing) and now - started > _PROGRESS_S):
                shown = now
                left_s = (now - started) / done * (len(missing) - done)
                sys.stderr.write(
                    f"measure: texts: chunk {done} of {len(missing)}, {left_s:.0f} s left\n"
                )
        return [self._as_generation(known[key]) for key in keys]

    def _as_generation(self, answer: Mapping[str, Any]) -> Generation:
        text = strip_reasoning(answer["text"], self._reasoning)
        ended: FinishReason = "stop" if answer["finished"] else "length"
        return Generation(text, ended, answer["in"], answer["out"])

    def _generate(self, chunk: Mapping[str, ChatRequest]) -> dict[str, dict[str, Any]]:
        """The answers of one chunk, by key; requests of like settings and length share a batch."""
        encoded = [(key, request, self._encode(request)) for key, request in chunk.items()]
        groups: dict[tuple[Any, ...], list[Work]] = {}
        for work in encoded:
            request = work[1]
            setting = (request.max_new_tokens, float(request.temperature), request.stop)
            groups.setdefault(setting, []).append(work)
        answers: dict[str, dict[str, Any]] = {}
        for setting in sorted(groups):
            ordered = sorted(groups[setting], key=lambda work: (len(work[2]), work[0]))
            for batch in _batches(ordered, self._batch_rows):
                for (key, request, prompt), drawn in zip(batch, self._draw(batch), strict=True):
                    answers[key] = self._answer(request, len(prompt), drawn)
        return answers

    def _encode(self, request: ChatRequest) -> list[int]:
        """Token ids of the prompt; its beginning is cut when the answer would not fit behind it."""
        if self._templated:
            history = [{"role": m.role, "content": m.content} for m in request.messages]
            text = self._tokenizer.apply_chat_template(
                history, add_generation_prompt=True, tokenize=False
            )
        else:
            text = "\n\n".join(message.content for message in request.messages)
        ids: list[int] = self._tokenizer(text, add_special_tokens=not self._templated)["input_ids"]
        room = self._max_length - request.max_new_tokens
        if room < 1:
            raise EnvironmentFailure(
                f"{request.max_new_tokens} new tokens do not fit into {self._max_length} positions",
                where="params.yaml: measure.tasks, max_tokens",
                fix="ask for fewer",
            )
        return ids[-room:]

    def _answer(self, request: ChatRequest, n_prompt: int, drawn: Sequence[int]) -> dict[str, Any]:
        ended = bool(drawn) and drawn[-1] in self._ends
        text = self._decode(drawn[:-1] if ended else drawn)
        cut = _first_stop(text, request.stop)
        return {
            "text": text if cut is None else text[:cut],
            "finished": ended or cut is not None,
            "in": n_prompt,
            "out": len(drawn),
        }

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _draw(self, batch: Sequence[Work]) -> list[list[int]]:
        """Token ids of each row's answer, its end token included when it came."""
        import torch

        request, rows = batch[0][1], len(batch)
        generators = [_generator(work) for work in batch] if request.temperature else []
        stopped = torch.zeros(rows, dtype=torch.bool)
        ends = torch.tensor(sorted(self._ends))
        drawn: list[Tensor] = []
        with torch.inference_mode():
            steps = _Steps(self._model, [work[2] for work in batch])
            while True:
                token_B = _choose(steps.logits_BV, request.temperature, generators)
                drawn.append(token_B.masked_fill(stopped, _NOT_FINISHED))
                stopped = stopped | torch.isin(token_B, ends)
                if request.stop:
                    stopped = stopped | self._has_stop(drawn, request.stop, stopped)
                if len(drawn) == request.max_new_tokens or bool(stopped.all()):
                    break
                steps.take(token_B)
        rows_BT: list[list[int]] = torch.stack(drawn, dim=1).tolist()
        return [[token for token in row if token != _NOT_FINISHED] for row in rows_BT]

    def _has_stop(self, drawn: Sequence[Tensor], stop: Sequence[str], stopped: Tensor) -> Tensor:
        """Which rows end in a stop text, shape [B]; rows that have ended are not looked at."""
        import torch

        tail_BT = torch.stack(list(drawn[-_STOP_WINDOW_TOKENS:]), dim=1).tolist()
        found = [
            not ended
            and _first_stop(self._decode([token for token in row if token >= 0]), stop) is not None
            for row, ended in zip(tail_BT, stopped.tolist(), strict=True)
        ]
        return torch.tensor(found)


class _Steps:
    """One batch on its way: reads the prompts, then one token a row and step."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        import torch

        self._forward: Any = model  # transformers types the call too narrowly
        width = max(len(ids) for ids in prompts)
        ids_BT = torch.zeros(len(prompts), width, dtype=torch.long)
        self._seen_BT = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, ids in enumerate(prompts):
            ids_BT[row, width - len(ids) :] = torch.tensor(list(ids), dtype=torch.long)
            self._seen_BT[row, width - len(ids) :] = 1
        output = self._forward(
            input_ids=ids_BT,
            attention_mask=self._seen_BT,
            position_ids=(self._seen_BT.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        self.logits_BV = _finite(output.logits[:, -1])

    def take(self, token_B: Tensor) -> None:
        """Appends one token to every row."""
        import torch

        position_B = self._seen_BT.sum(dim=1)
        self._seen_BT = torch.cat([self._seen_BT, torch.ones_like(self._seen_BT[:, :1])], dim=1)
        output = self._forward(
            input_ids=token_B.unsqueeze(1),
            attention_mask=self._seen_BT,
            position_ids=position_B.unsqueeze(1),
            past_key_values=self._cache,
            use_cache=True,
        )
        self.logits_BV = _finite(output.logits[:, -1])


def _finite(logits_BV: Tensor) -> Tensor:
    import torch

    if not bool(torch.isfinite(logits_BV).all()):
        raise EnvironmentFailure(
            "the model's answer is not a finite number",
            where="generation",
            fix="the checkpoint is damaged or diverged: run the stage that wrote it again",
        )
    return logits_BV


def _choose(logits_BV: Tensor, temperature: float, generators: Sequence[Generator]) -> Tensor:
    """One token a row, shape [B]: the likeliest, or drawn by the row's own generator."""
    import torch

    if not temperature:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = torch.softmax(logits_BV.float() / temperature, dim=-1)
    return torch.cat(
        [
            torch.multinomial(row_V, 1, generator=generator)
            for row_V, generator in zip(probabilities_BV, generators, strict=True)
        ]
    )


def _generator(work: Work) -> Generator:
    """Randomness of one request: of its seed and its words, whatever stands beside it."""
    import torch

    key, request, _ = work
    digest = hashlib.sha256(f"{request.seed}|{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's and those of the generation settings."""
    settings = getattr(model, "generation_config", None)
    named = getattr(settings, "eos_token_id", None)
    ids = list(named) if isinstance(named, list | tuple) else [named]
    return frozenset(int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None)


def _first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop text begins."""
    places = [place for place in (text.find(end) for end in stop) if place >= 0]
    return min(places, default=None)


def _batches(work: Sequence[Work], size: int) -> Iterator[Sequence[Work]]:
    for start in range(0, len(work), size):
        yield work[start : start + size]
