"""Words of the documents: one catalogue per language, and no mixture of languages.

A label is asked for by its key. A language lacks a label as soon as English has one that it has
not, and is then refused whole, so that no document can be half translated.

Source: compliance page, section 11 (language).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from forebear.errors import UsageError
from forebear.formats import strictjson

if TYPE_CHECKING:
    from collections.abc import Mapping

ENGLISH = "en"
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True)
class Locale:
    """One language.

    Attributes:
        language: BCP 47 tag.
        labels: text by key.
    """

    language: str
    labels: Mapping[str, str]

    def text(self, key: str, **values: object) -> str:
        """The label, with ``{name}`` replaced.

        Raises:
            UsageError: there is no such label.
        """
        if key not in self.labels:
            raise _lacking(self.language, [key])
        text = self.labels[key]
        return text.format(**values) if values else text

    def first(self, *keys: str) -> str:
        """The first label that there is, from the most to the least specific key.

        Raises:
            UsageError: there is none.
        """
        for key in keys:
            if key in self.labels:
                return self.labels[key]
        raise _lacking(self.language, [keys[-1]])

    def word(self, kind: str, literal: str) -> str:
        """The words for a literal of the evidence, or the literal itself."""
        return self.labels.get(f"{kind}.{literal}", literal)


@cache
def load_locale(language: str = ENGLISH) -> Locale:
    """The catalogue of a language.

    Raises:
        UsageError: it is no language tag, or a label is missing in it.
    """
    if not _LANGUAGE.fullmatch(language):
        raise UsageError(f"{language[:40]!a} is no language tag", "--lang", "for instance en")
    english = _read(ENGLISH)
    labels = english if language == ENGLISH else _read(language)
    lacking = sorted(english.keys() - labels.keys())
    if lacking:
        raise _lacking(language, lacking)
    return Locale(language, labels)


def _read(language: str) -> dict[str, str]:
    file = resources.files("forebear") / "data" / "locale" / f"{language}.json"
    if not file.is_file():
        return {}
    value = strictjson.parse(file.read_bytes(), where=f"locale/{language}.json")
    return {str(key): str(text) for key, text in value.items()}


def _lacking(language: str, keys: list[str]) -> UsageError:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return UsageError(
        f"the catalogue of {language!r} lacks the label {keys[0]!r}{more}",
        f"forebear/data/locale/{language}.json",
        "add it there, or use --lang en",
    )
