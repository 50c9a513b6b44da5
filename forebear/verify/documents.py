"""Documents rendered again from their facts, and approvals compared with what people signed.

Serves check C14, which has the facts compared with the evidence.

Rests on: compliance page, sections 1, 2 and 11.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.verify.result import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebear.documents.values import Facts

_INDEX = "documents.json"
_APPROVALS = "approvals/"


def index_digests(index: Mapping[str, Any]) -> dict[str, object]:
    """Digest of each document by its name, as the index says."""
    listed = index.get("documents")
    entries = listed if isinstance(listed, list) else []
    return {
        str(entry.get("path")): entry.get("sha256") for entry in entries if isinstance(entry, dict)
    }


def check_texts(
    folder: str, index: Mapping[str, Any], facts: Facts, files: Mapping[str, bytes]
) -> Iterator[Finding]:
    """Each document once more from the facts: its bytes, or its digest where it is absent.

    Args:
        folder: of the documents, with its slash.
        index: value of ``documents.json``.
        facts: what the documents show.
        files: bytes by name; those for authorities may be left out.
    """
    from forebear.documents.build import render_documents
    from forebear.documents.difference import first_difference

    language = str(index.get("language"))
    rendered = render_documents(facts, previous=_previous(folder, files), language=language)
    listed = index_digests(index)
    theirs = {name for name in files if not name.startswith(_APPROVALS)}
    for name in sorted((rendered.keys() | theirs) - {_INDEX}):
        where = f"{folder}{name}"
        if name not in rendered:
            yield Finding(where, "is no document that the facts give")
        elif name in files:
            if rendered[name] != files[name]:
                yield Finding(where, first_difference(name, rendered[name], files[name]))
        elif name not in listed:
            yield Finding(where, "is missing")
        elif hashlib.sha256(rendered[name]).hexdigest() != listed[name]:
            yield Finding(where, "is not what the facts give, by its digest")
    if index != _index_of(folder, facts, files, rendered, language):
        yield Finding(f"{folder}{_INDEX}", "is not the index of these documents")


def _index_of(
    folder: str,
    facts: Facts,
    files: Mapping[str, bytes],
    rendered: Mapping[str, bytes],
    language: str,
) -> Any:
    """The index as the facts give it, with the approvals that lie there."""
    from forebear.documents.build import render_index

    approvals = {name: data for name, data in files.items() if name.startswith(_APPROVALS)}
    kept = {name: data for name, data in rendered.items() if name != _INDEX}
    again = render_index(facts, {**kept, **approvals}, language)
    return strictjson.parse(again, where=f"{folder}{_INDEX}")


def _previous(folder: str, files: Mapping[str, bytes]) -> Facts | None:
    """Facts of the release before, as they were compared."""
    from pydantic import ValidationError

    from forebear.documents.registry import PREVIOUS
    from forebear.documents.values import Facts

    if PREVIOUS not in files:
        return None
    try:
        return Facts.model_validate_json(files[PREVIOUS])
    except ValidationError as error:
        raise FormatError("holds no facts", f"{folder}{PREVIOUS}") from error


def check_approvals(folder: str, facts: Facts, files: Mapping[str, bytes]) -> Iterator[Finding]:
    """What the facts say about approvals is what the signed statements beside them say.

    Whose key may approve is for the auditor, who sees name, role and key of each.
    """
    from forebear.documents.approvals import fault_of_copy, parse_approval

    listed = set()
    for entry in facts.approvals:
        if entry.status == "missing":
            continue
        name = f"{_APPROVALS}{entry.file}"
        listed.add(name)
        text = fault_of_copy(entry, files.get(name))
        if text:
            yield Finding(f"{folder}{name}", text)
        elif entry.status in ("valid", "rejected"):
            about = parse_approval(files[name], where=name).facts_sha256
            if about != facts.sha256():
                yield Finding(f"{folder}{name}", "is about other facts")
    for name in sorted(files):
        if name.startswith(_APPROVALS) and name not in listed:
            yield Finding(f"{folder}{name}", "is no approval that the facts list")
