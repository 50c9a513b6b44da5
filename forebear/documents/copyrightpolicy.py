"""The copyright policy (D7): a public copy, and an annex for the provider's own use.

The public copy shows no list's contents and no id of a document of a set that is not public.

Source: compliance page, section 8, D7; Code of Practice, copyright chapter.
"""

from __future__ import annotations

from forebear.documents import tables
from forebear.documents.annexes import mark_of
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import Document, Lines, Section, Table, Text, facts_of, fill
from forebear.documents.values import Facts

ID = "D7"
_BASIS = Table(
    "data.sets",
    ("id", "role", "legal_basis", "licence", "licence_url", "source_url"),
    key="data.sets.basis",
    records=True,
    skip="source_url",
)
_TAKEDOWN = Table(
    "data.takedown.requests",
    ("request", "date", "documents", "stages", "checkpoints", "action"),
    records=True,
)
_TAKEDOWN_RAW = Table(
    "data.takedown.internal",
    ("request", "date", "documents", "stages", "checkpoints", "action"),
    records=True,
)

PUBLIC = Document(
    ID,
    "copyright-policy",
    "copyright-policy",
    (
        Section("d7.scope", (
            Lines(("model.name", "model.version", "copyright.owner", "provider.legal_name")),
            Text("d7.approval")), "1."),
        Section("d7.basis", (_BASIS,), "2."),
        Section("d7.access", (Lines(("copyright.lawful_access",)),), "3."),
        Section("d7.reservations", (
            Lines(("copyright.protocols", "data.optout.method", "data.optout.checked_on",
                   "copyright.third_party_check", "data.optout.removed_documents")),), "4."),
        Section("d7.outputs", (Lines(("copyright.output_measures", "eval.memorisation")),), "5."),
        Section("d7.contact", (
            Lines(("copyright.contact", "copyright.complaint_days")), Text("d7.complaint")), "6."),
        Section("d7.takedown", (
            Lines(("data.takedown.method", "data.takedown.entries", "data.takedown.documents",
                   "data.takedown.stages", "data.takedown.checkpoints")),
            _TAKEDOWN, Text("d7.commitments")), "7."),
        Section("d7.duties", (Lines(("licences.status",)), tables.DUTIES, tables.CONFLICTS), "8."),
        Section("d7.review", (Lines(("copyright.review_date",)),), "9."),
    ),
    intro=("d7.intro", "annex.status"),
)  # fmt: skip
INTERNAL = Document(
    ID,
    "restricted/copyright-policy.internal",
    "copyright-policy",
    (
        Section("d7.lists", (Lines(("copyright.excluded_lists", "data.optout.lists")),)),
        Section("d7.takedown_internal", (_TAKEDOWN_RAW, _TAKEDOWN)),
    ),
    intro=("d7.internal",),
    public=False,
)
SHOWS = {ID: facts_of(PUBLIC) | facts_of(INTERNAL)}


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """Policy and internal annex, in Markdown, HTML and JSON."""
    locale = load_locale(language)
    status = mark_of(facts, ID, locale)
    files: dict[str, bytes] = {}
    for document in (PUBLIC, INTERNAL):
        filled = fill(document, facts, locale, status=status)
        files.update(files_of(filled, document.name))
    return files
