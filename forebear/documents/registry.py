"""All documents by id: who may read them, which schema they have, and how they are made.

Source: compliance page, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from forebear.documents import (
    annexes,
    annexiv,
    applicabilitycard,
    cards,
    changes,
    copyrightpolicy,
    croissant,
    cyclonedx,
    hubcard,
    mdform,
    obligations,
    spdx,
    summary,
)
from forebear.documents.locale import ENGLISH
from forebear.documents.values import Facts

Audience = Literal["public", "downstream providers", "authorities on request", "internal"]
RESTRICTED = "restricted/"
PREVIOUS = "previous.facts.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the documents' folder.

    Attributes:
        id: ``D1`` to ``D13``; empty for what is no document of its own.
        schema: name for ``forebear document --schema``; empty where another body keeps it.
    """

    id: str
    audience: Audience
    schema: str = ""


_RESTRICTED: Audience = "authorities on request"
# id, beginning of the files' names, who may read them, schema of the JSON
_FILES: tuple[tuple[str, str, Audience, str], ...] = (
    ("D1", "model-card.oecd.", "public", "model-card.oecd"),
    ("D2", "README.md", "public", ""),
    ("D3", f"{RESTRICTED}annex-xi.", _RESTRICTED, "annex-xi"),
    ("D4", "annex-xii.", "downstream providers", "annex-xii"),
    ("D5", "training-content-summary.", "public", "training-content-summary"),
    ("D5", "top-domains.csv", "public", ""),
    ("D6", "model-documentation-form.dp.", "downstream providers", "model-documentation-form"),
    ("D6", f"{RESTRICTED}model-documentation-form.", _RESTRICTED, "model-documentation-form"),
    ("D7", "copyright-policy.", "public", "copyright-policy"),
    ("D7", f"{RESTRICTED}copyright-policy.internal.", "internal", "copyright-policy"),
    ("D8", "bom.cdx.json", "public", ""),
    ("D9", "bom.spdx.json", "public", ""),
    ("D10", "croissant/", "public", ""),
    ("D11", "licences.", "public", "licences"),
    ("D12", "changes.", "public", "changes"),
    ("D13", "annex-iv-inputs.yaml", "downstream providers", ""),
    ("", "applicability.", "internal", "applicability"),
)
_MODULES: tuple[ModuleType, ...] = (
    cards,
    hubcard,
    annexes,
    summary,
    mdform,
    copyrightpolicy,
    cyclonedx,
    spdx,
    croissant,
    obligations,
    annexiv,
    applicabilitycard,
)
_OTHERS = {
    "facts.json": Entry("", "internal", "facts"),
    "documents.json": Entry("", "internal", "documents"),
    PREVIOUS: Entry("", "internal", "facts"),
}


def render_all(
    facts: Facts, *, language: str = ENGLISH, previous: Facts | None = None
) -> dict[str, bytes]:
    """Every document by its name below the folder; facts and index are the caller's.

    Args:
        facts: what may be shown.
        language: of the labels.
        previous: facts of the release before this one.

    Raises:
        UsageError: the language has no complete catalogue.
    """
    # as it will be read back: no document may rest on an order that the file does not keep
    facts = Facts.model_validate_json(facts.to_bytes())
    files: dict[str, bytes] = {}
    for module in _MODULES:
        files.update(module.render(facts, language))
    files.update(changes.render(facts, language, previous))
    return files


def render_formats(facts: Facts, *, language: str = ENGLISH) -> dict[str, bytes]:
    """The documents whose form others have fixed (D2, D8, D9, D10), as :func:`render_all` has them.

    What a check looks at: the rest is Markdown and HTML of the same facts, and takes the longest.
    """
    facts = Facts.model_validate_json(facts.to_bytes())
    files: dict[str, bytes] = {}
    for module in (hubcard, cyclonedx, spdx, croissant):
        files.update(module.render(facts, language))
    return files


def entry(name: str) -> Entry:
    """Which document a file belongs to, and who may read it; internal when it is none."""
    if name in _OTHERS:
        return _OTHERS[name]
    for document, beginning, audience, schema in _FILES:
        if name.startswith(beginning):
            return Entry(document, audience, schema if name.endswith(".json") else "")
    return Entry("", "internal")


def documents_with(fact: str) -> tuple[str, ...]:
    """Ids of the documents that show a fact or a table."""
    found = {
        document
        for module in (*_MODULES, changes)
        for document, facts in module.SHOWS.items()
        if fact in facts
    }
    return tuple(sorted(found, key=lambda one: int(one[1:])))
