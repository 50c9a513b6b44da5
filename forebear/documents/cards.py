"""What the OECD-profile model card (D1) shows, section by section.

The OECD publishes no form for model cards; the profile says so. A section is a plan over fact
ids, so a value that is not among the facts cannot be shown.

Source: compliance page, section 8, D1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents import tables
from forebear.documents.locale import load_locale
from forebear.documents.output import files_of
from forebear.documents.plans import Document, Lines, Section, Text, facts_of, fill

if TYPE_CHECKING:
    from forebear.documents.body import Body
    from forebear.documents.locale import Locale
    from forebear.documents.values import Facts

ID = "D1"
NAME = "model-card.oecd"

_SECTIONS = (
    Section(
        "d1.identification",
        (
            Lines(("model.name", "model.version", "model.digest", "model.release_date",
                   "model.eu_market_date", "provider.legal_name", "provider.contact",
                   "provider.country", "provider.size", "provider.role",
                   "provider.is_base_provider", "provider.eu_representative")),
            tables.ANCESTORS,
        ),
        oecd=("Actors", "Principle 1.5"),
    ),
    Section(
        "d1.use",
        (Lines(("use.summary", "use.intended", "use.out_of_scope", "use.prohibited", "use.users",
                "use.aup")),),
        oecd=("Task & Output", "Principle 1.3"),
    ),
    Section(
        "d1.economy",
        (
            Lines(("use.sectors", "use.criticality", "model.licence_category",
                   "model.open.monetised")),
            tables.CHANNELS,
        ),
        oecd=("Economic Context",),
    ),
    Section(
        "d1.people",
        (
            Lines(("use.affected", "use.rights_impact")),
            tables.FAIRNESS,
            Lines(("train.energy_modification",), compute=True),
        ),
        oecd=("People & Planet", "Principles 1.1, 1.2"),
    ),
    Section(
        "d1.model",
        (
            tables.ARCHITECTURE,
            tables.MODALITIES,
            Lines(("use.chat_template_sha256",)),
            tables.STEPS,
            tables.REASONS,
            tables.COMPUTE,
            tables.TOTALS,
        ),
        oecd=("AI Model",),
    ),
    Section(
        "d1.data",
        (
            tables.SETS,
            tables.SIZES,
            tables.ROLES,
            tables.LANGUAGES,
            tables.GENERATORS,
            Lines(("data.replay_share", "data.synthetic_share", "data.latest_collection",
                   "data.ledger.kept_documents", "data.ledger.kept", "data.ledger.intake",
                   "data.continuous", "model.base.languages")),
            Text("d1.base_data"),
        ),
        oecd=("Data & Input",),
    ),
    Section(
        "d1.governance",
        (
            Lines(("data.selection", "data.pii.method", "data.pii.detector",
                   "data.pii.entities", "data.pii.removed", "data.pii.recall",
                   "data.illegal_content.method", "data.illegal_content.removed",
                   "data.optout.method", "data.optout.removed_documents", "data.takedown.method",
                   "data.bias_measures", "data.unsuitability_measures")),
            tables.FILTERS,
            Lines(("data.dedup.exact_copy", "data.dedup.near_copies")),
            tables.DECONTAMINATION,
            Lines(("data.takedown.entries", "data.takedown.documents")),
        ),
        oecd=("Data & Input", "Reporting framework 2"),
    ),
    Section(
        "d1.copyright",
        (
            tables.LICENCE,
            Lines(("licences.status", "licences.notices")),
            tables.DUTIES,
            tables.CONFLICTS,
            tables.COPYRIGHT,
            Text("d1.summary_link"),
        ),
        oecd=("Reporting framework 2",),
    ),
    Section(
        "d1.tasks",
        (Lines(("model.modalities_out", "use.autonomy", "oversight.output_marking",
                "model.languages")),),
        oecd=("Task & Output", "Reporting framework 5"),
    ),
    Section(
        "d1.evaluation",
        (
            tables.RESULTS,
            tables.VERDICT,
            tables.PAIRS,
            tables.WAIVERS,
            tables.JUDGES,
            tables.CONTAMINATION,
            tables.NOT_RUN,
            tables.SLICES,
            Lines(("eval.redteam.summary",)),
        ),
        oecd=("Principle 1.4", "Reporting framework 1"),
    ),
    Section(
        "d1.limits",
        (
            Lines(("limit.known",)),
            tables.FOUND,
            Lines(("train.forgetting", "model.base.tuned")),
            tables.ALLOWANCES,
            tables.WAIVERS,
            tables.RISKS,
        ),
        oecd=("Principles 1.3, 1.4", "Reporting framework 1"),
    ),
    Section(
        "d1.oversight",
        (
            Lines(("oversight.measures", "oversight.monitoring", "oversight.incident_contact",
                   "oversight.incident_procedure", "model.base.signature")),
            Text("d1.verify"),
        ),
        oecd=("Principle 1.4", "Reporting framework 2, 4"),
    ),
    Section(
        "d1.accountability",
        (
            tables.LINEAGE,
            tables.SIGNED,
            Lines(("release.changes", "release.previous", "release.retention_until",
                   "provider.contact")),
            tables.LABELS,
            tables.STANDARDS,
        ),
        oecd=("Principle 1.5", "Reporting framework 3, 4"),
    ),
)  # fmt: skip
DOCUMENT = Document(
    ID,
    NAME,
    "model-card.oecd",
    tuple(
        Section(one.key, one.plans, f"{number}.", oecd=one.oecd)
        for number, one in enumerate(_SECTIONS, start=1)
    ),
    intro=("d1.profile",),
)


def card(facts: Facts, locale: Locale) -> Body:
    """The filled card."""
    return fill(DOCUMENT, facts, locale)


SHOWS = {ID: facts_of(DOCUMENT)}


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """The card in Markdown, HTML and JSON."""
    return files_of(card(facts, load_locale(language)), NAME)
