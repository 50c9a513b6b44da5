"""Facts as a writer of bills reads them: texts, numbers, rows, and what each of them rests on.

An absent cell is an unknown value, so that a repository whose stages record less gives a shorter
bill and never a wrong one. :func:`evidence_of` names the place behind a figure; the bills carry its
lines beside the figure.

Source: compliance page, sections 1, 3 and 8 (D8: sibling properties).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from forebear.documents.values import Row, Value, unknown
from forebear.formats import strictjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebear.documents.values import Facts

# what may stand in a path or a query as it is; other signs of any language are written in codes
_PATH = "/?:@!$&'()*+,;=-._~%"
_ABSENT = unknown("not recorded")
_MAX_DEPTH = 8  # inputs of inputs; a longer chain would be a fault of the facts


class Cells:
    """One row of a table, or the values of the release: named values, unknown where absent."""

    def __init__(self, key: str, cells: Mapping[str, Value], language: str) -> None:
        self.key = key
        self._cells, self._language = cells, language

    def value(self, *names: str) -> Value:
        """The first of the named values that is known; else the first that is there."""
        found = [self._cells[name] for name in names if name in self._cells]
        return next((value for value in found if value.value is not None), [*found, _ABSENT][0])

    def text(self, *names: str) -> str | None:
        """The value as one text; None where it is unknown or empty."""
        return text_of(self.value(*names), self._language)

    def texts(self, *names: str) -> list[str]:
        """The value as a list of texts; empty where it is unknown."""
        raw = self.value(*names).value
        entries = raw if isinstance(raw, list) else [] if raw is None else [raw]
        found = (text_of(_ABSENT.model_copy(update={"value": e}), self._language) for e in entries)
        return [text for text in found if text is not None]

    def number(self, *names: str) -> float | None:
        """The value as a number; None where it is none."""
        raw = self.value(*names).value
        return raw if isinstance(raw, (int, float)) and not isinstance(raw, bool) else None

    def names(self) -> list[str]:
        """Names of the cells that are there."""
        return list(self._cells)


class Reader:
    """The facts of one release, read in one language.

    Args:
        facts: everything that may be shown.
        language: taken where a declared text is given in several.
    """

    def __init__(self, facts: Facts, language: str = "en") -> None:
        self.facts, self._language = facts, language
        self.release = Cells("", facts.values, language)
        self._leaves = dict(facts.leaves())

    def rows(self, table: str) -> list[Cells]:
        """The rows of a table; none where there is no such table."""
        rows: tuple[Row, ...] = self.facts.tables.get(table, ())
        return [Cells(row.key, row.cells, self._language) for row in rows]

    @property
    def withheld(self) -> bool:
        """Whether compute, time and energy are not to be published."""
        return self.release.value("publish.compute_energy").value is False

    def evidence(self, name: str, value: Value) -> list[tuple[str, str]]:
        """Name and content of each line that says what a figure rests on."""
        return list(dict.fromkeys(self._evidence(name, value, 0)))

    def _evidence(self, name: str, value: Value, depth: int) -> Iterator[tuple[str, str]]:
        if value.kind == "computed":
            for ref in value.evidence:
                yield f"forebear:evidence:{name}", f"sha256:{ref.sha256}#{ref.pointer}"
            for leaf in value.inputs if depth < _MAX_DEPTH else ():
                if leaf in self._leaves:
                    yield from self._evidence(name, self._leaves[leaf], depth + 1)
            if value.method and depth == 0:
                estimate = " (estimate)" if value.estimate else ""
                yield f"forebear:method:{name}", f"{value.method}{estimate}"
        elif value.kind == "declared" and value.by is not None:
            yield f"forebear:declared:{name}", value.by.role
        elif value.kind == "reported" and value.source is not None:
            yield f"forebear:reported:{name}", f"{value.source.url} ({value.source.retrieved})"


def text_of(value: Value, language: str = "en") -> str | None:
    """A value as one line of text, numbers in their canonical form; None where there is none."""
    raw: Any = value.value
    if isinstance(raw, dict):
        raw = raw.get(language, next((raw[key] for key in sorted(raw)), None))
    if raw is None or isinstance(raw, dict):
        return None
    if isinstance(raw, bool):
        return "yes" if raw else "no"
    if isinstance(raw, (int, float)):
        return strictjson.canonical(raw).decode()
    if isinstance(raw, list):
        return "; ".join(str(entry) for entry in raw) or None
    return " ".join(str(raw).split()) or None


def web_address(text: str | None) -> str | None:
    """The text if it is an http(s) address without blanks; other schemes never become links.

    Signs that no address may hold are written as their percent codes, for the formats refuse them.
    """
    match = re.fullmatch(r"(https?://[^\s<>\"/?#\[\]]+)([^\s<>\"]*)", text or "")
    if match is None:
        return None
    path, mark, fragment = match.group(2).partition("#")
    rest = quote(path, safe=_PATH) + (f"#{quote(fragment, safe=_PATH)}" if mark else "")
    return match.group(1) + re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", rest)


def email_address(text: str | None) -> str | None:
    """The text if it looks like an e-mail address."""
    return text if text and re.fullmatch(r"[^@\s<>\"]+@[^@\s<>\"]+\.[^@\s<>\"]+", text) else None
