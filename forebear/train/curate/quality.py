"""Quality filters: short texts by rules of our own; running text by Gopher's, C4's and FineWeb's.

The last three are datatrove's filters. Its English word tokenizer wants spaCy; ours cuts at white
space and punctuation, which is what these rules count.
"""

from __future__ import annotations

import re

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.c4_filters import C4QualityFilter
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

from forebear.train.curate.params import C4Params, FineWebParams, GopherParams, QualityParams

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
# Limits of Rae et al. 2021, table A1.
_TOP_NGRAMS = ((2, 0.2), (3, 0.18), (4, 0.16))
_COPIED_NGRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


class PlainWords(WhitespaceTokenizer):
    """Words and punctuation marks, in any script that parts words by white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words and marks of ``text``, in order."""
        return _WORD.findall(text)


WORDS = PlainWords()


class ShortTextQuality(BaseFilter):
    """Drops texts that are too short, too long, hardly words, or mostly repeated lines.

    Instructions and preferences pass: their form is ours or was checked when they were read.

    Source: the rules of Rae et al. 2021 (Gopher), appendix A.1.1, with limits for short texts.
    """

    name = "quality"

    def __init__(self, limits: QualityParams, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.limits = limits

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep ``doc``, with the reason when not."""
        if doc.metadata["role"] not in {"domain", "replay"}:
            return True
        reason = quality_fault(doc.text, self.limits)
        return (False, reason) if reason is not None else True


def quality_fault(text: str, limits: QualityParams) -> str | None:
    """The first quality rule that ``text`` breaks, or None."""
    words = text.split()
    if len(words) < limits.min_words:
        return "too_short"
    if len(words) > limits.max_words:
        return "too_long"
    if sum(map(len, words)) / len(words) > limits.max_mean_word_length:
        return "long_words"
    alphabetic = sum(any(letter.isalpha() for letter in word) for word in words)
    if alphabetic / len(words) < limits.min_alphabetic_words:
        return "few_words"
    lines = [line for line in text.splitlines() if line.strip()]
    if 1 - len(set(lines)) / len(lines) > limits.max_duplicate_lines:
        return "repeated_lines"
    return None


class Gopher(BaseFilter):
    """Quality rules, then repetition rules where they are asked for.

    Source: Rae et al. 2021 (Gopher), appendix A.1.1, by datatrove.
    """

    name = "gopher"

    def __init__(self, limits: GopherParams, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.roles = frozenset(limits.roles)
        self.rules: list[BaseFilter] = [
            GopherQualityFilter(
                min_doc_words=limits.min_words,
                max_doc_words=limits.max_words,
                min_avg_word_length=limits.min_mean_word_length,
                max_avg_word_length=limits.max_mean_word_length,
                max_non_alpha_words_ratio=limits.min_alphabetic_words,
                min_stop_words=limits.min_stop_words,
                language=WORDS,
            )
        ]
        if limits.max_repetition is not None:
            scale = limits.max_repetition
            repetition = GopherRepetitionFilter(
                dup_line_frac=0.3 * scale,
                dup_para_frac=0.3 * scale,
                dup_line_char_frac=0.2 * scale,
                dup_para_char_frac=0.2 * scale,
                top_n_grams=tuple((n, share * scale) for n, share in _TOP_NGRAMS),
                dup_n_grams=tuple((n, share * scale) for n, share in _COPIED_NGRAMS),
                language=WORDS,
            )
            self.rules.append(repetition)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep ``doc``, with the reason when not."""
        if doc.metadata["role"] not in self.roles:
            return True
        for rule in self.rules:
            found = rule.filter(doc)
            if found is not True:
                return found
        return True


class C4(C4QualityFilter):
    """Keeps the lines that are sentences, and the texts that have enough of them.

    Source: Raffel et al. 2020 (C4), section 2.2, by datatrove.
    """

    name = "c4"

    def __init__(self, limits: C4Params, exclusion_writer: DiskWriter) -> None:
        super().__init__(
            exclusion_writer,
            min_num_sentences=limits.min_sentences,
            min_words_per_line=limits.min_words_per_line,
            filter_no_terminal_punct=limits.terminal_punctuation,
            filter_curly_bracket=limits.drop_curly_bracket,
            language=WORDS,
        )
        self.roles = frozenset(limits.roles)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep ``doc``, with the reason when not."""
        return doc.metadata["role"] not in self.roles or super().filter(doc)


class FineWeb(FineWebQualityFilter):
    """Drops lists, tables of links and texts that repeat themselves.

    Source: Penedo et al. 2024 (FineWeb), section 3.4, by datatrove.
    """

    name = "fineweb"

    def __init__(self, limits: FineWebParams, exclusion_writer: DiskWriter) -> None:
        super().__init__(
            exclusion_writer,
            line_punct_thr=limits.min_punctuated_lines,
            short_line_thr=limits.max_short_lines,
            short_line_length=limits.short_line_length,
            char_duplicates_ratio=limits.max_duplicate_characters,
            new_line_ratio=limits.max_newlines_per_word,
            language=WORDS,
        )
        self.roles = frozenset(limits.roles)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep ``doc``, with the reason when not."""
        return doc.metadata["role"] not in self.roles or super().filter(doc)
