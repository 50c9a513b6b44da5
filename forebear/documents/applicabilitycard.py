"""When each document is owed, as far as the rules and the facts say; never a verdict.

Source: compliance page, section 5.
"""

from __future__ import annotations

from forebear.documents import tables
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import Document, Lines, Section, Table, Text, fill
from forebear.documents.values import Facts

ID = ""
DOCUMENT = Document(
    "applicability",
    "applicability",
    "applicability",
    (
        Section("applicability.ratio", (
            Lines(("applicability.ratio", "train.flop_modification", "train.flop_base",
                   "train.flop_modification_cumulative", "train.flop_cumulative")),
            Text("applicability.proxy"))),
        Section("applicability.rules", (
            Table("applicability.rules",
                  ("rule", "outcome", "close", "reason", "effect"), records=True),)),
        Section("applicability.marks", (
            Lines(("applicability.mark.D3", "applicability.mark.D4", "applicability.mark.D5",
                   "applicability.mark.D6", "applicability.mark.D7", "applicability.deadline")),)),
        Section("applicability.inputs", (
            Lines(("provider.role", "provider.country", "provider.is_base_provider",
                   "model.eu_market_date", "model.open.weights_public",
                   "model.open.architecture_public", "model.open.usage_info_public",
                   "model.open.monetised", "licences.open_eu")),
            tables.ANCESTORS)),
        Section("applicability.constants", (
            Table("legal.constants",
                  ("reference", "source", "value", "note", "url", "read", "verified_on"),
                  records=True),)),
    ),
    intro=("applicability.intro",),
    public=False,
)  # fmt: skip
SHOWS: dict[str, set[str]] = {}


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """``applicability.md`` and its JSON."""
    files = files_of(fill(DOCUMENT, facts, load_locale(language)), DOCUMENT.name)
    return {name: data for name, data in files.items() if not name.endswith(".html")}
