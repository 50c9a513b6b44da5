"""Licence texts as SPDX reads them: an identifier of the list, an expression, or just a name.

The list is a bundled copy of its names, so that documents are made without any library.

Source: compliance page, section 8, D8 (``license.id`` takes identifiers of the list only).
"""

from __future__ import annotations

import functools
import re
from importlib import resources

from forebear.documents.strictyaml import parse_mapping

NOASSERTION = "NOASSERTION"
_LIBRARIES_FILE = "library_licences.yaml"
_IDS_FILE = "spdx-licence-ids.txt"
_WORD = re.compile(r"\(|\)|[^\s()]+")
_REFERENCE = re.compile(r"(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+")


@functools.cache
def licence_ids() -> dict[str, str]:
    """Identifiers of the list, by their lower-case form: case does not matter in them."""
    file = resources.files("forebear") / "data" / "schemas" / _IDS_FILE
    return {name.lower(): name for name in file.read_text("utf-8").split()}


def listed_id(text: str) -> str | None:
    """The identifier of the list that the text is; None where it is none."""
    return licence_ids().get(text.strip().lower())


def is_expression(text: str) -> bool:
    """Whether the text is an SPDX expression over identifiers and ``LicenseRef-`` names."""
    words = _WORD.findall(text)
    depth, wants_operand = 0, True
    for position, word in enumerate(words):
        if word == "(" and wants_operand:
            depth += 1
        elif word == ")" and not wants_operand and depth:
            depth -= 1
        elif word in ("AND", "OR", "WITH") and not wants_operand:
            wants_operand = True
        elif wants_operand and (_is_licence(word) or _follows_with(words, position)):
            wants_operand = False
        else:
            return False
    return bool(words) and not depth and not wants_operand


def references(text: str) -> list[str]:
    """The ``LicenseRef-`` names in an expression."""
    return [word for word in _WORD.findall(text) if _REFERENCE.fullmatch(word)]


def reference_for(text: str) -> str:
    """A ``LicenseRef-`` name for a licence that the list does not have."""
    return "LicenseRef-" + (re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-") or "unnamed")


@functools.cache
def _libraries() -> dict[str, dict[str, str]]:
    file = resources.files("forebear") / "data" / _LIBRARIES_FILE
    return parse_mapping(file.read_bytes(), where=_LIBRARIES_FILE)


def library_licence(name: str) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """Licence of a library by its normal name, and the line that says who told it."""
    entry = _libraries().get(name)
    if entry is None:
        return None, ()
    said = f"metadata of the package, version {entry['version']}"
    return entry["licence"], (("forebear:reported:licence", said),)


def _is_licence(word: str) -> bool:
    name = word.removesuffix("+")
    return name.lower() in licence_ids() or _REFERENCE.fullmatch(word) is not None


def _follows_with(words: list[str], position: int) -> bool:
    return position > 0 and words[position - 1] == "WITH" and words[position][:1].isalnum()
