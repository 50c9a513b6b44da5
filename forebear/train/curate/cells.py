"""The golden set's further cells and forms, beside the three ways to choose of ``golden``.

``golden_unseen``: a code each of categories that no training text is about, to be told from codes
of other such categories. ``golden_seen``: codes that the instruction rows ask for, asked for in
the golden set's words, which is recall. ``code`` and ``title``: the golden codes, answered in free
text. All four are reported; none of them was in the embedded default's first releases, so they
take from what is left and move no training text.

Source: evaluation page, section 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from forebear.train.curate.decontaminate import (
    GoldenIndex,
    code_question,
    golden_question,
    title_question,
)
from forebear.train.curate.golden import FURTHER, OPTIONS, Item, stratum
from forebear.train.curate.icd10cm import Code, rank, with_notes
from forebear.train.curate.params import CurateParams
from forebear.train.curate.render import questions


def unseen(
    categories: Mapping[str, Sequence[Code]], texts: Sequence[str], params: CurateParams
) -> tuple[Code, ...]:
    """A code of every category that no text of ``texts`` gives away.

    Args:
        categories: held out whole.
        texts: what training will read of the classification.
        params: seed and limits of the decontamination.
    """
    limits = params.decontamination
    left = {
        name: sorted(members, key=lambda one: rank(params.seed, "unseen", one.code))
        for name, members in categories.items()
    }
    while True:
        left = {name: members for name, members in left.items() if members}
        names = list(left)
        index = GoldenIndex(limits.ngram, limits.max_overlap)
        for name in names:
            index.add(left[name][0].title, left[name][0].code)
        given_away = {names[number] for text in texts for number in index.items(text)}
        if not given_away:
            return tuple(with_notes(left[name][0]) for name in names)
        for name in given_away:
            left[name] = left[name][1:]


def seen(trained: Mapping[str, Sequence[Code]], params: CurateParams) -> list[Code]:
    """Up to ``golden.seen`` of the codes that instruction rows ask for, one of a category."""
    asked: dict[str, list[Code]] = {}
    for number, (_, one) in enumerate(questions(trained, params.seed)):
        if number == params.instruction_rows:
            break
        asked.setdefault(one.category, []).append(one)
    names = sorted(asked, key=lambda name: rank(params.seed, "seen", name))
    return [
        min(asked[name], key=lambda one: rank(params.seed, "seen", one.code))
        for name in names[: params.golden.seen]
    ]


def build(
    held: Sequence[Code], new: Sequence[Code], known: Sequence[Code], seed: int
) -> dict[str, list[Item]]:
    """Rows of the four files; a cell of fewer than four codes has none.

    Args:
        held: the golden codes.
        new: of categories held out whole.
        known: trained codes.
        seed: of the pipeline.
    """
    return {
        "golden_unseen": _choices("golden_unseen", new, seed),
        "golden_seen": _choices("golden_seen", known, seed),
        "code": [
            {**_head("golden", one), "prompt": code_question(one.title), "answer": one.code}
            for one in held
        ],
        "title": [
            {**_head("golden", one), "prompt": title_question(one.code), "answer": one.title}
            for one in held
        ],
    }


def _head(name: str, one: Code) -> Item:
    return {
        "id": f"{name}:{one.code}",
        "description": one.title,
        "code": one.code,
        "stratum": stratum(one),
    }


def _choices(name: str, pool: Sequence[Code], seed: int) -> list[Item]:
    """One of four, the others from the same cell: of other chapters where there are enough."""
    if len(pool) < OPTIONS:
        return []
    drawn = sorted(pool, key=lambda one: rank(seed, name, "position", one.code))
    position = {one.code: place % OPTIONS for place, one in enumerate(drawn)}
    rows = []
    for code in pool:
        others = sorted(
            _others(name, code, pool, seed),
            key=lambda other: rank(seed, name, "order", code.code, other),
        )
        place = position[code.code]
        rows.append(
            {
                **_head(name, code),
                "prompt": golden_question(code.title),
                "choices": [*others[:place], code.code, *others[place:]],
                "answer": place,
            }
        )
    return rows


def _others(name: str, code: Code, pool: Sequence[Code], seed: int) -> list[str]:
    """Three wrong options: of the answer's length first, and among those of other chapters first.

    Length comes first because a model may have learnt which lengths a chapter has.
    """
    ordered = sorted(
        (one for one in pool if one is not code),
        key=lambda one: rank(seed, name, code.code, one.code),
    )
    found: list[str] = []
    for like in (True, False):
        chapters = {code.chapter}
        near: list[str] = []
        for one in ordered:
            if (len(one.code) == len(code.code)) is not like:
                continue
            if one.chapter in chapters:
                near.append(one.code)
            else:
                chapters.add(one.chapter)
                found.append(one.code)
        found += near
    return found[: OPTIONS - 1]


def holdout(sets: Mapping[str, Iterable[Item]]) -> list[Item]:
    """Rows whose codes stay out of training, one a code: the golden cell's and the unseen one's."""
    return [*sets["mc4_far"], *sets[FURTHER[0]]]
