"""One component of the CycloneDX bill: name, version, licence, digests, and what they rest on.

Source: compliance page, section 8, D8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents.parts import DataSet, FilePart, Library, Model
from forebear.documents.spdxlicence import NOASSERTION, is_expression, listed_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebear.documents.parts import Part
    from forebear.documents.reading import Cells

_CLASSES = {"allowed": "public", "digests_only": "restricted", "no": "restricted"}
_SENSITIVE = "personal data"


def component_of(part: Part, kind: str) -> dict[str, Any]:
    """The component; models get their card from the caller.

    Args:
        part: what to list.
        kind: its ``type``.
    """
    lines = list(part.lines)
    body: dict[str, Any] = {
        "type": kind,
        "bom-ref": part.ref,
        "name": part.name,
        "version": part.version,
        "licenses": licences(part.licence, part.licence_url),
    }
    if part.licence is None:
        lines.append(("forebear:licence", "unknown"))
    if part.supplier:
        body["supplier"] = organization(part.supplier)
    if part.digest is not None:
        body["hashes"] = [{"alg": "SHA-256", "content": part.digest}]
    elif isinstance(part, Model):
        lines.append(("forebear:digest", "unavailable (remote)" if part.remote else "unknown"))
    if part.url:
        body["externalReferences"] = [{"type": "distribution", "url": part.url}]
    if isinstance(part, Library) and part.purl:
        body["purl"] = part.purl
    if isinstance(part, DataSet):
        body["data"] = [_data(part)]
        lines += [("forebear:file", f"{path} sha256:{digest}") for path, digest in part.files]
    if isinstance(part, FilePart) and part.size_bytes is not None:
        lines.append(("forebear:size-bytes", str(part.size_bytes)))
    if lines:
        body["properties"] = properties(lines)
    return body


def _data(part: DataSet) -> dict[str, Any]:
    cells = part.cells
    body: dict[str, Any] = {"type": "dataset", "name": part.name}
    if part.url:
        body["contents"] = {"url": part.url}
    body["classification"] = _CLASSES.get(cells.text("redistribution") or "", "unknown")
    sensitive = cells.text("sensitive")
    if sensitive in ("yes", "unknown", None):
        body["sensitiveData"] = [_SENSITIVE if sensitive == "yes" else f"{_SENSITIVE}: unknown"]
    description = describe(part)
    if description:
        body["description"] = description
    if part.supplier:
        body["governance"] = {"owners": [{"organization": organization(part.supplier)}]}
    return body


def describe(part: DataSet) -> str:
    """What a data set is, in one line, from what is known of it."""
    cells = part.cells
    known = [
        cells.text("description", "content_types"),
        _said("used as", cells.text("role")),
        _said("origin:", cells.text("origin")),
        _period(cells.text("collected_from"), cells.text("collected_to")),
        _said("documents:", cells.text("documents")),
        _tokens(cells),
    ]
    return "; ".join(text for text in known if text)


def _said(words: str, text: str | None) -> str | None:
    return f"{words} {text}" if text else None


def _tokens(cells: Cells) -> str | None:
    """Whole tokens; the exact figure stands among the facts."""
    number = cells.number("tokens")
    if number is None:
        return None
    about = "about " if cells.value("tokens").estimate else ""
    return f"tokens: {about}{round(number)}"


def _period(start: str | None, end: str | None) -> str | None:
    return f"collected {start or 'unknown'} to {end or 'unknown'}" if start or end else None


def licences(text: str | None, url: str | None) -> list[dict[str, Any]]:
    """The licence choice: an identifier of the list, an expression, or a name with its address."""
    if text is None:
        return [{"license": {"name": NOASSERTION}}]
    link = {"url": url} if url else {}
    found = listed_id(text)
    if found is not None:
        return [{"license": {"id": found, **link}}]
    if is_expression(text):
        return [{"expression": text}]
    return [{"license": {"name": text, **link}}]


def organization(name: str, url: str | None = None, mail: str | None = None) -> dict[str, Any]:
    """An organisation by name."""
    body: dict[str, Any] = {"name": name}
    if url:
        body["url"] = [url]
    if mail:
        body["contact"] = [{"email": mail}]
    return body


def properties(lines: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The lines as properties, each once."""
    return [{"name": name, "value": text} for name, text in dict.fromkeys(lines)]
