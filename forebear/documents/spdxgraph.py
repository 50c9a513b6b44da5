"""The graph of an SPDX 3.0.1 document: elements with ids of their own, one creation info for all.

Knows the serialisation and nothing of models. Ids are ``urn:forebear:<evidence root>:<reference>``,
so the same release gives the same ids.

Source: compliance page, section 8, D9; SPDX 3.0.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents.parts import reference
from forebear.documents.spdxlicence import (
    NOASSERTION,
    is_expression,
    listed_id,
    reference_for,
    references,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
SPEC_VERSION = "3.0.1"
NO_LICENCE = "expandedlicensing_NoAssertionLicense"
_CREATION = "_:creation"
_ROOT_LENGTH = 16
_NO_TEXT = "The text of this licence is not part of this document."


class Graph:
    """Elements in the order in which they were added.

    Args:
        root: evidence root, from which ids are made.
        created: the document's time.
    """

    def __init__(self, root: str, created: str) -> None:
        self._prefix = f"urn:forebear:{root[:_ROOT_LENGTH]}:"
        self._created = created
        self._elements: dict[str, dict[str, Any]] = {}
        self._lines: dict[str, list[tuple[str, str]]] = {}

    def iri(self, ref: str) -> str:
        """The id of the element with this reference."""
        return self._prefix + ref

    @property
    def ids(self) -> list[str]:
        """Ids of all elements."""
        return list(self._elements)

    def add(self, ref: str, kind: str, **fields: Any) -> str:
        """Adds an element and gives its id; absent and empty fields are left out."""
        iri = self.iri(ref)
        body = {name: value for name, value in fields.items() if value not in (None, [], "")}
        self._elements[iri] = {"type": kind, "spdxId": iri, "creationInfo": _CREATION, **body}
        return iri

    def agent(self, name: str | None) -> str:
        """The organisation of this name; one that stands for nobody known where it is None."""
        name = name or NOASSERTION
        ref = reference("agent", name)
        if self.iri(ref) in self._elements:
            return self.iri(ref)
        return self.add(ref, "Organization", name=name)

    def relate(self, source: str, kind: str, targets: Sequence[str]) -> None:
        """Adds a relationship; none where there is no target."""
        if not targets:
            return
        ref = f"{source.removeprefix(self._prefix)}:{kind}"
        self.add(ref, "Relationship", **{"from": source}, relationshipType=kind,
                 to=sorted(set(targets)), completeness="noAssertion")  # fmt: skip

    def licence(self, subject: str, text: str | None, url: str | None) -> None:
        """Says under which licence the subject was declared to be."""
        target = NO_LICENCE if text is None else self._licence(text, url)
        self.relate(subject, "hasDeclaredLicense", [target])

    def _licence(self, text: str, url: str | None) -> str:
        expression = listed_id(text) or (text if is_expression(text) else reference_for(text))
        ref = reference("licence", expression)
        if self.iri(ref) in self._elements:
            return self.iri(ref)
        named = [
            {"type": "DictionaryEntry", "key": name, "value": self._licence_text(name, text, url)}
            for name in references(expression)
        ]
        return self.add(ref, "simplelicensing_LicenseExpression",
                        simplelicensing_licenseExpression=expression,
                        simplelicensing_customIdToUri=named)  # fmt: skip

    def _licence_text(self, name: str, text: str, url: str | None) -> str:
        told = f"{text}: see {url}" if url else f"{text}. {_NO_TEXT}"
        return self.add(reference("licence-text", name), "simplelicensing_SimpleLicensingText",
                        name=name, simplelicensing_licenseText=told)  # fmt: skip

    def note(self, subject: str, lines: Iterable[tuple[str, str]]) -> None:
        """Keeps lines about the subject; they become one annotation."""
        self._lines.setdefault(subject, []).extend(lines)

    def write(self, creator: str, tool: str) -> dict[str, Any]:
        """The document: creation info, elements, annotations."""
        for subject, lines in self._lines.items():
            ref = subject.removeprefix(self._prefix)
            statement = "\n".join(f"{name}={text}" for name, text in dict.fromkeys(lines))
            self.add(f"{ref}:note", "Annotation", annotationType="other", subject=subject,
                     contentType="text/plain", statement=statement)  # fmt: skip
        creation = {
            "type": "CreationInfo",
            "@id": _CREATION,
            "specVersion": SPEC_VERSION,
            "created": self._created,
            "createdBy": [creator],
            "createdUsing": [tool],
        }
        return {"@context": CONTEXT, "@graph": [creation, *self._elements.values()]}


def sha256(digest: str | None, comment: str | None = None) -> list[dict[str, Any]]:
    """The integrity method that names a digest; empty where there is none."""
    if digest is None:
        return []
    body = {"type": "Hash", "algorithm": "sha256", "hashValue": digest}
    return [{**body, "comment": comment} if comment else body]


def entries(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The pairs as dictionary entries, each key once."""
    return [
        {"type": "DictionaryEntry", "key": key, "value": value}
        for key, value in dict(pairs).items()
    ]
