"""Licences (D11): what each part of the model asks for, what is met, and what conflicts.

Source: compliance page, sections 8 (D11) and 10.
"""

from __future__ import annotations

from forebear.documents import tables
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import Document, Lines, Section, Table, facts_of, fill
from forebear.documents.values import Facts

ID = "D11"
DOCUMENT = Document(
    ID,
    "licences",
    "licences",
    (
        Section("d11.outcome", (
            Lines(("licences.status", "licences.open_eu", "model.licence", "model.licence_url",
                   "model.licence_category")),)),
        Section("d11.conflicts", (tables.CONFLICTS,)),
        Section("d11.duties", (Lines(("licences.notices",)), tables.DUTIES)),
        Section("d11.items", (
            Table("licences.items", ("item", "use", "licence", "class", "status", "reason", "path",
                                     "source"), records=True),)),
        Section("d11.labels", (tables.LABELS,)),
        Section("d11.reviews", (
            Table("licences.reviews", ("item", "conclusion", "by", "role", "date")),)),
    ),
    intro=("d11.intro",),
)  # fmt: skip
SHOWS = {ID: facts_of(DOCUMENT)}


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """The list of licences, in Markdown, HTML and JSON."""
    return files_of(fill(DOCUMENT, facts, load_locale(language)), DOCUMENT.name)
