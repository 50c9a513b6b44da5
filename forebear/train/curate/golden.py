"""The golden set: held-out codes, three ways to choose between four options.

``mc4_far``: the answer and three codes of other chapters, all held out. ``mc4``: the answer and a
sibling, a held-out code of another chapter and its sibling, so that neither the commonest prefix
nor having been trained on tells the pairs apart. ``mc4_hard``: the answer and three siblings.
Options of the answer's length come first, so that length tells little.

The build fails when a shortcut (first option, longest option, commonest prefix) does better or
worse on ``mc4`` than chance allows.

Source: evaluation page, section 8.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from forebear.errors import ConfigError
from forebear.train.curate.decontaminate import GoldenIndex
from forebear.train.curate.icd10cm import MIN_CODES, Code, rank
from forebear.train.curate.params import CurateParams
from forebear.train.curate.render import RENDERINGS

Item = dict[str, Any]

OPTIONS = 4
STRATA = ("mc4_far", "mc4", "mc4_hard")
# Files beside those; made in ``cells``.
FURTHER = ("golden_unseen", "golden_seen", "code", "title")

# Draws of the options tried before the build gives up on its shortcuts; the first is the usual.
_DRAWS = 8


def hold_out(selected: Mapping[str, Sequence[Code]], params: CurateParams) -> list[Code]:
    """The golden codes: at most one per category, each leaving three trained siblings.

    Siblings that decontamination would drop because of the code do not count as trained.

    Raises:
        ConfigError: there are fewer than ``golden.n`` such categories.
    """
    held: list[Code] = []
    for category in sorted(selected, key=lambda name: rank(params.seed, "golden", name)):
        if len(held) == params.golden.n:
            break
        code = _candidate(selected[category], params)
        if code is not None:
            held.append(code)
    if len(held) < params.golden.n:
        raise ConfigError(
            f"only {len(held)} categories can spare a code, {params.golden.n} are wanted",
            where="params.yaml: curate.golden.n",
            fix="lower it, or raise curate.max_categories or curate.max_documents",
        )
    return held


def _candidate(members: Sequence[Code], params: CurateParams) -> Code | None:
    limits = params.decontamination
    for code in sorted(members, key=lambda one: rank(params.seed, "golden", one.code)):
        index = GoldenIndex(limits.ngram, limits.max_overlap)
        index.add(code.title, code.code)
        left = sum(
            1
            for other in members
            if other is not code
            and all(index.reason(render(other)) is None for render in RENDERINGS.values())
        )
        if left >= MIN_CODES - 1:
            return code
    return None


def build(
    held: Sequence[Code], trained: Mapping[str, Sequence[Code]], seed: int
) -> tuple[dict[str, list[Item]], dict[str, Any]]:
    """Rows of the three sets, and what shortcuts score on each.

    Args:
        held: the golden codes.
        trained: the other selected codes by category.
        seed: of the pipeline.

    Raises:
        ConfigError: too few chapters, or shortcuts stay outside chance in every draw.
    """
    n_chapters = len({one.chapter for one in held})
    if n_chapters < OPTIONS:
        raise ConfigError(
            f"the golden codes are of {n_chapters} chapters, {OPTIONS} are needed",
            where="params.yaml: curate.chapters",
            fix="name more letters, or raise curate.golden.n",
        )
    low, high = chance_interval(len(held))
    for draw in range(_DRAWS):
        sets = {name: _rows(name, held, trained, (seed, draw)) for name in STRATA}
        scores = {name: shortcuts(rows) for name, rows in sets.items()}
        if all(low <= score <= high for score in scores["mc4"].values()):
            return sets, {"draws": draw + 1, "chance": [low, high], "shortcuts": scores}
    raise ConfigError(
        f"a shortcut scores outside {low:.3f} to {high:.3f} on mc4: {scores['mc4']}",
        where="params.yaml: curate",
        fix="choose more categories or another seed",
    )


def _rows(
    name: str,
    held: Sequence[Code],
    trained: Mapping[str, Sequence[Code]],
    seed: tuple[int, int],
) -> list[Item]:
    drawn = sorted(held, key=lambda one: rank(seed[0], seed[1], name, "position", one.code))
    position = {one.code: place % OPTIONS for place, one in enumerate(drawn)}
    rows = []
    for code in held:
        others = _others(name, code, held, trained, seed)
        others.sort(key=lambda other: rank(seed[0], seed[1], name, "order", code.code, other))
        place = position[code.code]
        rows.append(
            {
                "id": f"golden:{code.code}",
                "description": code.title,
                "code": code.code,
                "choices": [*others[:place], code.code, *others[place:]],
                "answer": place,
                "stratum": stratum(code),
            }
        )
    return rows


def stratum(one: Code) -> str:
    """What a limit is spread over, and what results are shown by."""
    return f"chapter-{one.chapter:02d}"


def _others(
    name: str,
    code: Code,
    held: Sequence[Code],
    trained: Mapping[str, Sequence[Code]],
    seed: tuple[int, int],
) -> list[str]:
    """The three wrong options of one item."""

    def first(pool: Sequence[Code], like: Code) -> list[Code]:
        return sorted(
            pool,
            key=lambda one: (
                len(one.code) != len(like.code),
                rank(seed[0], seed[1], name, code.code, one.code),
            ),
        )

    siblings = first(trained[code.category], code)
    if name == "mc4_hard":
        return [one.code for one in siblings[: OPTIONS - 1]]
    strangers = first([one for one in held if one.chapter != code.chapter], code)
    if name == "mc4":
        stranger = strangers[0]
        return [siblings[0].code, stranger.code, first(trained[stranger.category], code)[0].code]
    far: dict[int, str] = {}
    for one in strangers:
        if len(far) < OPTIONS - 1:
            far.setdefault(one.chapter, one.code)
    return list(far.values())


def shortcuts(rows: Sequence[Item]) -> dict[str, float]:
    """Accuracy of three rules that read only the options; ties share the credit."""
    totals = {"first_option": 0.0, "longest_option": 0.0, "commonest_prefix": 0.0}
    for row in rows:
        choices, answer = row["choices"], row["answer"]
        prefixes = Counter(choice[:3] for choice in choices)
        marks = {
            "first_option": [float(place == 0) for place in range(len(choices))],
            "longest_option": [float(len(choice)) for choice in choices],
            "commonest_prefix": [float(prefixes[choice[:3]]) for choice in choices],
        }
        for name, values in marks.items():
            best = [place for place, value in enumerate(values) if value == max(values)]
            totals[name] += (answer in best) / len(best)
    return {name: total / len(rows) for name, total in totals.items()}


def chance_interval(n: int) -> tuple[float, float]:
    """Wilson's 95 % interval around one in four, for ``n`` items.

    Source: Wilson 1927; evaluation page, section 8.
    """
    z, share = 1.959963984540054, 1 / OPTIONS
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half
