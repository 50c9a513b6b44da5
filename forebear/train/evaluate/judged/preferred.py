"""AlpacaEval 2 and Arena-Hard: single questions, the candidate's answer against a baseline's.

Both games of a question are played, the second with places changed. AlpacaEval's data carry a
licence that forbids us to bring them: the user does, and says so.

Source: evaluation page, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forebear.errors import FormatError
from forebear.gate.preference import MIN_ITEMS, arena_outcomes, style_features
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
    ask_once,
    item_row,
    read_jsonl,
    suite_identity,
    take,
)
from forebear.train.evaluate.judged.protocol import Form, Judge, Pair, Question, Verdict
from forebear.train.evaluate.judged.quality import style_counts
from forebear.train.evaluate.judged.settings import (
    ALPACA_LICENCE,
    AlpacaEvalChoice,
    ArenaHardChoice,
)
from forebear.train.evaluate.judged.wording import suite_facts
from forebear.train.evaluate.measured import Measured, Metric, NotRun
from forebear.train.evaluate.model import ChatModel, Generation

ALPACA, ARENA = "alpaca_eval", "arena_hard"
_VERSION = "1"
_ALPACA_TOKENS, _ARENA_TOKENS = 2048, 4096
_TOO_FEW = f"style control needs at least {MIN_ITEMS} questions"


def measure_alpaca_eval(
    choice: AlpacaEvalChoice,
    *,
    model: ChatModel,
    judge: Judge,
    benchmarks: Path,
    seed: int,
    baseline: Baseline,
) -> Measured | NotRun:
    """The suite's rows for ``model``; not run without the user's data and word on their licence."""
    del baseline  # the data hold the opponent's answers
    if choice.data is None or choice.licence_ack != ALPACA_LICENCE:
        return NotRun(ALPACA, "licence")
    found = read_jsonl(benchmarks / choice.data, "instruction", "output", "dataset")
    everything = [
        Item(
            f"{place:04d}",
            str(row["dataset"]),
            {"prompt": str(row["instruction"]), "baseline": str(row["output"])},
        )
        for place, row in enumerate(found.rows)
    ]
    items = take(everything, task=ALPACA, seed=seed, limit=choice.limit)
    max_tokens = choice.max_tokens or _ALPACA_TOKENS
    prompts = [item.document["prompt"] for item in items]
    theirs = [_written(item.document["baseline"]) for item in items]
    ours = ask_once(model, prompts, max_new_tokens=max_tokens, seed=seed)
    games = _play(items, ours, theirs, judge, ["letter"] * len(items))
    weighted = all(verdict.weighted for pair in games for verdict in pair)
    rows = []
    for item, reply, answer, pair in zip(items, ours, theirs, games, strict=True):
        first, second = (verdict.score for verdict in pair) if pair else (None, None)
        # the second game shows the candidate as B
        value = None if first is None or second is None else (first + 1.0 - second) / 2
        rows.append(
            item_row(
                item,
                replies=[reply],
                verdicts=pair,
                judge=judge,
                both_orders=True,
                value=value,
                components={
                    "points": None if value is None else 100 * value,
                    "length": len(reply.text),
                    "baseline_length": len(answer.text),
                },
            )
        )
    setting = (
        f"both orders against the data's baseline, {max_tokens} new tokens, our own judge prompt, "
        f"{len(items)} of {len(everything)} instructions"
    )
    decoding = {"temperature": 0.0, "max_new_tokens": max_tokens}
    return Measured(
        task=ALPACA,
        rows=rows,
        identity=suite_identity(
            task=ALPACA,
            version=_VERSION,
            source="alpaca_eval/user",
            data_sha256=found.sha256,
            setting=setting,
            decoding=decoding,
            judge=judge,
            model=model,
            seed=seed,
            items=items,
        ),
        metrics=(
            Metric("lc_win_rate", "lc_native", "value", "up", 0.0, 100.0),
            Metric("win_rate", "mean", "points", "up", 0.0, 100.0),
        ),
        facts=suite_facts(
            judge,
            setting=setting,
            licence=ALPACA_LICENCE,
            n_population=len(everything),
            decoding=decoding,
            published=False,  # the judge prompt and the length control are ours
            task=ALPACA,
            whole=len(items) == len(everything),
            notes=[
                f"weighted: {'true' if weighted else 'false'}",
                "length control: lc_native, not comparable with published LC win rates",
            ],
        ),
        texts=_texts(items, prompts, ours, theirs),
    )


def measure_arena_hard(
    choice: ArenaHardChoice,
    *,
    model: ChatModel,
    judge: Judge,
    benchmarks: Path,
    seed: int,
    baseline: Baseline,
) -> Measured | NotRun:
    """The suite's rows for ``model``; only questions that the baseline answered are in play."""
    found = read_jsonl(
        benchmarks / ARENA / f"question_{choice.version}.jsonl", "uid", "category", "prompt"
    )
    other = find_baseline(choice.baseline, baseline, benchmarks)
    known = other.answers if isinstance(other, BaselineAnswers) else None
    everything = [
        Item(
            str(row["uid"]),
            str(row.get("subcategory", row["category"])),
            {"prompt": str(row["prompt"]), "category": str(row["category"])},
        )
        for row in found.rows
    ]
    answered = [item for item in everything if known is None or item.id in known]
    if not answered:
        raise MissingData(f"baseline answers to the questions of {choice.version}")
    items = take(answered, task=ARENA, seed=seed, limit=choice.limit)
    max_tokens = choice.max_tokens or _ARENA_TOKENS
    prompts = [item.document["prompt"] for item in items]
    ours = ask_once(model, prompts, max_new_tokens=max_tokens, seed=seed)
    theirs = _their_answers(other, items, prompts, max_tokens, seed)
    forms: list[Form] = [
        "creative" if item.document["category"] == "creative_writing" else "labels"
        for item in items
    ]
    games = _play(items, ours, theirs, judge, forms)
    rows = [
        _arena_row(item, us, them, pair, judge)
        for item, us, them, pair in zip(items, ours, theirs, games, strict=True)
    ]
    whole = len(items) == len(everything)
    setting = (
        f"{choice.version}, two games against {choice.baseline}, {max_tokens} new tokens, "
        f"{len(items)} of {len(everything)} questions"
    )
    decoding = {"temperature": 0.0, "max_new_tokens": max_tokens}
    return Measured(
        task=ARENA,
        rows=rows,
        identity=suite_identity(
            task=ARENA,
            version=_VERSION,
            source=f"arena_hard/question_{choice.version}.jsonl",
            data_sha256=found.sha256,
            setting=setting,
            decoding=decoding,
            judge=judge,
            model=model,
            seed=seed,
            items=items,
            baseline=baseline_sha256(other),
        ),
        metrics=_arena_metrics(len(items)),
        facts=suite_facts(
            judge,
            setting=setting,
            licence="Apache-2.0",
            n_population=len(everything),
            decoding=decoding,
            published=False,  # the judge prompt is ours
            task=ARENA,
            whole=whole,
            notes=[
                "tokens are counted as words and punctuation marks, for both sides alike",
                *([_TOO_FEW] if len(items) < MIN_ITEMS else []),
            ],
        ),
        texts=_texts(items, prompts, ours, theirs),
    )


def _arena_metrics(n_items: int) -> tuple[Metric, ...]:
    """Win rate, led by the style-controlled one where there are prompts enough to fit it."""
    plain = Metric("win_rate", "weighted_mean", "value", "up")
    if n_items < MIN_ITEMS:
        return (plain,)  # a handful of games is told apart by any feature: the fit runs away
    return Metric("style_controlled", "style_controlled", "value", "up"), plain


def _written(text: str) -> Reply:
    """An answer that stands in a file."""
    return Reply("", Generation(text, "stop", 0, 0))


def _their_answers(
    other: ChatModel | BaselineAnswers,
    items: Sequence[Item],
    prompts: Sequence[str],
    max_tokens: int,
    seed: int,
) -> list[Reply]:
    if isinstance(other, BaselineAnswers):
        return [_written(other.answers[item.id][0]) for item in items]
    return ask_once(other, prompts, max_new_tokens=max_tokens, seed=seed)


def _play(
    items: Sequence[Item],
    ours: Sequence[Reply],
    theirs: Sequence[Reply],
    judge: Judge,
    forms: Sequence[Form],
) -> list[list[Verdict]]:
    """Two verdicts an item: the candidate as A, then as B; none where an answer is missing."""
    cases: list[Pair] = []
    places = []
    for place, (item, us, them, form) in enumerate(zip(items, ours, theirs, forms, strict=True)):
        if us.failed or them.failed:
            continue
        question, cut = Question((item.document["prompt"],)), (us.truncated, them.truncated)
        pair = Pair(item.id, question, (us.text,), (them.text,), form, cut)
        cases += [pair, pair.swapped()]
        places.append(place)
    verdicts = judge.compare(cases)
    games: list[list[Verdict]] = [[] for _ in items]
    for number, place in enumerate(places):
        games[place] = verdicts[2 * number : 2 * number + 2]
    return games


def _arena_row(
    item: Item, us: Reply, them: Reply, games: Sequence[Verdict], judge: Judge
) -> dict[str, Any]:
    labels, value, weight = None, None, None
    if len(games) == 2 and all(verdict.label for verdict in games):  # two games
        # played as candidate = A, candidate = B; told as the benchmark tells it
        labels = [str(games[1].label), str(games[0].label)]
        try:
            (outcomes,) = arena_outcomes([(labels[0], labels[1])])
        except ValueError as error:
            raise FormatError(str(error), where=f"{ARENA}: {judge.name}") from error
        value, weight = sum(outcomes) / len(outcomes), float(len(outcomes))
    return item_row(
        item,
        replies=_asked(us, them),
        verdicts=games,
        judge=judge,
        both_orders=True,
        value=value,
        components={
            "labels": labels,
            "weight": weight,
            **style_features(style_counts(us.text), style_counts(them.text)),
        },
    )


def _asked(us: Reply, them: Reply) -> list[Reply]:
    """The replies that belong to the row: ours, and theirs where it could not be had."""
    return [us, them] if them.failed else [us]


def _texts(
    items: Sequence[Item], prompts: Sequence[str], ours: Sequence[Reply], theirs: Sequence[Reply]
) -> list[dict[str, Any]]:
    return [
        {"id": item.id, "prompt": prompt, "answer": us.text, "baseline": them.text}
        for item, prompt, us, them in zip(items, prompts, ours, theirs, strict=True)
    ]
