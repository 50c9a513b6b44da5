"""Keeps eval sets out of training text: n-gram index, code search, leakage guard.

An item of the golden set is its question followed by its answer; of another eval set, whatever the
params name. Texts are normalised (NFKC, lower case, punctuation to space), word n-grams hashed by
SHA-1 cut to 64 bits; an item shorter than one n-gram counts as a whole. A text is contaminated
when it holds a golden code, or at least a given share of one item's n-grams.

datatrove's index wants lighteval and drops a text for one n-gram of any item, so a text that
quotes a common sentence goes; of it only the hash is used.

Source: evaluation page, sections 8 and 12.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from forebear.errors import RecordError

_NOT_WORD = re.compile(r"[\W_]+")
_CODE_LIKE = re.compile(r"[A-Z0-9]+(?:\.[A-Z0-9]+)?")


def normalise(text: str) -> str:
    """Words of ``text`` in NFKC and lower case, joined by single spaces, no punctuation."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).lower()).strip()


def golden_question(title: str) -> str:
    """The one wording of the golden set; no training row uses it."""
    return f'Which ICD-10-CM code means "{title}"?'


def code_question(title: str) -> str:
    """The wording that asks for the code in free text; no training row uses it."""
    return f'Give only the ICD-10-CM code for "{title}".'


def title_question(code: str) -> str:
    """The wording that asks for the title in free text; no training row uses it."""
    return f"Give only the title of the ICD-10-CM code {code}."


def _windows(words: Sequence[str], n: int, ends: Container[tuple[str, str]]) -> Iterator[int]:
    """Hashes of the n-grams whose first and last word are among ``ends``."""
    # datatrove's other hash, xxhash, wants a version that the rest of the stack rules out
    from datatrove.utils.hashes.sha1 import sha1_hash64

    for start in range(len(words) - n + 1):
        # nearly every window of a foreign text ends here, before it is joined and hashed
        if (words[start], words[start + n - 1]) in ends:
            yield sha1_hash64(" ".join(words[start : start + n]))


# An item of fewer words would stand in any text.
_MIN_WORDS = 5
# A question is looked up by its first words.
_HEAD_WORDS = 3
_ID_LIKE = re.compile(r"\b(?:golden(?:_seen|_unseen)?|own_[a-z0-9_]+):[^\s\"',;]+")
# Reasons that no accident explains: the stage stops.
PASTED = ("golden_id", "golden_question")


class GoldenIndex:
    """Hashes of every item's n-grams, and the golden codes.

    No dataclass: datatrove writes a pipeline's dataclasses into its logs, this one whole.

    Args:
        ngram: n-gram length in words.
        max_overlap: share of an item's n-grams that makes a hit.
    """

    def __init__(self, ngram: int = 13, max_overlap: float = 0.5) -> None:
        self.ngram = ngram
        self.max_overlap = max_overlap
        self._items: dict[int, list[int]] = {}
        self._sizes: list[int] = []
        self._names: list[str] = []
        self._ends: dict[int, set[tuple[str, str]]] = {}
        self._codes: dict[str, int] = {}
        self._ids: set[str] = set()
        self._questions: dict[tuple[str, ...], list[tuple[str, ...]]] = {}

    def forbid(self, item: str, question: str) -> None:
        """Takes note of an item's id and exact question: a text that holds either was pasted.

        A question of fewer than three words is left out: it would stand in any text.
        """
        self._ids.add(item)
        words = tuple(normalise(question).split())
        if len(words) >= _HEAD_WORDS:
            self._questions.setdefault(words[:_HEAD_WORDS], []).append(words)

    def add(self, title: str, code: str) -> None:
        """Adds the item that asks for ``code`` by ``title``."""
        self._add(normalise(f"{golden_question(title)} {code}").split(), "golden")
        number = len(self._sizes) - 1
        self._codes |= {code: number, code.replace(".", ""): number}

    def add_text(self, text: str, name: str) -> None:
        """Adds an item of the eval set ``name``; one of fewer than five words is passed over."""
        words = normalise(text).split()
        if len(words) >= _MIN_WORDS:
            self._add(words, name)

    def _add(self, words: Sequence[str], name: str) -> None:
        length = min(self.ngram, len(words))
        ends = {(words[i], words[i + length - 1]) for i in range(len(words) - length + 1)}
        self._ends.setdefault(length, set()).update(ends)
        hashes = set(_windows(words, length, ends))
        for value in hashes:
            self._items.setdefault(value, []).append(len(self._sizes))
        self._sizes.append(len(hashes))
        self._names.append(name)

    def reason(self, text: str) -> str | None:
        """Why ``text`` is contaminated, or None.

        ``golden_id``, ``golden_question`` (these come of no accident), ``golden_code``,
        ``golden_ngrams`` or ``ID_ngrams``; ``ID`` is the name of an eval set.
        """
        words = normalise(text).split()
        if why := self._pasted(text, words):
            return why
        if self.holds_code(text):
            return "golden_code"
        hits = self._overlapping(words)
        return f"{self._names[min(hits)]}_ngrams" if hits else None

    def items(self, text: str) -> set[int]:
        """Numbers of the items, in the order in which they came, that ``text`` gives away."""
        found = set(self._overlapping(normalise(text).split()))
        for code in _CODE_LIKE.findall(text.upper()):
            if code in self._codes:
                found.add(self._codes[code])
        return found

    def _overlapping(self, words: Sequence[str]) -> list[int]:
        seen: Counter[int] = Counter()
        for length, ends in self._ends.items():
            for value in set(_windows(words, length, ends)):
                seen.update(self._items.get(value, ()))
        return [item for item, n in seen.items() if n / self._sizes[item] >= self.max_overlap]

    def _pasted(self, text: str, words: Sequence[str]) -> str | None:
        if self._ids and not self._ids.isdisjoint(_ID_LIKE.findall(text)):
            return "golden_id"
        for place in range(len(words) - _HEAD_WORDS + 1):
            for question in self._questions.get(tuple(words[place : place + _HEAD_WORDS]), ()):
                if tuple(words[place : place + len(question)]) == question:
                    return "golden_question"
        return None

    def holds_code(self, text: str) -> bool:
        """Whether a golden code stands in ``text``, with or without its dot."""
        return any(code in self._codes for code in _CODE_LIKE.findall(text.upper()))


class LeakGuard:
    """Stops the run when a training row holds a golden code, id or question.

    Args:
        golden: rows with ``id``, ``code`` and ``description``.
    """

    def __init__(self, golden: Iterable[Mapping[str, object]]) -> None:
        self._index = GoldenIndex()
        for item in golden:
            title = str(item["description"])
            self._index.add(title, str(item["code"]))
            self._index.forbid(str(item["id"]), golden_question(title))

    def check(self, row: Mapping[str, object]) -> None:
        """Looks at one row, as it will be written.

        Raises:
            RecordError: it leaks; this is the stage's own fault, not the input's.
        """
        texts = [str(row.get(key, "")) for key in _LEAKY]
        reason = self._index.reason(" ".join(texts))
        if reason is not None:
            raise RecordError(
                f"a golden item leaked into training ({reason})",
                where=f"curate: {row.get('id')}",
                fix="report this: the decontamination filter let it through",
            )


_LEAKY = ("text", "prompt", "answer", "code", "title", "chosen", "rejected")


def require_no_leak(
    golden: Iterable[Mapping[str, object]], rows: Iterable[Mapping[str, object]]
) -> None:
    """Stops the run when one of ``rows`` holds something of ``golden``.

    Raises:
        RecordError: the first such row.
    """
    guard = LeakGuard(golden)
    for row in rows:
        guard.check(row)
