"""Keeps the golden set out of training text: n-gram index, code search, leakage guard.

An item is its question followed by its answer. Texts are normalised (NFKC, lower case,
punctuation to space), word n-grams hashed by SHA-1 cut to 64 bits; an item shorter than one
n-gram counts as a whole. A text is contaminated when it holds a golden code, or at least a given
share of one item's n-grams.

Source: evaluation page, sections 8 and 12.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from forebear.errors import RecordError

_NOT_WORD = re.compile(r"[\W_]+")
_CODE_LIKE = re.compile(r"[A-Z0-9]+(?:\.[A-Z0-9]+)?")


def normalise(text: str) -> str:
    """Words of ``text`` in NFKC and lower case, joined by single spaces, no punctuation."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).lower()).strip()


def golden_question(title: str) -> str:
    """The one wording of the golden set; no training row uses it."""
    return f'Which ICD-10-CM code means "{title}"?'


def _windows(words: Sequence[str], n: int) -> Iterator[int]:
    # datatrove's other hash, xxhash, wants a version that the rest of the stack rules out
    from datatrove.utils.hashes.sha1 import sha1_hash64

    for start in range(len(words) - n + 1):
        yield sha1_hash64(" ".join(words[start : start + n]))


class GoldenIndex:
    """Hashes of every golden item's n-grams, and the golden codes.

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
        self._lengths: set[int] = set()
        self._codes: set[str] = set()

    def add(self, title: str, code: str) -> None:
        """Adds the item that asks for ``code`` by ``title``."""
        words = normalise(f"{golden_question(title)} {code}").split()
        length = min(self.ngram, len(words))
        hashes = set(_windows(words, length))
        for value in hashes:
            self._items.setdefault(value, []).append(len(self._sizes))
        self._sizes.append(len(hashes))
        self._lengths.add(length)
        self._codes |= {code, code.replace(".", "")}

    def reason(self, text: str) -> str | None:
        """Why ``text`` is contaminated: ``golden_code``, ``golden_ngrams``, or None."""
        if self.holds_code(text):
            return "golden_code"
        words = normalise(text).split()
        seen: Counter[int] = Counter()
        for length in self._lengths:
            for value in set(_windows(words, length)):
                seen.update(self._items.get(value, ()))
        if any(count / self._sizes[item] >= self.max_overlap for item, count in seen.items()):
            return "golden_ngrams"
        return None

    def holds_code(self, text: str) -> bool:
        """Whether a golden code stands in ``text``, with or without its dot."""
        return not self._codes.isdisjoint(_CODE_LIKE.findall(text.upper()))


def require_no_leak(
    golden: Iterable[Mapping[str, object]], rows: Iterable[Mapping[str, object]]
) -> None:
    """Stops the run when a training row holds a golden code, id or question.

    Args:
        golden: rows with ``id``, ``code`` and ``description``.
        rows: rows of every training role, as they will be written.

    Raises:
        RecordError: the first such row; this is the stage's own fault, not the input's.
    """
    index = GoldenIndex()
    for item in golden:
        index.add(str(item["description"]), str(item["code"]))
    for row in rows:
        texts = [str(row.get(key, "")) for key in ("text", "prompt", "answer", "code", "title")]
        reason = index.reason(" ".join(texts))
        if reason is not None:
            raise RecordError(
                f"a golden item leaked into training ({reason})",
                where=f"curate: {row.get('id')}",
                fix="report this: the decontamination filter let it through",
            )
