"""Learns tokens that save most on a corpus, as further merges of the tokenizer's own BPE.

A new token is a merge ranked below every old one. So text is first cut as the old tokenizer cuts
it, and only then are neighbours joined: the new ids of any text are the old ones with some runs
replaced, they decode to the same bytes, and no text costs more tokens than before. Tokens that
are matched anywhere in the raw text (``AddedToken``) promise none of that: they cut words that
only contain them, pass the pre-tokenizer by, and lose bytes in byte-level decoders.

It refuses a tokenizer whose model is not plain BPE.

Source: Sennrich et al. 2016 (byte-pair encoding), continued from the old merges.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forebear.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Encoding

Pair = tuple[int, int]

# A word longer than this is counted in parts: a tokenizer without pre-tokenizer has one word per
# document, and every merge would read it whole.
_MAX_WORD_TOKENS = 64
_WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space in SentencePiece vocabularies
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_TWO_DIGITS = re.compile(r"\d\d")
_WHERE = "params.yaml: tokenize.extend"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to add.

    Attributes:
        number: its id.
        spelling: as the vocabulary spells it.
        pair: the two ids that it joins; either may be a new one.
        parts: the old ids that it stands for.
        saves: tokens that it saved of the text learned on when it was chosen.
    """

    number: int
    spelling: str
    pair: Pair
    parts: tuple[int, ...]
    saves: int


class Words:
    """Words of the corpus as old token ids, counted.

    Args:
        starts: ids of tokens that begin a word where there is no pre-tokenizer.
    """

    def __init__(self, starts: Collection[int] = ()) -> None:
        self.counts: Counter[tuple[int, ...]] = Counter()
        self._starts = frozenset(starts)

    def add(self, encoding: Encoding) -> None:
        """Counts the words of one document."""
        word: list[int] = []
        place: int | None = None
        for token, at in zip(encoding.ids, encoding.word_ids, strict=True):
            if at != place or token in self._starts or len(word) == _MAX_WORD_TOKENS:
                self._close(word)
                word = []
            word.append(token)
            place = at
        self._close(word)

    def _close(self, word: Sequence[int]) -> None:
        if len(word) > 1:
            self.counts[tuple(word)] += 1


@dataclass
class Vocabulary:
    """An old vocabulary and the merges learned on top of it.

    Attributes:
        spellings: of every id that may take part in a merge; grows with each new token.
        ranks: place and new id of each learned merge.
        tokens: learned so far, in order of rank.
    """

    description: dict[str, Any]
    spellings: dict[int, str]
    old_model: Any
    taken: set[str]
    first_id: int
    digits_apart: bool
    ranks: dict[Pair, tuple[int, int]] = field(default_factory=dict)
    tokens: list[NewToken] = field(default_factory=list)
    _parts: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, data: bytes) -> Vocabulary:
        """The vocabulary in a ``tokenizer.json``.

        Raises:
            ConfigError: its model is no plain BPE.
        """
        from tokenizers import Tokenizer

        description = json.loads(data)
        model = description["model"]
        _require_plain_bpe(model)
        special = {entry["content"] for entry in description.get("added_tokens") or []}
        special |= {model["unk_token"]} if model.get("unk_token") else set()
        joinable = {
            number: spelling
            for spelling, number in model["vocab"].items()
            if spelling not in special and not _BYTE_TOKEN.fullmatch(spelling)
        }
        ids = [*model["vocab"].values(), *(e["id"] for e in description.get("added_tokens") or [])]
        return cls(
            description,
            joinable,
            Tokenizer.from_str(data.decode()).model,
            {*model["vocab"], *special},
            max(ids) + 1,
            digits_apart=not any(_TWO_DIGITS.search(spelling) for spelling in joinable.values()),
        )

    @property
    def starts(self) -> frozenset[int]:
        """Ids of the tokens that begin with a SentencePiece space."""
        return frozenset(n for n, spelling in self.spellings.items() if spelling[0] == _WORD_START)

    def learn(self, words: Mapping[tuple[int, ...], int], *, limit: int, min_saved: int) -> None:
        """Adds the tokens that save most, one after the other, each counted after the last.

        Args:
            words: old ids of a word, with its number of occurrences.
            limit: tokens at most.
            min_saved: what each must save.
        """
        text = _Text(words)
        while len(self.tokens) < limit:
            pair = text.most_frequent(min_saved)
            if pair is None:
                return
            if not self._accepts(pair):
                text.refuse(pair)
                continue
            number = self.first_id + len(self.tokens)
            self._add(pair, number, text.merge(pair, number))

    def _accepts(self, pair: Pair) -> bool:
        """Whether the joint token is new, joins no digits, and round-trips on its own."""
        left, right = (self.spellings.get(number) for number in pair)
        if left is None or right is None or left + right in self.taken:
            return False
        if self.digits_apart and _TWO_DIGITS.search(left + right):
            return False  # a vocabulary that spells numbers digit by digit keeps doing so
        ids = [token.id for token in self.old_model.tokenize(left + right)]
        return self._joined(ids) == [*pair]

    def _joined(self, ids: list[int]) -> list[int]:
        """The ids after every learned merge, lowest rank first."""
        while True:
            ranked = [
                (*self.ranks[pair], at)
                for at in range(len(ids) - 1)
                if (pair := (ids[at], ids[at + 1])) in self.ranks
            ]
            if not ranked:
                return ids
            _, number, at = min(ranked, key=lambda one: (one[0], one[2]))
            ids = [*ids[:at], number, *ids[at + 2 :]]

    def _add(self, pair: Pair, number: int, saves: int) -> None:
        spelling = self.spellings[pair[0]] + self.spellings[pair[1]]
        parts = tuple(old for one in pair for old in self._parts.get(one, (one,)))
        self.ranks[pair] = (len(self.tokens), number)
        self.tokens.append(NewToken(number, spelling, pair, parts, saves))
        self._parts[number] = parts
        self.spellings[number] = spelling
        self.taken.add(spelling)

    def extended(self) -> bytes:
        """The ``tokenizer.json`` with the new tokens; old ids are what they were.

        Added tokens are written into the model's vocabulary too: a library that loads the file
        numbers those that it does not find there after the model's last, which has moved.
        """
        description = json.loads(json.dumps(self.description))
        model = description["model"]
        for entry in description.get("added_tokens") or []:
            model["vocab"].setdefault(entry["content"], entry["id"])
        model["vocab"] |= {token.spelling: token.number for token in self.tokens}
        model["merges"] = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
        ]
        model["merges"] += [
            [self.spellings[token.pair[0]], self.spellings[token.pair[1]]] for token in self.tokens
        ]
        return json.dumps(description, ensure_ascii=False, indent=2).encode() + b"\n"


def _require_plain_bpe(model: Mapping[str, Any]) -> None:
    affixes = [model.get(k) for k in ("continuing_subword_prefix", "end_of_word_suffix", "dropout")]
    if model.get("type") == "BPE" and not any(affixes):
        return
    raise ConfigError(
        f"the base's tokenizer is {model.get('type')}, with affixes or dropout {affixes}; only "
        "plain BPE can be extended without moving how old text is cut",
        where=_WHERE,
        fix="set tokenize.extend: false for this base",
    )


class _Text:
    """The words, with how often each pair of neighbours stands in them."""

    def __init__(self, words: Mapping[tuple[int, ...], int]) -> None:
        self.words = [list(word) for word in words]
        self.counts = list(words.values())
        self.pairs: dict[Pair, int] = defaultdict(int)
        self.where: dict[Pair, set[int]] = defaultdict(set)
        self.refused: set[Pair] = set()
        for at in range(len(self.words)):
            self._count(at, 1)
        self.heap = [(-count, pair) for pair, count in self.pairs.items()]
        heapq.heapify(self.heap)

    def most_frequent(self, at_least: int) -> Pair | None:
        """The pair that would save most, of equals the one with the lower ids; None below."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            now = self.pairs.get(pair, 0)
            if pair in self.refused or now < at_least:
                continue
            if now == -count:
                return pair
            if now < -count:  # it has become rarer since; a rise has an entry of its own
                heapq.heappush(self.heap, (-now, pair))
        return None

    def refuse(self, pair: Pair) -> None:
        """Never offers the pair again."""
        self.refused.add(pair)

    def merge(self, pair: Pair, number: int) -> int:
        """Joins the pair everywhere, from the left; gives the number of tokens saved."""
        saved = 0
        changed: set[Pair] = set()
        for at in sorted(self.where[pair]):
            before = self.words[at]
            self._count(at, -1)
            self.words[at] = _join(before, pair, number)
            changed |= self._count(at, 1)
            saved += (len(before) - len(self.words[at])) * self.counts[at]
        for one in changed:
            heapq.heappush(self.heap, (-self.pairs[one], one))
        return saved

    def _count(self, at: int, sign: int) -> set[Pair]:
        """Counts the word's pairs in (1) or out (-1); gives those pairs."""
        found = _neighbours(self.words[at])
        for pair in found:
            self.pairs[pair] += sign * self.counts[at]
        distinct = set(found)
        for pair in distinct:
            if sign > 0:
                self.where[pair].add(at)
            else:
                self.where[pair].discard(at)
        return distinct


def _neighbours(word: Sequence[int]) -> list[Pair]:
    """Pairs that could be joined: in a run of one token those that overlap count once."""
    found: list[Pair] = []
    run = False
    for pair in itertools.pairwise(word):
        run = bool(found) and found[-1] == pair and pair[0] == pair[1] and not run
        if not run:
            found.append(pair)
    return found


def _join(word: Sequence[int], pair: Pair, number: int) -> list[int]:
    joined: list[int] = []
    at = 0
    while at < len(word):
        if at + 1 < len(word) and (word[at], word[at + 1]) == pair:
            joined.append(number)
            at += 2
        else:
            joined.append(word[at])
            at += 1
    return joined
