"""MT-Bench: eighty conversations of two turns, graded 1 to 10, or compared with a baseline.

Source: evaluation page, section 6; Zheng et al. 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import FormatError
from forebear.train.evaluate.judged.baselines import (
    Baseline,
    BaselineAnswers,
    baseline_sha256,
    find_baseline,
)
from forebear.train.evaluate.judged.items import (
    Item,
    MissingData,
    Reply,
    ask,
    digest,
    item_row,
    item_seed,
    read_jsonl,
    suite_identity,
    take,
)
from forebear.train.evaluate.judged.protocol import Graded, Judge, Pair, Question, Verdict
from forebear.train.evaluate.judged.settings import MtBenchChoice
from forebear.train.evaluate.judged.wording import suite_facts
from forebear.train.evaluate.measured import Measured, Metric, NotRun
from forebear.train.evaluate.model import ChatModel, ChatRequest, Generation, Message

TASK = "mt_bench"
_VERSION = "1"
_PUBLISHED_TOKENS = 1024
_TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0,
    "reasoning": 0.0, "stem": 0.1, "humanities": 0.1,
}  # fmt: skip
_REFERENCED = frozenset({"math", "coding", "reasoning"})
_N_TURNS = 2


@dataclass(frozen=True, slots=True)
class _Conversation:
    """Both turns of one item; the second is missing when the first failed."""

    replies: tuple[Reply, ...]

    @property
    def whole(self) -> bool:
        return len(self.replies) == _N_TURNS and not any(reply.failed for reply in self.replies)

    def texts(self, n_turns: int) -> tuple[str, ...]:
        return tuple(reply.text for reply in self.replies[:n_turns])


def measure_mt_bench(
    choice: MtBenchChoice,
    *,
    model: ChatModel,
    judge: Judge,
    benchmarks: Path,
    seed: int,
    baseline: Baseline,
) -> Measured | NotRun:
    """The suite's rows for ``model``."""
    items, data_sha256, n_population = _items(benchmarks / TASK, choice, seed)
    max_tokens = choice.max_tokens or _PUBLISHED_TOKENS
    ours = _converse(model, items, seed=seed, max_tokens=max_tokens)
    if choice.mode == "single":
        rows = _graded_rows(items, ours, judge)
        metrics: tuple[Metric, ...] = (
            Metric("score", "mean", "value", "up", 1.0, 10.0),
            Metric("turn_1", "mean", "turn_1", "up", 1.0, 10.0),
            Metric("turn_2", "mean", "turn_2", "up", 1.0, 10.0),
        )
        against = None
    else:
        other = find_baseline(str(choice.baseline), baseline, benchmarks)
        theirs = _their_side(other, items, seed=seed, max_tokens=max_tokens)
        rows = _compared_rows(items, ours, theirs, judge)
        metrics = (Metric("win_rate", "mean", "value", "up"),)
        against = baseline_sha256(other)
    whole = len(items) == n_population
    published = (
        whole
        and choice.mode == "single"
        and max_tokens == _PUBLISHED_TOKENS
        and judge.wording == "published"
    )
    setting = (
        f"two turns, {max_tokens} new tokens each, "
        + (
            "graded 1 to 10"
            if choice.mode == "single"
            else f"both orders against {choice.baseline}"
        )
        + f", {len(items)} of {n_population} questions"
    )
    decoding = {"temperatures": dict(_TEMPERATURES), "max_new_tokens": max_tokens}
    return Measured(
        task=TASK,
        rows=rows,
        identity=suite_identity(
            task=TASK,
            version=_VERSION,
            source="mt_bench/question.jsonl",
            data_sha256=data_sha256,
            setting=setting,
            decoding=decoding,
            judge=judge,
            model=model,
            seed=seed,
            items=items,
            baseline=against,
        ),
        metrics=metrics,
        facts=suite_facts(
            judge,
            setting=setting,
            licence="Apache-2.0",
            n_population=n_population,
            decoding=decoding,
            published=published,
            task=TASK,
            whole=whole,
        ),
        texts=[_text(item, conversation) for item, conversation in zip(items, ours, strict=True)],
    )


def _items(folder: Path, choice: MtBenchChoice, seed: int) -> tuple[list[Item], str, int]:
    """The chosen items, the digest of all their data, and how many there are."""
    questions = read_jsonl(folder / "question.jsonl", "question_id", "category", "turns")
    published = read_jsonl(folder / "reference_answer_gpt4.jsonl", "question_id", "choices")
    references = {str(row["question_id"]): _reference(row) for row in published.rows}
    shas = [questions.sha256, published.sha256]
    try:
        overrides = read_jsonl(folder / "reference_overrides.jsonl", "question_id", "turns")
    except MissingData:
        pass
    else:
        references |= {str(row["question_id"]): list(row["turns"]) for row in overrides.rows}
        shas.append(overrides.sha256)
    items = []
    for row in questions.rows:
        name, category = str(row["question_id"]), str(row["category"])
        if category not in _TEMPERATURES or len(row["turns"]) != _N_TURNS:
            raise FormatError("is no question of MT-Bench", where=f"mt_bench: {name[:20]}")
        right = references.get(name, []) if category in _REFERENCED else []
        document = {"turns": list(row["turns"]), "category": category, "references": right}
        items.append(Item(name, category, document))
    chosen = take(items, task=TASK, seed=seed, limit=choice.limit)
    return chosen, digest(shas), len(items)


def _reference(row: Mapping[str, Any]) -> list[str]:
    try:
        return [str(turn) for turn in row["choices"][0]["turns"]]
    except (LookupError, TypeError):
        where = f"mt_bench: reference {str(row['question_id'])[:20]}"
        raise FormatError("holds no turns", where=where) from None


def _question(item: Item) -> Question:
    return Question(tuple(item.document["turns"]), tuple(item.document["references"]))


def _converse(
    model: ChatModel, items: Sequence[Item], *, seed: int, max_tokens: int
) -> list[_Conversation]:
    """Both turns in one conversation; all first turns are asked together, then all second ones."""
    spoken: list[list[Reply]] = [[] for _ in items]
    for turn in range(_N_TURNS):
        places = [place for place, said in enumerate(spoken) if not any(r.failed for r in said)]
        requests = [
            _request(items[place], spoken[place], turn, seed, max_tokens) for place in places
        ]
        for place, reply in zip(places, ask(model, requests), strict=True):
            spoken[place].append(reply)
    return [_Conversation(tuple(replies)) for replies in spoken]


def _request(
    item: Item, said: Sequence[Reply], turn: int, seed: int, max_tokens: int
) -> ChatRequest:
    turns = item.document["turns"]
    messages: list[Message] = []
    for asked, reply in zip(turns, said, strict=False):
        messages += [Message("user", asked), Message("assistant", reply.text)]
    messages.append(Message("user", turns[turn]))
    temperature = _TEMPERATURES[item.stratum]
    return ChatRequest(
        tuple(messages), max_tokens, temperature, item_seed(seed, TASK, item.id, turn)
    )


def _their_side(
    other: ChatModel | BaselineAnswers, items: Sequence[Item], *, seed: int, max_tokens: int
) -> list[_Conversation]:
    if not isinstance(other, BaselineAnswers):
        return _converse(other, items, seed=seed, max_tokens=max_tokens)
    lacking = [item.id for item in items if len(other.answers.get(item.id, ())) < _N_TURNS]
    if lacking:
        raise MissingData(f"baseline answers to {len(lacking)} questions")
    return [
        _Conversation(
            tuple(Reply("", Generation(text, "stop", 0, 0)) for text in other.answers[item.id])
        )
        for item in items
    ]


def _graded_rows(
    items: Sequence[Item], ours: Sequence[_Conversation], judge: Judge
) -> list[dict[str, Any]]:
    cases, owners = [], []
    for place, (item, spoken) in enumerate(zip(items, ours, strict=True)):
        if not spoken.whole:
            continue
        for n_turns in (1, 2):
            cut = spoken.replies[n_turns - 1].truncated
            cases.append(Graded(item.id, _question(item), spoken.texts(n_turns), cut))
            owners.append(place)
    said: list[list[Verdict]] = [[] for _ in items]
    for place, verdict in zip(owners, judge.grade(cases), strict=True):
        said[place].append(verdict)
    rows = []
    for item, spoken, verdicts in zip(items, ours, said, strict=True):
        scores = [verdict.score for verdict in verdicts if verdict.score is not None]
        whole = len(scores) == _N_TURNS
        rows.append(
            item_row(
                item,
                replies=spoken.replies,
                verdicts=verdicts,
                judge=judge,
                value=sum(scores) / _N_TURNS if whole else None,
                components={f"turn_{n}": scores[n - 1] if whole else None for n in (1, 2)},
            )
        )
    return rows


def _compared_rows(
    items: Sequence[Item],
    ours: Sequence[_Conversation],
    theirs: Sequence[_Conversation],
    judge: Judge,
) -> list[dict[str, Any]]:
    """Wins of two games a turn: a turn is won when both orders say so, otherwise it is a tie."""
    cases, owners = [], []
    for place, (item, us, them) in enumerate(zip(items, ours, theirs, strict=True)):
        if not (us.whole and them.whole):
            continue
        for n_turns in (1, 2):
            cut = (us.replies[n_turns - 1].truncated, them.replies[n_turns - 1].truncated)
            pair = Pair(
                item.id, _question(item), us.texts(n_turns), them.texts(n_turns), truncated=cut
            )
            cases += [pair, pair.swapped()]
            owners.append(place)
    verdicts = judge.compare(cases)
    said: list[list[Verdict]] = [[] for _ in items]
    for number, place in enumerate(owners):
        said[place] += verdicts[2 * number : 2 * number + 2]
    rows = []
    for item, us, them, games in zip(items, ours, theirs, said, strict=True):
        turns = [_both(games[n], games[n + 1]) for n in range(0, len(games), 2)]
        rows.append(
            item_row(
                item,
                replies=(*us.replies, *(r for r in them.replies if r.failed or r.key)),
                verdicts=games,
                judge=judge,
                both_orders=True,
                value=sum(turns) / _N_TURNS if len(turns) == _N_TURNS else None,
                components={f"turn_{n}": turns[n - 1] if turns else None for n in (1, 2)},
            )
        )
    return rows


def _both(first: Verdict, second: Verdict) -> float:
    """Outcome of two games of which the second has places changed: 1, ½ or 0."""
    if first.label == "A" and second.label == "B":
        return 1.0
    return 0.0 if first.label == "B" and second.label == "A" else 0.5


def _text(item: Item, spoken: _Conversation) -> dict[str, Any]:
    turns = [
        {"prompt": prompt, "answer": reply.text}
        for prompt, reply in zip(item.document["turns"], spoken.replies, strict=False)
    ]
    first = turns[0]["answer"] if turns else ""
    return {"id": item.id, "prompt": item.document["turns"][0], "answer": first, "turns": turns}
