"""Filled sections become Markdown and JSON; every text that is not ours is escaped.

Jinja2 runs with autoescape on, and its last step before output is our own escape, so a template
cannot forget it. Declared text may not add headings, HTML, links or tables. Text shows three or
four significant figures, JSON the exact value.

Source: compliance page, sections 1, 7 and 12.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from forebear.documents.cards import HUB_SECTIONS, NAMES, OECD_SECTIONS, front_matter
from forebear.documents.fields import FIELDS_BY_ID, Field
from forebear.documents.layout import fill
from forebear.documents.numbers import format_number
from forebear.documents.strictyaml import dump_mapping
from forebear.formats import strictjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.documents.values import Declarer, Facts, Missing, Value

CARD = "model-card.oecd.md"
CARD_JSON = "model-card.oecd.json"
HUB_CARD = "README.md"

_SPECIAL = re.compile(r"([\\`*_\[\]{}|#~$!])")
_LIST_START = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHORT_DIGEST = 12
_SAID_BY_LABEL = {"parameters", "entries", "steps", "items", "cores"}
_SAID_BY_COLUMN = {"tokens", "documents"} | _SAID_BY_LABEL
_CHOICES = {
    "internal_only": "internal use only",
    "sme": "small or medium enterprise",
    "mid": "mid-sized enterprise",
    "large": "large enterprise",
    "free_open_source": "free and open source",
    "open_weights_restricted": "open weights with restrictions",
    "not_placed": "not placed on the Union market",
}


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
    """Numbers of the evidence appendix, given in the order of first use."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, Value]] = {}
        self._people: dict[Declarer, int] = {}

    def number(self, value: Value) -> int:
        """The number of what this value rests on."""
        key = repr((value.evidence, value.inputs, value.method))
        if key not in self._rows:
            self._rows[key] = len(self._rows) + 1, value
        return self._rows[key][0]

    def person(self, by: Declarer) -> int:
        """The number of a person who declares."""
        return self._people.setdefault(by, len(self._people) + 1)

    def people(self) -> list[tuple[int, Declarer]]:
        """Number and person of each row."""
        return [(number, by) for by, number in self._people.items()]

    def rows(self) -> list[tuple[int, Value]]:
        """Number and value of each row."""
        return list(self._rows.values())


class Renderer:
    """Renders the documents of one set of facts.

    Args:
        facts: what may be shown.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._numbering = Numbering()
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("forebear.documents"),
            autoescape=True,
            finalize=_finalize,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.filters.update(missing=show_missing, code=code, ours=trusted)

    def documents(self) -> dict[str, bytes]:
        """File name to bytes, in the order of the index."""
        sections = [
            {
                "number": number,
                "heading": section.heading,
                "oecd": list(section.oecd),
                "blocks": fill(section.plans, self._facts),
            }
            for number, section in enumerate(OECD_SECTIONS, start=1)
        ]
        card = self._render("model-card.oecd.md.j2", sections=sections, home="")
        hub = self._render(
            "README.md.j2",
            sections=[(s.heading, fill(s.plans, self._facts)) for s in HUB_SECTIONS],
            front_matter=trusted(dump_mapping(front_matter(self._facts))),
            home=CARD,
        )
        appendix = self._render(
            "appendix.md.j2",
            rows=self._numbering.rows(),
            people=self._numbering.people(),
            home="",
        )
        return {
            CARD: (card + appendix).encode(),
            CARD_JSON: _card_json(self._facts, sections),
            HUB_CARD: hub.encode(),
        }

    def _render(self, template: str, *, home: str, **values: Any) -> str:
        def show(value: Value, fact: str = "", *, short: bool = False) -> Markup:
            return self._show(value, fact, home, short=short)

        text = self._environment.get_template(template).render(
            facts=self._facts, show=show, **values
        )
        return re.sub(r"\n{3,}", "\n\n", re.sub(r" +\n", "\n", text))

    def _show(self, value: Value, fact: str, home: str, *, short: bool) -> Markup:
        """A value with its mark; ``home`` is the document that holds the appendix."""
        if value.kind in ("unknown", "not_applicable"):
            if short:
                return escape("unknown" if value.kind == "unknown" else "–")
            name = "unknown" if value.kind == "unknown" else "not applicable"
            return Markup("{} ({})").format(name, escape(value.reason or ""))
        text = show_plain(value, fact, short=short)
        if value.kind == "computed":
            number = self._numbering.number(value)
            return text + trusted(f" [●]({home}#e{number})")
        if value.by is not None:
            return text + trusted(f" [○]({home}#d{self._numbering.person(value.by)})")
        return text + trusted(" ◇")


def show_plain(value: Value, fact: str = "", *, short: bool = False) -> Markup:
    """The value as Markdown without its mark."""
    raw = value.value
    if isinstance(raw, bool):
        return escape("yes" if raw else "no")
    if isinstance(raw, (int, float)):
        return _show_number(raw, value, short=short)
    if isinstance(raw, list) and len(raw) > 1 and not short:
        return Markup("").join(Markup("\n  - {}").format(escape(str(item))) for item in raw)
    if isinstance(raw, list):
        return Markup("; ").join(escape(str(item)) for item in raw) or Markup("none")
    return _show_text(str(raw), FIELDS_BY_ID.get(fact), short=short)


def _show_text(text: str, field: Field | None, *, short: bool) -> Markup:
    if _HEX.fullmatch(text):
        return trusted(f"`{text[:_SHORT_DIGEST]}…`" if short else f"`{text}`")
    if field is not None and field.kind in ("url", "contact") and text.startswith("http"):
        # the reader of declarations has made sure that no markup stands in it
        return trusted(f"<{text}>")
    if field is not None and field.choices:
        return escape(_CHOICES.get(text, text))
    return escape(NAMES.get(text, text))


def _show_number(number: float, value: Value, *, short: bool) -> Markup:
    """A number with unit, estimate and interval; all of it is our own text."""
    silent = _SAID_BY_COLUMN if short else _SAID_BY_LABEL
    text = format_number(number, None if value.unit in silent else value.unit)
    if value.estimate and not short:
        text = f"about {text} (estimate)"
    if value.interval is not None:
        low, high = (format_number(b, None) for b in (value.interval.low, value.interval.high))
        text += f" ({value.interval.level:.0%}: {low} to {high})"
    return trusted(text)


def show_missing(missing: Missing) -> Markup:
    """The notice that stands in place of a required declaration."""
    return Markup("**MISSING: {} ({})**").format(escape(missing.label), escape(missing.supplier))


def _card_json(facts: Facts, sections: Sequence[dict[str, Any]]) -> bytes:
    body = {
        "schema": "forebear.model-card.oecd/0",
        "draft": facts.draft,
        "document_time": facts.document_time,
        "evidence_root": facts.evidence_root,
        "facts_sha256": facts.sha256(),
        "sections": [
            {**section, "blocks": [block.to_json() for block in section["blocks"]]}
            for section in sections
        ],
    }
    return strictjson.dumps(body)
