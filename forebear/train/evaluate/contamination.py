"""Whether what was measured stood in what was trained on, item by item.

Texts are normalised (NFKC, lower case, punctuation to space) and cut into n-grams of 13 words,
hashed by SHA-1 cut to 64 bits; a shorter item counts as a whole. An item is contaminated when half
of its n-grams were seen, in one document or several, or when its answer follows its question
within 200 characters. The index holds the items and the documents stream past, so memory does not
grow with the corpus. What the base model was trained on is not known, and the result says so.

Source: evaluation page, section 12.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebear.gate.statistics import wilson
from forebear.train.curate.decontaminate import normalise

if TYPE_CHECKING:
    from forebear.gate.runs import Run
    from forebear.gate.settings import ContaminationSettings

SCHEMA = "forebear/contamination/v1"
UNKNOWN = "the base's own training data is unknown"
ANSWER_WITHIN = 200
SHOWN = 20
# An item of fewer words would stand in any text as a whole; its answer still tells.
_MIN_WORDS = 5


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One measured item, as far as it could have been learnt by heart.

    Attributes:
        text: what is cut into n-grams.
        pairs: (question, answer) that must not stand together; normalised when searched.
        whole: a text that gives the item away wherever it stands, or nothing.
    """

    id: str
    text: str
    pairs: tuple[tuple[str, str], ...] = ()
    whole: str = ""


@dataclass(frozen=True, slots=True)
class EvalSet:
    """The items of one task; with a ``reason`` they were not searched for."""

    task: str
    items: tuple[EvalItem, ...]
    golden: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TrainingText:
    """One text that some stage trained on.

    Attributes:
        role: of the corpus file, or ``distillation`` or ``preference``.
        id: of its row.
        leaf: key of its leaf in the ledger, or None where the ledger is salted.
    """

    text: str
    role: str
    id: str
    leaf: str | None


@dataclass(slots=True)
class _Found:
    """What was seen of one item, and in which document most of it."""

    size: int = 0
    seen: set[int] = field(default_factory=set)
    most: int = 0
    where: TrainingText | None = None
    how: str = ""


class _Index:
    """Hashes of the items' n-grams, whole texts and questions, looked up by their first words."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.found: list[_Found] = []
        self.n_short: list[bool] = []
        self._grams: dict[int, list[int]] = defaultdict(list)
        self._wholes: dict[int, list[int]] = defaultdict(list)
        self._questions: dict[int, list[tuple[int, str]]] = defaultdict(list)
        # first word or first two words of a span → how many words it may have
        self._spans: dict[tuple[str, ...], set[int]] = defaultdict(set)

    def add(self, item: EvalItem) -> None:
        number = len(self.found)
        words = normalise(item.text).split()
        self.n_short.append(len(words) < _MIN_WORDS)
        grams: set[int] = set()
        if len(words) >= _MIN_WORDS:
            length = min(self._n, len(words))
            for start in range(len(words) - length + 1):
                grams.add(self._span(words[start : start + length]))
        for gram in grams:
            self._grams[gram].append(number)
        self.found.append(_Found(size=len(grams)))
        whole = normalise(item.whole).split()
        if len(whole) >= _MIN_WORDS:
            self._wholes[self._span(whole)].append(number)
        for question, answer in item.pairs:
            asked, answered = normalise(question).split(), normalise(answer)
            if asked and answered:
                self._questions[self._span(asked)].append((number, answered))

    def _span(self, words: Sequence[str]) -> int:
        self._spans[tuple(words[:2])].add(len(words))
        return _hash(words)

    def search(self, document: TrainingText) -> None:
        """Notes what ``document`` holds of the items."""
        words = normalise(document.text).split()
        here: dict[int, set[int]] = defaultdict(set)
        for start, word in enumerate(words):
            lengths = self._spans.get((word, *words[start + 1 : start + 2]), ())
            for length in (*lengths, *([1] if (word,) in self._spans else [])):
                if start + length > len(words):
                    continue
                value = _hash(words[start : start + length])
                for number in self._grams.get(value, ()):
                    here[number].add(value)
                for number in self._wholes.get(value, ()):
                    self._note(number, "question", document)
                if value in self._questions:
                    self._answered(value, words, start + length, document)
        for number, grams in here.items():
            found = self.found[number]
            found.seen |= grams
            if len(grams) > found.most:
                found.most = len(grams)
                if not found.how:
                    found.where = document

    def _answered(self, value: int, words: Sequence[str], end: int, document: TrainingText) -> None:
        after = " ".join(words[end : end + ANSWER_WITHIN])[:ANSWER_WITHIN]
        for number, answer in self._questions[value]:
            if f" {answer} " in f" {after} ":
                self._note(number, "answer", document)

    def _note(self, number: int, how: str, document: TrainingText) -> None:
        found = self.found[number]
        if not found.how:
            found.how, found.where = how, document


def _hash(words: Sequence[str]) -> int:
    digest = hashlib.sha1(" ".join(words).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big")


def contaminated(
    sets: Sequence[EvalSet],
    documents: Iterable[TrainingText],
    settings: ContaminationSettings,
    *,
    candidate: Run,
    searched: Sequence[str] = (),
) -> dict[str, Any]:
    """The value of ``contamination.json``.

    Args:
        sets: what was measured.
        documents: what was trained on; read once, none is kept.
        settings: length of the n-grams, share that makes a hit, rates that are accepted.
        candidate: gives the scores on all, clean and contaminated items.
        searched: names of the kinds of documents that were to be had.
    """
    index = _Index(settings.n)
    places: dict[str, list[int]] = {}
    for one in sets:
        places[one.task] = []
        for item in one.items:
            places[one.task].append(len(index.found))
            index.add(item)
    n_documents = 0
    for document in documents:
        n_documents += 1
        index.search(document)
    return {
        "schema": SCHEMA,
        "n": settings.n,
        "min_overlap": settings.min_overlap,
        "documents": n_documents,
        "searched": list(searched),
        "unknown": UNKNOWN,
        "sets": {
            one.task: _set_value(one, places[one.task], index, settings, candidate)
            for one in sorted(sets, key=lambda one: one.task)
        },
    }


def _set_value(
    one: EvalSet,
    places: Sequence[int],
    index: _Index,
    settings: ContaminationSettings,
    candidate: Run,
) -> dict[str, Any]:
    hits = []
    for item, place in zip(one.items, places, strict=True):
        found = index.found[place]
        overlap = len(found.seen) / found.size if found.size else 0.0
        if found.how or overlap >= settings.min_overlap:
            hits.append(_hit(item, found, overlap))
    hits.sort(key=lambda hit: str(hit["id"]))
    n = len(one.items)
    rate = len(hits) / n if n else None
    limit = settings.allowed(one.task, golden=one.golden)
    return {
        "n": n,
        "n_short": sum(index.n_short[place] for place in places),
        "n_contaminated": len(hits),
        "rate": rate,
        "interval": _interval(len(hits), n),
        "max_rate": limit,
        "over": rate is not None and rate > limit,
        "golden": one.golden,
        "ids": hits[:SHOWN],
        "all": [hit["id"] for hit in hits],
        "scores": _scores(one, {str(hit["id"]) for hit in hits}, candidate),
        "checked": not one.reason,
        "reason": one.reason or None,
        "unknown": UNKNOWN,
    }


def _hit(item: EvalItem, found: _Found, overlap: float) -> dict[str, Any]:
    where = found.where
    return {
        "id": item.id,
        "how": found.how or "ngrams",
        "overlap": overlap,
        "document": where.id if where else None,
        "leaf": where.leaf if where else None,
        "role": where.role if where else None,
    }


def _interval(hits: int, n: int) -> dict[str, Any] | None:
    if not n:
        return None
    low, high = wilson(hits, n)
    return {"low": low, "high": high, "level": 0.95, "method": "wilson"}


def _scores(one: EvalSet, hits: set[str], candidate: Run) -> dict[str, float | None]:
    """Mean value of the candidate on all, clean and contaminated items."""
    run = candidate.tasks.get(one.task)
    items = run.items.values() if run is not None else ()
    values = [(item.id in hits, item.value) for item in items if item.value is not None]
    return {
        "all": _mean([value for _, value in values]),
        "clean": _mean([value for hit, value in values if not hit]),
        "contaminated": _mean([value for hit, value in values if hit]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
