"""What can be seen of an answer without understanding it: repetition, words, length, markdown.

Source: evaluation page, section 6.
"""

from __future__ import annotations

import re

INCOHERENT_REPETITION = 0.5
_WORD = re.compile(r"\w+")
_UNIT = re.compile(r"\w{1,12}|[^\w\s]")  # a word without end counts as many
_TOKEN = re.compile(r"\w+|[^\w\s]")
_NGRAM = 3
# Text of this many words without one of the commonest. Measured on 2,188 answers of models (XSTest,
# LLMBar, MT-Bench, Arena-Hard's baseline): 5, all of them lists or code; none among XSTest's.
_ENOUGH_WORDS = 20
COMMON_WORDS = (
    "the of to and a in is it you that for on with as are this be i or by from at not can have "
    "an if your was but we they"
)
_COMMON = frozenset(COMMON_WORDS.split())
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LIST = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


def repetition_rate(text: str) -> float:
    """Share of the three-word sequences that stood before, in [0, 1]."""
    units = [unit.casefold() for unit in _UNIT.findall(text)]
    count = len(units) - _NGRAM + 1
    if count < 1:
        return 0.0
    distinct = {tuple(units[start : start + _NGRAM]) for start in range(count)}
    return 1.0 - len(distinct) / count


def is_incoherent(text: str) -> bool:
    """Whether no sentence was written: nothing, the same over and over, or words at random.

    The last is seen for English only: many words, not one of the commonest among them.
    """
    words = [word.casefold() for word in _WORD.findall(text)]
    if not words or repetition_rate(text) > INCOHERENT_REPETITION:
        return True
    spoken = [word for word in words if not word.isdigit()]
    return len(spoken) >= _ENOUGH_WORDS and _COMMON.isdisjoint(spoken)


def token_count(text: str) -> int:
    """Words and punctuation marks: the same measure for texts of any model."""
    return len(_TOKEN.findall(text))


def style_counts(text: str) -> dict[str, int]:
    """Tokens, and markdown headers, list items and bold spans outside fenced code."""
    prose = _FENCE.sub("", text)
    return {
        "tokens": token_count(text),
        "headers": len(_HEADER.findall(prose)),
        "lists": len(_LIST.findall(prose)),
        "bold": len(_BOLD.findall(prose)),
    }
