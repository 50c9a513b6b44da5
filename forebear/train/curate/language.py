"""Says in which language a text is, offline: the model lies inside the installed package.

Rests on py3langid (140 languages, a naive Bayes model over byte n-grams, 4.5 MB, no pickle):
deterministic, no download, about a millisecond a page. datatrove's own filter wants fastText and a
model from the network. Titles of a few words are told apart badly (that of a disease passes for
Latin), so keep the filter to running text.

Source: Lui and Baldwin 2012, langid.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from forebear.errors import EnvironmentFailure
from forebear.train.curate.params import LanguageParams

# The beginning says enough, and a book costs no more than a page.
_MAX_CHARACTERS = 1_000


@lru_cache(maxsize=1)
def _model() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise EnvironmentFailure(
            "the language filter is on, but py3langid is not installed",
            where="params.yaml: curate.language",
            fix="pip install 'forebear[train]'",
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(text: str) -> tuple[str, float]:
    """The likeliest language of ``text`` (ISO 639) and its probability, in [0, 1]."""
    name, score = _model().classify(text[:_MAX_CHARACTERS])
    return str(name), float(score)


class Language(BaseFilter):
    """Drops texts that are not likely enough in one of the languages; names it in the others."""

    name = "language"

    def __init__(self, wanted: LanguageParams, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.keep = frozenset(wanted.keep)
        self.min_score = wanted.min_score
        self.roles = frozenset(wanted.roles)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep ``doc``, with the reason when not."""
        if doc.metadata["role"] not in self.roles:
            return True
        name, score = language_of(doc.text)
        if name not in self.keep:
            return False, name
        doc.metadata["language"] = name
        return True if score >= self.min_score else (False, f"unsure_{name}")
