"""A checkpoint as teacher: draws its answers, durably.

Sampling the pipeline's own SFT checkpoint and learning the verified answers is rejection-sampling
self-distillation, and is called so. Answers are drawn chunk by chunk, each chunk from a seed of its
own, so a chunk's answers do not depend on which chunks came before in this process.

Shapes: P prompts and S samples per prompt in a chunk, B = P*S rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError
from forebear.train.distill.journal import Chunk, Journal

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_END_OF_ANSWER = "<|im_end|>"
_REPORT_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        samples_per_prompt: answers drawn for each prompt.
        temperature: 0 takes the likeliest token.
        max_new_tokens: an answer without end mark within these is unfinished.
        batch_rows: rows sampled together.
        seed: of the stage.
    """

    samples_per_prompt: int
    temperature: float
    max_new_tokens: int
    batch_rows: int
    seed: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer.

    Attributes:
        text: without the end mark.
        n_tokens: tokens drawn, the end mark included.
        finished: the end mark was drawn.
    """

    text: str
    n_tokens: int
    finished: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """All answers of one request.

    Attributes:
        answers: per prompt, in the order asked, ``samples_per_prompt`` answers.
        prompt_tokens: tokens read, padding left out.
        answer_tokens: tokens drawn.
        resumed_chunks: chunks that the journal already held.
    """

    answers: list[list[Answer]]
    prompt_tokens: int
    answer_tokens: int
    resumed_chunks: int

    def figures(self, n_params: int) -> dict[str, Any]:
        """What it cost a model of ``n_params`` parameters to draw them, for a stage's metrics."""
        from forebear.train.metrics import forward_flop

        return {
            "prompts": len(self.answers),
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "flop": forward_flop(n_params, self.prompt_tokens + self.answer_tokens),
            "flop_method": "2·N·D, dense, each prompt read once",
        }


def end_of_answer_id(tokenizer: PreTrainedTokenizerBase, *, where: str) -> int:
    """Id of the token that ends an answer in the pinned chat template.

    Raises:
        FormatError: the vocabulary has no such token.
    """
    found = tokenizer.get_vocab().get(_END_OF_ANSWER)
    if found is None:
        raise FormatError(
            f"the tokenizer has no {_END_OF_ANSWER} token", where=where, fix="run base again"
        )
    return int(found)


def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    teacher_digest: str,
    journal: Path,
    label: str,
) -> Samples:
    """Draws ``samples_per_prompt`` answers to every prompt, durably.

    Args:
        model: in evaluation mode.
        tokenizer: carries the pinned chat template.
        prompts: user messages.
        sampling: how to draw.
        teacher_digest: tree digest of the teacher, part of the journal's key.
        journal: file of finished chunks in scratch.
        label: name of the stage in progress lines.
    Raises:
        FormatError: the tokenizer has no end-of-answer token.
        EnvironmentFailure: the journal cannot be written.
    """
    stop_id = end_of_answer_id(tokenizer, where=label)
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    request = json.dumps([teacher_digest, stop_id, encoded, asdict(sampling)], sort_keys=True)
    kept = Journal(journal, hashlib.sha256(request.encode()).hexdigest())
    resumed = len(kept)
    drawn: list[Chunk] = [[] for _ in prompts]
    chunks = list(_chunks([len(ids) for ids in encoded], sampling))
    progress = _Progress(label, len(chunks), resumed)
    for number, members in enumerate(chunks):
        answers = kept.get(number)
        if answers is None:
            answers = _sample_chunk(model, [encoded[i] for i in members], sampling, number, stop_id)
            kept.put(number, answers)
            progress.report(number + 1, sampling.samples_per_prompt * len(members))
        for place, prompt in enumerate(members):
            first = place * sampling.samples_per_prompt
            drawn[prompt] = answers[first : first + sampling.samples_per_prompt]
    return Samples(
        answers=[[_decode(tokenizer, ids, stop_id) for ids in per_prompt] for per_prompt in drawn],
        prompt_tokens=sum(len(ids) for ids in encoded),
        answer_tokens=sum(len(ids) for per_prompt in drawn for ids in per_prompt),
        resumed_chunks=resumed,
    )


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of ``prompt`` through the pinned chat template, up to where the answer begins."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stop_id: int) -> Answer:
    finished = bool(ids) and ids[-1] == stop_id
    text = tokenizer.decode(list(ids[:-1] if finished else ids), skip_special_tokens=False)
    return Answer(text=str(text), n_tokens=len(ids), finished=finished)


def _chunks(lengths: Sequence[int], sampling: Sampling) -> Iterator[list[int]]:
    """Prompt numbers per chunk; prompts of like length together, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    size = max(1, sampling.batch_rows // sampling.samples_per_prompt)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _chunk_seed(seed: int, number: int) -> int:
    digest = hashlib.sha256(f"{seed}|chunk|{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _sample_chunk(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    number: int,
    stop_id: int,
) -> Chunk:
    """Token ids of B answers, prompt by prompt, each ending with ``stop_id`` when finished.

    Each prompt is read once and its cache repeated for its samples: ``generate`` with several
    return sequences reads it once per sample.
    """
    import torch

    samples = sampling.samples_per_prompt
    generator = torch.Generator().manual_seed(_chunk_seed(sampling.seed, number))
    width = max(len(ids) for ids in prompts)
    ids_PT = torch.full((len(prompts), width), stop_id)
    seen_PT = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, ids in enumerate(prompts):
        ids_PT[row, width - len(ids) :] = torch.tensor(ids)
        seen_PT[row, width - len(ids) :] = 1
    drawn: list[Any] = []
    forward: Any = model  # transformers types the call too narrowly
    with torch.no_grad():
        output = forward(
            input_ids=ids_PT,
            attention_mask=seen_PT,
            position_ids=(seen_PT.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        cache.batch_repeat_interleave(samples)
        logits_BV = output.logits[:, -1].repeat_interleave(samples, dim=0)
        seen_BT = seen_PT.repeat_interleave(samples, dim=0)
        done_B = torch.zeros(len(prompts) * samples, dtype=torch.bool)
        for _ in range(sampling.max_new_tokens):
            token_B = _draw(logits_BV, sampling.temperature, generator)
            drawn.append(token_B.masked_fill(done_B, -1))
            done_B |= token_B == stop_id
            if len(drawn) == sampling.max_new_tokens or bool(done_B.all()):
                break
            position_B = seen_BT.sum(dim=1)
            seen_BT = torch.cat([seen_BT, torch.ones_like(seen_BT[:, :1])], dim=1)
            output = forward(
                input_ids=token_B.unsqueeze(1),
                attention_mask=seen_BT,
                position_ids=position_B.unsqueeze(1),
                past_key_values=cache,
                use_cache=True,
            )
            logits_BV = output.logits[:, -1]
    rows: Chunk = torch.stack(drawn, dim=1).tolist()
    return [[token for token in row if token >= 0] for row in rows]


def _draw(logits_BV: Tensor, temperature: float, generator: Generator) -> Tensor:
    """One token per row, shape [B]."""
    import torch

    if temperature == 0:
        return logits_BV.argmax(dim=-1)
    probabilities_BV = torch.softmax(logits_BV.float() / temperature, dim=-1)
    return torch.multinomial(probabilities_BV, 1, generator=generator).squeeze(1)


class _Progress:
    """A line on stderr every few seconds: chunks done, answers per second, time left."""

    def __init__(self, label: str, chunks: int, resumed: int) -> None:
        self._label, self._chunks, self._done, self._answers = label, chunks, 0, 0
        self._to_do = max(1, chunks - resumed)
        self._started = self._reported = time.monotonic()
        if resumed:
            sys.stderr.write(f"{label}: {resumed} of {chunks} chunks were sampled before\n")

    def report(self, number: int, answers: int) -> None:
        self._done += 1
        self._answers += answers
        now = time.monotonic()
        if now - self._reported < _REPORT_EVERY_S and self._done < self._to_do:
            return
        self._reported = now
        spent = max(1e-6, now - self._started)
        left = (self._to_do - self._done) * spent / self._done
        sys.stderr.write(
            f"{self._label}: sampled chunk {number} of {self._chunks}, "
            f"{self._answers / spent:.1f} answers/s, {left:.0f} s left\n"
        )
        sys.stderr.flush()
