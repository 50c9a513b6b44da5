"""How licences combine: each item in its use, the union of duties, and the conflicts.

A pure function over items and a context. What the table does not list needs a review, never passes;
only a declared review lifts that, and is shown as that person's conclusion. Engineering, not legal
advice.

Source: compliance page, section 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from forebear.documents.licencetable import Licence, OpenEu, find, find_terms

Status = Literal["ok", "obligations", "needs_review", "conflict"]
STATUSES: tuple[Status, ...] = ("ok", "obligations", "needs_review", "conflict")
Use = Literal["base", "dataset", "evaluation", "teacher", "merge", "judge", "output"]
_FORMING = ("base", "merge")
_FREE: Mapping[str, str] = {
    "judge": "judges only; its answers train nothing",
    "output": "declared by the provider",
}
_PERMISSIVE = ("permissive", "public_domain", "attribution")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that the model was made of.

    Attributes:
        name: as a reader knows it.
        path: how it came into the model, in words.
        licence: SPDX expression or name of terms; None where none is recorded.
        inputs: ids of the facts that say so.
        multimodal: whether it takes or makes images as well; None when not known.
    """

    name: str
    path: str
    licence: str | None
    use: Use
    inputs: tuple[str, ...] = ()
    multimodal: bool | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """A person's conclusion on an item; ``lifts`` when it clears what the table asks."""

    item: str
    conclusion: str
    by: str
    role: str
    date: str
    lifts: bool


@dataclass(frozen=True, slots=True)
class Context:
    """What the combination depends on besides the items; None where not known.

    Attributes:
        in_union: whether the provider sits in the European Union.
        mau: monthly active users.
        name: of the model.
        has_notice: a NOTICE file lies among the released files.
    """

    in_union: bool | None = None
    monetised: bool | None = None
    mau: int | None = None
    distributed: bool | None = None
    name: str = ""
    has_notice: bool | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One item with its outcome; ``reviewed`` names the person whose conclusion it is."""

    item: Item
    entries: tuple[Licence, ...]
    status: Status
    reason: str
    reviewed: Review | None = None


@dataclass(frozen=True, slots=True)
class Duty:
    """One obligation with the path of the item that brings it; ``met`` is None when not known."""

    kind: Literal["notice", "display", "naming", "acceptable_use", "pass_on", "attribution",
                  "non_commercial"]  # fmt: skip
    text: str
    origin: str
    source: str
    met: bool | None
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two things that do not go together."""

    rule: str
    items: tuple[str, ...]
    reason: str
    source: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome; ``status`` is the worst of all.

    Attributes:
        capped: a licence ends above a number of users.
        notices: lines that the release must show.
    """

    items: tuple[Judged, ...]
    duties: tuple[Duty, ...]
    conflicts: tuple[Conflict, ...]
    status: Status
    open_eu: OpenEu
    capped: bool = field(default=False)
    notices: tuple[str, ...] = field(default=())


def combine(  # noqa: PLR0913, PLR0917  # the design's signature, each named once
    base: Sequence[Item],
    datasets: Sequence[Item],
    teachers: Sequence[Item],
    merge_parents: Sequence[Item],
    declared: Item | None,
    context: Context,
    *,
    judges: Sequence[Item] = (),
    reviews: Mapping[str, Review] | None = None,
) -> Report:
    """What follows for the model from everything that it was made of.

    Args:
        base: the original model; several where weights of several were taken.
        datasets: what was trained on, and what was only measured on.
        teachers: models whose answers were trained on.
        merge_parents: outside models whose weights were merged in.
        declared: the licence that the provider declares for the result.
        context: of the provider and the release.
        judges: models that only judged; they bring no duties.
        reviews: by item or licence.
    """
    made_of = [*base, *merge_parents, *datasets, *teachers, *judges]
    judged = [_judge(item, context, reviews or {}) for item in made_of]
    if declared is not None:
        judged.append(_judge(declared, context, reviews or {}))
    conflicts = [*_own_conflicts(judged), *_pairs(judged, declared)]
    duties = [duty for one in judged for duty in _duties(one, context)]
    worst = max((STATUSES.index(one.status) for one in judged), default=0)
    if conflicts:
        worst = STATUSES.index("conflict")
    elif worst == 0 and any(duty.kind not in ("notice", "attribution") for duty in duties):
        worst = 1
    return Report(
        tuple(judged), tuple(duties), tuple(conflicts), STATUSES[worst], _open_eu(judged),
        capped=any(entry.user_cap for one in judged for entry in _binding(one)),
        notices=tuple(dict.fromkeys(
            entry.display for one in judged for entry in _binding(one) if entry.display
        )),
    )  # fmt: skip


# ── one item ───────────────────────────────────────────────────────────────────────────────────


def _judge(item: Item, context: Context, reviews: Mapping[str, Review]) -> Judged:
    outcome = min(
        (_judge_all(item, choice, context) for choice in _choices(item)),
        key=lambda one: STATUSES.index(one.status),
    )
    review = reviews.get(item.name) or reviews.get(item.licence or "")
    if review is not None and review.lifts and outcome.status in ("needs_review", "conflict"):
        reason = f"{review.conclusion} (conclusion of {review.by}, {review.role}, {review.date})"
        return Judged(item, outcome.entries, "ok", reason, review)
    return outcome


def _choices(item: Item) -> list[list[str]]:
    """Alternatives of a licence expression, each a list of licences that all bind."""
    if not item.licence or item.use == "teacher":
        return [[item.licence or ""]]
    return [
        [one.partition(" WITH ")[0].strip("() ") for one in choice.split(" AND ")]
        for choice in item.licence.split(" OR ")
    ]


def _judge_all(item: Item, names: Sequence[str], context: Context) -> Judged:
    entries, worst, reason = [], 0, ""
    for name in names:
        entry = (
            find_terms(item.name, item.licence) if item.use in ("teacher", "judge") else find(name)
        )
        status, why = _judge_one(item, name, entry, context)
        if entry is not None:
            entries.append(entry)
        if STATUSES.index(status) >= worst:
            worst, reason = STATUSES.index(status), why
    return Judged(item, tuple(entries), STATUSES[worst], reason)


def _judge_one(
    item: Item, name: str, entry: Licence | None, context: Context
) -> tuple[Status, str]:
    if item.use in _FREE:
        return "ok", _FREE[item.use]
    if not item.licence and entry is None:
        return "needs_review", "no licence is recorded"
    if entry is None:
        return "needs_review", f"{name or item.licence} is not in the licence table"
    if item.use == "evaluation":
        return "ok", "measured on, never trained on"
    if item.use == "teacher":
        return _judge_teacher(entry, context, item)
    return _judge_class(entry, context, item)


def _judge_class(entry: Licence, context: Context, item: Item) -> tuple[Status, str]:
    if entry.commercial == "no" and context.monetised is not False:
        said = "no commercial use is allowed"
        if context.monetised:
            return "conflict", f"{said}, and the model is offered for payment"
        return "needs_review", f"{said}; whether the model is offered for payment is not declared"
    plain: dict[str, tuple[Status, str]] = {
        "permissive": ("ok", "use, change and publish; keep the notices"),
        "public_domain": ("ok", entry.note or "no rights are reserved"),
        "attribution": ("ok", "name the source"),
        "share_alike": ("needs_review", "share-alike: is a model an adaptation?"),
        "no_derivatives": ("needs_review", "no adaptations: is a model an adaptation?"),
        "contract": ("needs_review", "terms of a contract"),
        "noncommercial": ("obligations", "non-commercial use only"),
    }
    if entry.kind in plain:
        return plain[entry.kind]
    return _judge_restricted(entry, context, item)


def _judge_restricted(entry: Licence, context: Context, item: Item) -> tuple[Status, str]:
    if entry.user_cap and context.mau is not None and context.mau > entry.user_cap:
        return "conflict", f"more than {entry.user_cap} users a month: no rights without a grant"
    withheld = entry.territory == "eu_multimodal" or (
        entry.territory == "eu_vision" and item.multimodal is not False
    )
    if withheld and item.use in _FORMING:
        if context.in_union:
            return "conflict", "rights in multimodal models are withheld from persons in the Union"
        if context.in_union is None:
            return "needs_review", "the provider's country, on which the rights depend, is unknown"
    return "obligations", "conditions that are passed on"


def _judge_teacher(entry: Licence, context: Context, item: Item) -> tuple[Status, str]:
    if entry.output_training in ("forbidden", "forbidden_competing"):
        return "conflict", entry.note or "its output may not train other models"
    if entry.output_training == "needs_review":
        return "needs_review", "its terms on training with its output need a reading"
    if entry.output_training == "allowed_with_conditions":
        return _judge_restricted(entry, context, item)
    return _judge_class(entry, context, item) if entry.output_is_derivative else (
        "ok", "no term on its output"
    )  # fmt: skip


def _binding(one: Judged) -> tuple[Licence, ...]:
    """The licences whose duties pass to the model."""
    if one.item.use in ("judge", "evaluation", "output"):
        return ()
    if one.item.use == "teacher":
        return tuple(e for e in one.entries if e.output_is_derivative or e.naming)
    return one.entries


# ── all of them ────────────────────────────────────────────────────────────────────────────────


def _duties(one: Judged, context: Context) -> list[Duty]:
    found = []
    for entry in _binding(one):
        names = context.name.startswith(entry.naming) if entry.naming and context.name else None
        noticed = context.has_notice if entry.kind == "use_restricted" else None
        listed: tuple[tuple[Any, str | None, bool | None], ...] = (
            ("notice", entry.notice, noticed),
            ("display", entry.display and f"show “{entry.display}”", True),
            ("naming", entry.naming and f"begin the name with “{entry.naming}”", names),
            ("acceptable_use", entry.acceptable_use and f"follow {entry.acceptable_use}", None),
            ("pass_on", entry.pass_on, None),
            ("attribution", "name the source" if entry.attribution else None, True),
            ("non_commercial", "non-commercial use only" if entry.commercial == "no" else None,
             None if context.monetised is None else not context.monetised),
        )  # fmt: skip
        found += [
            Duty(kind, f"{text} ({entry.id})", one.item.path, entry.source.url, met,
                 one.item.inputs)
            for kind, text, met in listed
            if text
        ]  # fmt: skip
    return found


def _own_conflicts(judged: Sequence[Judged]) -> list[Conflict]:
    return [
        Conflict(
            "licence of the item", (one.item.name,), one.reason,
            one.entries[0].source.url if one.entries else "", one.item.inputs,
        )
        for one in judged
        if one.status == "conflict"
    ]  # fmt: skip


def _pairs(judged: Sequence[Judged], declared: Item | None) -> list[Conflict]:
    """Conflicts between two items, and between an item and the licence declared for the model."""
    bound = [(one, entry) for one in judged if one.reviewed is None for entry in _binding(one)]
    found = []
    restricted = [(one, entry) for one, entry in bound if entry.kind == "use_restricted"]
    for one, entry in ((o, e) for o, e in bound if e.kind == "share_alike"):
        for other, limits in restricted:
            found.append(Conflict(
                "share-alike and use restrictions", (one.item.name, other.item.name),
                f"{entry.id} forbids further restrictions, {limits.id} asks for them",
                entry.source.url, (*one.item.inputs, *other.item.inputs),
            ))  # fmt: skip
    granted = None if declared is None else find(declared.licence or "")
    if declared is None or granted is None or granted.kind not in _PERMISSIVE:
        return found
    for one, entry in bound:
        makes = one.item.use in _FORMING or one.item.use == "teacher"
        if makes and entry.kind in ("use_restricted", "noncommercial", "share_alike"):
            found.append(Conflict(
                "declared licence is wider than a duty", (one.item.name, granted.id),
                f"{granted.id} grants more than {entry.id} allows to pass on",
                entry.source.url, (*one.item.inputs, *declared.inputs),
            ))  # fmt: skip
    return found


def _open_eu(judged: Sequence[Judged]) -> OpenEu:
    """Whether the combination counts as free and open source in the sense of the guidelines."""
    said: list[OpenEu] = []
    for one in judged:
        if one.item.use == "output" or one.item.use in _FORMING:
            said += [entry.open_eu for entry in one.entries] or ["needs_review"]
        elif one.item.use == "teacher":
            said += [entry.open_eu for entry in _binding(one)]
    if not any(one.item.use == "output" for one in judged):
        said.append("needs_review")
    if "no" in said:
        return "no"
    return "needs_review" if "needs_review" in said else "yes"
