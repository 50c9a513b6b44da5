"""Two models for lm-eval: one that survives a kill, one that reads a shared prompt once.

:class:`JournaledLM` wraps any lm-eval model and answers from a journal what was answered before.
:class:`PackedLM` is lm-eval's ``HFLM`` with one change: the choices of an item stand side by side
in one row behind their common prompt, each blind to the others, so what they share is computed
once.

Imports torch and lm-eval at the top, because both are subclasses; import it inside functions.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.train.evaluate.journal import Journal, request_key

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PROGRESS_S = 5.0
_PACKED_TOLERANCE = 1e-2
_PROMPT_BLOCK = 16  # continuations of one prompt that stay together
_ROW_TOKENS = 64  # of continuations in one packed row, for the sake of memory

TokenRequest = tuple[tuple[str, str], list[int], list[int]]


class JournaledLM(LM):  # type: ignore[misc]  # lm-eval is untyped
    """Answers from the journal, asks the inner model for whole chunks of what is missing.

    Requests with the same prompt stay in one chunk, up to sixteen of them; chunks are cut from the
    prompts in order of length, ``contexts_per_chunk`` at a time, and this order depends on the
    requests alone. A chunk that lacks an answer is asked again whole: batch composition moves float
    results.
    """

    def __init__(
        self,
        inner: LM,
        journal: Journal,
        *,
        identity: Mapping[str, Any],
        contexts_per_chunk: int,
        on_chunk: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.journal = journal
        self.identity = dict(identity)
        self.contexts_per_chunk = contexts_per_chunk
        self.on_chunk = on_chunk

    def key(self, kind: str, arguments: Sequence[Any]) -> str:
        """The journal's key of one request; ``arguments`` as lm-eval hands them over."""
        return request_key(self.identity, {"kind": kind, "arguments": list(arguments)})

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(sum of log-probabilities, whether greedy) of each continuation."""
        answers = self._answer("loglikelihood", requests)
        return [(float(total), bool(greedy)) for total, greedy in answers]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-probability of each whole text."""
        return [float(total) for total in self._answer("loglikelihood_rolling", requests)]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The text generated for each request."""
        return [str(text) for text in self._answer("generate_until", requests)]

    def _answer(self, kind: str, requests: Sequence[Instance]) -> list[Any]:
        keys = [self.key(kind, request.args) for request in requests]
        unique = dict(zip(keys, requests, strict=True))
        chunks = self._chunks(unique)
        known = self.journal.answers
        missing = [chunk for chunk in chunks if any(key not in known for key in chunk)]
        started = shown = time.monotonic()
        for done, chunk in enumerate(missing, start=1):
            self._ask(kind, chunk, unique)
            now = time.monotonic()
            if now - shown >= _PROGRESS_S or done == len(missing):
                shown = now
                _progress(kind, len(chunks) - len(missing) + done, len(chunks), done, now - started)
        return [self.journal.answers[key] for key in keys]

    def _chunks(self, unique: Mapping[str, Instance]) -> list[list[str]]:
        by_context: dict[str, list[str]] = {}
        for key, request in unique.items():
            by_context.setdefault(str(request.args[0]), []).append(key)
        blocks = [
            by_context[context][start : start + _PROMPT_BLOCK]
            for context in sorted(by_context, key=lambda context: (len(context), context))
            # whole sentences are scored behind one and the same empty prompt
            for start in range(0, len(by_context[context]), _PROMPT_BLOCK)
        ]
        step = self.contexts_per_chunk
        return [
            [key for block in blocks[start : start + step] for key in block]
            for start in range(0, len(blocks), step)
        ]

    def _ask(self, kind: str, chunk: Sequence[str], unique: Mapping[str, Instance]) -> None:
        asked = [unique[key] for key in chunk]
        answers = getattr(self.inner, kind)(asked, disable_tqdm=True)
        for answer in answers:
            number = answer[0] if isinstance(answer, tuple) else answer
            if isinstance(number, float) and not math.isfinite(number):
                raise EnvironmentFailure(
                    f"the model's answer is not a finite number ({number})",
                    where=kind,
                    fix="the checkpoint is damaged or diverged: run the stage that wrote it again",
                )
        self.journal.append(
            chunk, [list(answer) if isinstance(answer, tuple) else answer for answer in answers]
        )
        self.on_chunk()

    @property
    def tokenizer_name(self) -> str:
        """Name that lm-eval fingerprints its request cache with; we do not use that cache."""
        return str(self.inner.tokenizer_name)

    def chat_template(self, chat_template: bool | str = False) -> str | None:  # lm-eval's signature
        """The chat template that the inner model applies."""
        template: str | None = self.inner.chat_template(chat_template)
        return template

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # lm-eval's signature
    ) -> str:
        """One conversation as the prompt text of the inner model."""
        return str(self.inner.apply_chat_template(chat_history, add_generation_prompt))


def _progress(kind: str, position: int, total: int, done: int, elapsed_s: float) -> None:
    left_s = elapsed_s / done * (total - position)
    sys.stderr.write(
        f"measure: {kind}: chunk {position} of {total}, "
        f"{done / max(elapsed_s, 1e-9):.2f} chunks/s, {left_s:.0f} s left\n"
    )


class PackedLM(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """``HFLM`` whose log-likelihoods compute each prompt once for all its continuations.

    Exact up to float rounding: every continuation sees its prompt and itself, at the positions it
    would have alone. The first request is also scored in the plain way, and a model for which the
    two disagree (one that ignores masks or positions) is refused.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_contexts: int,
        packed: bool = True,
    ) -> None:
        super().__init__(
            pretrained=model, tokenizer=tokenizer, batch_size=batch_contexts, device="cpu"
        )
        self.packed = packed
        self._trusted = False

    def _loglikelihood_tokens(
        self,
        requests: list[TokenRequest],
        disable_tqdm: bool = False,  # lm-eval's signature
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        if not self.packed:
            plain: list[tuple[float, bool]] = super()._loglikelihood_tokens(
                requests, disable_tqdm, override_bs
            )
            return plain
        groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for _, asked, wanted in requests:
            held = groups.setdefault(tuple(asked), [])
            if tuple(wanted) not in held:
                held.append(tuple(wanted))
        contexts = sorted(groups, key=lambda context: (len(context), context))
        scores: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[float, bool]] = {}
        step = int(self.batch_size)
        rows = [(context, part) for context in contexts for part in _parts(groups[context])]
        for start in range(0, len(rows), step):
            batch = rows[start : start + step]
            for (context, held), row in zip(batch, self._score_batch(batch), strict=True):
                for continuation, score in zip(held, row, strict=True):
                    scores[context, continuation] = score
        answers = [scores[tuple(asked), tuple(wanted)] for _, asked, wanted in requests]
        if requests and not self._trusted:
            self._require_exact(requests[0], answers[0][0])
        return answers

    def _require_exact(self, request: TokenRequest, packed: float) -> None:
        """Refuses a model whose plain answer to ``request`` is another than the packed one."""
        ((plain, _),) = super()._loglikelihood_tokens([request], disable_tqdm=True)
        if math.isfinite(plain) and abs(plain - packed) > _PACKED_TOLERANCE:
            raise ConfigError(
                f"packed and plain scores differ ({packed:.4f}, {plain:.4f}) for this architecture",
                where="params.yaml: measure.pack_choices",
                fix="set it to false",
            )
        self._trusted = True

    def _score_batch(
        self, batch: Sequence[tuple[tuple[int, ...], Sequence[tuple[int, ...]]]]
    ) -> list[list[tuple[float, bool]]]:
        """(log-probability, greedy) of each continuation of each prompt, in the order given.

        Shapes: B rows, T packed tokens, K kept positions, V vocabulary.
        """
        rows = [_PackedRow(context, held, self.max_length) for context, held in batch]
        length = max(len(row.tokens) for row in rows)
        first_kept = min(row.n_context for row in rows) - 1
        ids_BT = torch.zeros((len(rows), length), dtype=torch.long)
        positions_BT = torch.zeros((len(rows), length), dtype=torch.long)
        allowed_BTT = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)
        for index, row in enumerate(rows):
            size = len(row.tokens)
            ids_BT[index, :size] = torch.tensor(row.tokens)
            positions_BT[index, :size] = torch.tensor(row.positions)
            allowed_BTT[index, :size, :size] = row.allowed()
        kind = self.model.dtype
        mask_B1TT = torch.zeros((len(rows), 1, length, length), dtype=kind)
        mask_B1TT.masked_fill_(~allowed_BTT.unsqueeze(1), torch.finfo(kind).min)
        with torch.inference_mode():
            logits_BKV = self.model(
                input_ids=ids_BT,
                attention_mask=mask_B1TT,
                position_ids=positions_BT,
                logits_to_keep=torch.arange(first_kept, length),
                use_cache=False,
            ).logits
            return [row.scores(logits_BKV[index], first_kept) for index, row in enumerate(rows)]


def _parts(continuations: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """The continuations of one prompt as rows will hold them: few tokens, one at least."""
    parts: list[list[tuple[int, ...]]] = [[]]
    for continuation in continuations:
        held = sum(map(len, parts[-1]))
        if parts[-1] and held + len(continuation) > _ROW_TOKENS:
            parts.append([])
        parts[-1].append(continuation)
    return parts


class _PackedRow:
    """One prompt and its continuations, laid out in one row of tokens.

    Continuations form a tree behind the prompt: a beginning that several share stands once. A
    continuation's last token is left out: nothing follows it, so its own output is not needed.
    """

    def __init__(
        self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]], max_length: int
    ) -> None:
        longest = max(map(len, continuations))
        kept = context[-max(1, max_length + 1 - longest) :]
        self.continuations = continuations
        self.n_context = len(kept)
        self.tokens = list(kept)
        self.positions = list(range(len(kept)))
        self.parents: list[int] = []
        # beginning of a continuation → where its last token stands
        self.places: dict[tuple[int, ...], int] = {(): len(kept) - 1}
        for continuation in continuations:
            for size in range(1, len(continuation)):
                self._add(continuation[:size])

    def _add(self, beginning: tuple[int, ...]) -> None:
        if beginning in self.places:
            return
        self.parents.append(self.places[beginning[:-1]])
        self.places[beginning] = len(self.tokens)
        self.tokens.append(beginning[-1])
        self.positions.append(self.n_context + len(beginning) - 1)

    def allowed(self) -> torch.Tensor:
        """Which position may look at which, shape [T, T]: the prompt and its own past."""
        size = len(self.tokens)
        allowed_TT = torch.ones((size, size), dtype=torch.bool).tril()
        for place, parent in enumerate(self.parents, start=self.n_context):
            allowed_TT[place] = allowed_TT[parent]
            allowed_TT[place, place] = True
        return allowed_TT

    def scores(self, logits_KV: torch.Tensor, first_kept: int) -> list[tuple[float, bool]]:
        """(log-probability, greedy) of each continuation from the kept logits of this row."""
        answers = []
        for continuation in self.continuations:
            places = [self.places[continuation[:size]] for size in range(len(continuation))]
            targets = torch.tensor(continuation)
            logits_NV = logits_KV[torch.tensor(places) - first_kept].float()
            log_probabilities_NV = torch.log_softmax(logits_NV, dim=-1)
            chosen = log_probabilities_NV.gather(1, targets.unsqueeze(1)).sum()
            greedy = bool((log_probabilities_NV.argmax(dim=-1) == targets).all())
            answers.append((float(chosen), greedy))
        return answers
