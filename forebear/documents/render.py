"""The JSON of a document becomes Markdown; every text that is not ours is escaped.

Jinja2 runs with autoescape on, and its last step before output is our own escape, so a template
cannot forget it. Declared text may not add headings, HTML, links or tables. Text shows two to
four significant figures, JSON the exact value.

Source: compliance page, sections 1, 7 and 12.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from forebear.documents.body import Body, Line
from forebear.documents.fields import FIELDS_BY_ID
from forebear.documents.locale import load_locale
from forebear.documents.numbers import format_number
from forebear.documents.strictyaml import dump_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebear.documents.locale import Locale
    from forebear.documents.values import Declarer, EvidenceFile, EvidenceRef, Source, Value

_SPECIAL = re.compile(r"([\\`*_\[\]{}|#~$!])")
_LIST_START = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_WEB = re.compile(r"https?://[!#-&(-;=?-\[\]_a-z~]+")
_SHORT_DIGEST = 12
_SAID_BY_LABEL = {"parameters", "entries", "steps", "items", "cores"}
_SAID_BY_COLUMN = {"tokens", "documents"} | _SAID_BY_LABEL


def trusted(text: str) -> Markup:
    """Text that is ours or already escaped; the only door past the escape."""
    return Markup(text)  # noqa: S704  # every caller is in this module


def escape(text: str) -> Markup:
    """The text as inline Markdown that shows exactly it, on one line."""
    line = " ".join(text.split())
    line = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in line)
    line = _SPECIAL.sub(r"\\\1", line)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return trusted(_LIST_START.sub(_escape_start, line))


def code(text: str) -> Markup:
    """The text as it may stand between backticks in a table."""
    line = "".join(c for c in text if c.isprintable() and c != "`")
    return trusted(line.replace("|", "\\|"))


def _escape_start(match: re.Match[str]) -> str:
    found = match.group(1)
    # a number is escaped at its dot, where it would become a list
    return f"{found}\\" if found.isdecimal() else f"\\{found}"


def _finalize(value: object) -> object:
    if hasattr(value, "__html__"):
        return value
    return escape(str(value))


class Numbering:
    """Numbers of the evidence appendix, in the order of first use.

    Args:
        values: all that the document shows.
    """

    def __init__(self, values: Iterable[Value]) -> None:
        self._rows: dict[str, tuple[int, Value]] = {}
        self._people: dict[Declarer, int] = {}
        self._sources: dict[Source, int] = {}
        for value in values:
            if value.kind == "computed":
                self._rows.setdefault(_basis(value), (len(self._rows) + 1, value))
            elif value.kind == "declared" and value.by is not None:
                self._people.setdefault(value.by, len(self._people) + 1)
            elif value.kind == "reported" and value.source is not None:
                self._sources.setdefault(value.source, len(self._sources) + 1)

    def mark(self, value: Value) -> tuple[str, str]:
        """Mark of a value and the anchor of what it rests on.

        Raises:
            KeyError: the document's appendix has no row for it.
        """
        if value.kind == "computed":
            return "●", f"e{self._rows[_basis(value)][0]}"
        if value.kind == "declared" and value.by is not None:
            return "○", f"d{self._people[value.by]}"
        if value.kind == "reported" and value.source is not None:
            return "◇", f"s{self._sources[value.source]}"
        raise KeyError(value.kind)

    def rows(self) -> list[tuple[int, Value]]:
        """Number and value of each row."""
        return list(self._rows.values())

    def people(self) -> list[tuple[int, Declarer]]:
        """Number of each person who declares."""
        return [(number, by) for by, number in self._people.items()]

    def sources(self) -> list[tuple[int, Source]]:
        """Number of each publication."""
        return [(number, source) for source, number in self._sources.items()]

    def files(self) -> list[EvidenceRef | EvidenceFile]:
        """Each file once, by path."""
        found = {(ref.path, ref.sha256): ref for _, value in self.rows() for ref in value.evidence}
        return [found[key] for key in sorted(found)]


def _basis(value: Value) -> str:
    return repr((value.evidence, value.inputs, value.method))


def render_markdown(document: Body) -> bytes:
    """The document with its own evidence appendix."""
    return _Markdown(document, Numbering(document.values()), home="").render("document.md.j2")


def hub_card(card: Body, front_matter: Mapping[str, Any], *, oecd: Body, home: str) -> bytes:
    """The hub's README: front matter first, marks lead into the appendix of the OECD card.

    Args:
        card: what it shows.
        front_matter: metadata of the hub, in order.
        oecd: the document whose appendix holds the evidence.
        home: file name of that document.

    Raises:
        KeyError: the card shows what the OECD card does not.
    """
    writer = _Markdown(card, Numbering(oecd.values()), home=home)
    return writer.render("README.md.j2", front_matter=trusted(dump_mapping(dict(front_matter))))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("forebear.documents"),
        autoescape=True,
        finalize=_finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(code=code, ours=trusted)
    return environment


class _Markdown:
    def __init__(self, document: Body, numbering: Numbering, *, home: str) -> None:
        self._document = document
        self._locale = load_locale(document.language)
        self._numbering = numbering
        self._home = home

    def render(self, template: str, **more: Any) -> bytes:
        """The template filled in."""
        text = (
            _environment()
            .get_template(template)
            .render(
                doc=self._document,
                numbering=self._numbering,
                show=self._show,
                missing=self._missing,
                label=self._label,
                say=self._say,
                **more,
            )
        )
        return re.sub(r"\n{3,}", "\n\n", re.sub(r" +\n", "\n", text)).encode()

    def _label(self, key: str, **values: object) -> Markup:
        """Words of ours; what is put into them is escaped."""
        text = trusted(self._locale.text(key))
        return text.format(**values) if values else text

    def _say(self, kind: str, literal: str) -> str:
        return self._locale.word(kind, literal)

    def _missing(self, label: str, supplier: str) -> Markup:
        """The notice that stands in place of a required declaration."""
        word = self._locale.text("missing")
        return Markup("**{}: {} ({})**").format(trusted(word), escape(label), escape(supplier))

    def _show(
        self, value: Value, line: Line | None = None, *, full: bool = False, unsure: bool = False
    ) -> Markup:
        """A value with its mark; in a table when no line is given."""
        if line is not None and line.boxes and not isinstance(value.value, bool):
            return escape(self._boxes(None))
        if value.kind in ("unknown", "not_applicable"):
            if line is None and not full:
                return escape(self._locale.text("unknown") if value.kind == "unknown" else "–")
            name = self._locale.text(value.kind)
            return Markup("{} ({})").format(name, escape(value.reason or ""))
        text = show_plain(value, self._locale, line, short=line is None and not full)
        if line is not None and line.boxes:
            text = escape(self._boxes(value.value is True))
        if unsure and value.kind == "computed" and value.interval is None:
            text += escape(self._locale.text("unsure"))
        mark, anchor = self._numbering.mark(value)
        return text + trusted(f"\u00a0[{mark}]({self._home}#{anchor})")

    def _boxes(self, answer: bool | None) -> str:
        ticked = ("☒", "☐") if answer else ("☐", "☐" if answer is None else "☒")
        return f"{ticked[0]} {self._locale.text('yes')} {ticked[1]} {self._locale.text('no')}"


def show_plain(
    value: Value, locale: Locale, line: Line | None = None, *, short: bool = False
) -> Markup:
    """The value as Markdown without its mark."""
    raw = value.value
    if isinstance(raw, bool):
        return escape(locale.text("yes" if raw else "no"))
    if isinstance(raw, (int, float)):
        # a seed is a name, no quantity
        is_name = line is not None and line.fact.endswith(".seed")
        return escape(str(raw)) if is_name else _show_number(raw, value, locale, short=short)
    if isinstance(raw, dict):
        return _show_mapping(raw, locale, line, short=short)
    if isinstance(raw, list) and len(raw) > 1 and not short:
        items = (
            Markup("\n  - {}").format(_show_text(str(one), locale, line, short=short))
            for one in raw
        )
        return Markup("").join(items)
    if isinstance(raw, list):
        shown = Markup("; ").join(_show_text(str(one), locale, line, short=short) for one in raw)
        return shown or escape(locale.text("none"))
    return _show_text(str(raw), locale, line, short=short)


def _show_mapping(
    raw: Mapping[str, Any], locale: Locale, line: Line | None, *, short: bool
) -> Markup:
    """A text in several languages, or named figures."""
    if raw and all(re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", str(key)) for key in raw):
        if locale.language in raw:
            return _show_text(str(raw[locale.language]), locale, line, short=short)
        language, text = next(iter(raw.items()))
        return _show_text(str(text), locale, line, short=short) + escape(
            " " + locale.text("original", language=language)
        )
    return escape(in_words(raw, locale) or locale.text("none"))


def in_words(value: Any, locale: Locale) -> str:
    """Settings as a reader may take them in: no brackets, no keys of files."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if one not in (None, [], {}, "")}
        return "; ".join(
            f"{locale.labels.get(f'name.{key}') or key.replace('_', ' ')}: {in_words(one, locale)}"
            for key, one in kept.items()
        )
    if isinstance(value, list):
        return ", ".join(in_words(one, locale) for one in value)
    if isinstance(value, bool):
        return locale.text("yes" if value else "no")
    if isinstance(value, (int, float)):
        return format_number(value, None)
    if _HEX.fullmatch(str(value)):
        return f"{str(value)[:_SHORT_DIGEST]}…"
    return locale.word("name", str(value))


def _show_text(text: str, locale: Locale, line: Line | None, *, short: bool) -> Markup:
    if _HEX.fullmatch(text):
        return trusted(f"`{text[:_SHORT_DIGEST]}…`" if short else f"`{text}`")
    if _WEB.fullmatch(text):
        # the pattern lets no markup pass
        return trusted(f"<{text}>")
    if line is not None and line.fact in FIELDS_BY_ID and FIELDS_BY_ID[line.fact].choices:
        return escape(locale.word("choice", text))
    return escape(locale.word("name", text))


def _show_number(number: float, value: Value, locale: Locale, *, short: bool) -> Markup:
    """A number with unit, estimate, bound and interval; all of it is our own text."""
    silent = _SAID_BY_COLUMN if short else _SAID_BY_LABEL
    text = format_number(number, None if value.unit in silent else value.unit)
    if value.lower_bound:
        text = f"≥ {text}"
    if value.estimate and not short:
        text = locale.text("bound" if value.lower_bound else "estimate", number=text)
    if value.interval is not None:
        low, high = (format_number(b, None) for b in (value.interval.low, value.interval.high))
        text += locale.text("interval", level=f"{value.interval.level:.0%}", low=low, high=high)
    return escape(text)
