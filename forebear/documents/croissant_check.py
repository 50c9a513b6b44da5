"""What a Croissant file must hold beyond what the reference validator demands.

That validator accepts a file without licence, creator or version; a reader needs all three.

Source: compliance page, section 8, D10 (our own check).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from forebear.documents.reading import web_address

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
REQUIRED = (
    "name", "description", "url", "license", "version", "datePublished", "creator", "citeAs",
    "inLanguage", "distribution", "recordSet",
)  # fmt: skip
RESPONSIBLE = (
    "rai:dataCollection", "rai:dataCollectionTimeframe", "rai:dataPreprocessingProtocol",
    "rai:personalSensitiveInformation", "rai:dataBiases", "rai:dataLimitations",
    "rai:dataUseCases",
)  # fmt: skip
_FILE_FIELDS = (
    "@id", "name", "contentUrl", "encodingFormat", "contentSize", "sha256",
)  # fmt: skip
_SOURCE_FIELDS = ("@id", "name", "contentUrl", "encodingFormat", "sha256")
# fields that hold the text of a record
TEXTS = (
    "text", "messages", "prompt", "question", "description", "title", "choices", "options",
    "answer", "response", "chosen", "rejected",
)  # fmt: skip
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def lacking(document: Mapping[str, Any], *, trained: bool = True) -> list[str]:
    """Fields that we require and the reference validator does not, by path; empty when all stand.

    Args:
        document: the parsed file.
        trained: False for a set that is only measured on; digest and source do for that.
    """
    files = _mappings(document.get("distribution"))
    here = [entry for entry in files if web_address(str(entry.get("contentUrl"))) is None]
    here = here if trained or document.get("recordSet") else []
    needed = [name for name in REQUIRED if name != "recordSet" or here or not files]
    faults = [name for name in (*needed, *RESPONSIBLE) if not document.get(name)]
    if document.get("conformsTo") != CONFORMS_TO:
        faults.append("conformsTo")
    if not _VERSION.fullmatch(str(document.get("version", "0.0.0"))):
        faults.append("version: MAJOR.MINOR.PATCH")
    creator = document.get("creator")
    if isinstance(creator, Mapping):
        faults += [f"creator.{name}" for name in ("@type", "name", "url") if not creator.get(name)]
    for entry in files:
        wanted = _FILE_FIELDS if entry in here else _SOURCE_FIELDS
        faults += [f"distribution.{name}" for name in wanted if not entry.get(name)]
    for entry in _mappings(document.get("recordSet")):
        faults += _lacking_fields(entry)
    return sorted(set(faults))


def _lacking_fields(record_set: Mapping[str, Any]) -> list[str]:
    fields = _mappings(record_set.get("field"))
    names = {str(field.get("name")) for field in fields}
    faults = [f"recordSet.{name}" for name in ("id", "source", "licence") if name not in names]
    if not names & set(TEXTS):
        faults.append("recordSet.text")
    key = record_set.get("key")
    if not (isinstance(key, Mapping) and any(f.get("@id") == key.get("@id") for f in fields)):
        faults.append("recordSet.key")
    if any(not f.get("dataType") or not (f.get("source") or f.get("value")) for f in fields):
        faults.append("recordSet.field: dataType and source")
    return faults


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) \
        else []  # fmt: skip
