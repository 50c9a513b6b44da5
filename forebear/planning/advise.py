"""Ranks base models for a task and says of each why it stands where it stands, or was ruled out.

The order is by licence posture, then language coverage, then measured fertility, then size. What
is unknown never rules a candidate out and never counts in its favour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forebear.planning.facts import POSTURES, ModelFacts, shown
from forebear.planning.fertility import Fertility


@dataclass(frozen=True, slots=True)
class Wish:
    """What the task needs.

    Attributes:
        posture: the most that the licence may ask, one of the postures.
        total: parameters that the model should have, about; smaller comes first when None.
        max_total, max_active: limits; None for none.
        languages: codes that must be covered.
        tuned: instruction-tuned weights are accepted.
    """

    posture: str = "conditional"
    total: int | None = None
    max_total: int | None = None
    max_active: int | None = None
    languages: tuple[str, ...] = ()
    tuned: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model judged.

    Attributes:
        ruled_out: why it cannot serve; empty when it can.
        reasons: what speaks for and against it, one sentence each.
        fertility: measured on the user's text; None when not measured.
    """

    facts: ModelFacts
    ruled_out: tuple[str, ...]
    reasons: tuple[str, ...]
    fertility: Fertility | None
    order: tuple[float, ...]


def advise(
    table: Iterable[ModelFacts], wish: Wish, measured: Mapping[str, Fertility]
) -> tuple[Candidate, ...]:
    """The candidates, best first, those ruled out last.

    ``measured`` holds the fertility of the models whose tokenizer was at hand, by name.
    """
    judged = [_judge(facts, wish, measured.get(facts.name)) for facts in table]
    return tuple(sorted(judged, key=lambda one: (bool(one.ruled_out), one.order, one.facts.name)))


def _judge(facts: ModelFacts, wish: Wish, fertility: Fertility | None) -> Candidate:
    out: list[str] = []
    reasons: list[str] = []
    posture = _posture(facts, wish, out, reasons)
    _tuned(facts, wish, out, reasons)
    languages = _languages(facts, wish, out, reasons)
    size = _size(facts, wish, out, reasons)
    if fertility is None:
        reasons.append("fertility not measured")
    else:
        reasons.append(
            f"{fertility.per_word:.2f} tokens for a word, {fertility.per_byte:.3f} for a byte"
        )
    tokens = math.inf if fertility is None else fertility.per_byte
    return Candidate(
        facts, tuple(out), tuple(reasons), fertility, (posture, languages, tokens, size)
    )


def _posture(facts: ModelFacts, wish: Wish, out: list[str], reasons: list[str]) -> float:
    rank = POSTURES.index(facts.posture)
    text = f"licence {facts.licence}: {facts.posture}"
    known = facts.posture != "unknown"
    if known and rank > POSTURES.index(wish.posture):
        out.append(f"{text}, asked for at most {wish.posture}")
    else:
        reasons.append(text)
    return rank


def _tuned(facts: ModelFacts, wish: Wish, out: list[str], reasons: list[str]) -> None:
    if facts.tuned and not wish.tuned:
        out.append("instruction-tuned: no weights of a base under this name")
    elif facts.tuned is None:
        reasons.append("whether the weights are those of a base is unknown")
    elif facts.tuned:
        reasons.append("instruction-tuned: the params need the allowance base-only")


def _languages(facts: ModelFacts, wish: Wish, out: list[str], reasons: list[str]) -> float:
    told = {code: facts.languages.covers(code) for code in wish.languages}
    missing = [code for code, covered in told.items() if covered is False]
    unsure = [code for code, covered in told.items() if covered is None]
    if missing:
        out.append(f"does not cover {', '.join(missing)}")
    if unsure:
        reasons.append(f"unknown whether it covers {', '.join(unsure)}")
    covered = [code for code, yes in told.items() if yes]
    if covered:
        reasons.append(f"covers {', '.join(covered)}")
    return len(unsure)


def _size(facts: ModelFacts, wish: Wish, out: list[str], reasons: list[str]) -> float:
    for name, count, limit in (
        ("parameters", facts.parameters, wish.max_total),
        ("active parameters", facts.at_work, wish.max_active),
    ):
        if limit is not None and count is not None and count > limit:
            out.append(f"{shown(count)} {name}, asked for at most {shown(limit)}")
    if facts.parameters is None:
        reasons.append("size unknown")
        return math.inf
    active = "" if facts.at_work in (None, facts.parameters) else f", {shown(facts.at_work)} active"
    reasons.append(f"{shown(facts.parameters)} parameters{active}")
    if wish.total is None:
        return facts.parameters
    return abs(math.log(facts.parameters / wish.total))
