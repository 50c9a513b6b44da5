"""D10: one Croissant 1.1 file for each data set, with its responsible-AI fields.

The files of the corpus stand in it by digest; a set that may not be redistributed names its source
instead and lists no file. What the reference validator does not demand is checked elsewhere.

Source: compliance page, section 8, D10; Croissant 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from forebear.documents.bill import read_bill
from forebear.documents.bill_sets import dropped_by_filters, holds
from forebear.documents.croissant_check import CONFORMS_TO, TEXTS
from forebear.documents.cyclonedx_parts import describe
from forebear.documents.parts import DataSet, reference
from forebear.documents.reading import Reader, web_address
from forebear.documents.spdxlicence import listed_id
from forebear.formats import strictjson

if TYPE_CHECKING:
    from forebear.documents.reading import Cells
    from forebear.documents.values import Facts

ID = "D10"
FOLDER = "croissant/"
SHOWS = {
    ID: {
        "data.sets", "data.files", "data.filters", "data.generators", "data.selection",
        "data.pii.method", "data.unsuitability_measures", "data.ledger.kept", "model.name",
        "model.version", "model.release_date",
    }
}  # fmt: skip

# The context that the format publishes; validators warn where a key of it is missing.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {".jsonl": "application/jsonlines", ".json": "application/json", ".csv": "text/csv"}
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_UNKNOWN = "unknown"
# columns that name a record, the first that there is
_KEYS = ("id", "question_id", "prompt_id", "task_id", "key", "uid")
_LIST_FIELDS = ("choices", "options", "messages")


def file_name(key: str) -> str:
    """Name of a set's file below the documents, from the key of its row."""
    return f"{FOLDER}{re.sub(r'[^A-Za-z0-9._-]+', '-', key).strip('-.') or 'set'}.json"


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """One file for each data set, by name."""
    reader = Reader(facts, language)
    files: dict[str, bytes] = {}
    own = {row.key for row in reader.rows("data.sets")}
    parts = {part.cells.key: part for part in read_bill(facts, language).sets}
    for part in (part for key, part in parts.items() if key in own):
        name = file_name(part.cells.key)
        if name in files:  # two keys may differ in signs that no file name takes
            name = f"{name.removesuffix('.json')}-{len(files)}.json"
        origins = [parts[key] for key in part.made_of]
        files[name] = strictjson.dumps(_document(reader, part, origins))
    return files


def _document(reader: Reader, part: DataSet, origins: list[DataSet]) -> dict[str, Any]:
    """The document of a set; what is told of its sources stands for one that was made of them."""
    cells = part.cells
    told = origins or [part]
    files = [row for row in reader.rows("data.files") if holds(row, cells)]
    shared = cells.text("redistribution") not in ("no", "digests_only")
    listed = [row for row in files if row.text("path") and row.text("sha256")] if shared else []
    body: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": part.name,
        "description": _description(reader, part, listed, shared=shared),
        "url": _address(reader, part),
        "license": _licences(told),
        "version": _version(reader, part),
        "datePublished": _date(reader),
        "creator": _creator(reader, part),
        "citeAs": _citation(part),
        "inLanguage": _languages(told),
        "distribution": [_file_object(row) for row in listed] or _at_the_source(part),
        "recordSet": [_record_set(row, part) for row in listed if row.texts("fields")],
        **_responsible(reader, part, told),
        "prov:wasDerivedFrom": _derived_from(reader, part, told),
    }
    return {key: value for key, value in body.items() if value not in (None, [], "")}


# ── parts of a document ────────────────────────────────────────────────────────────────────────


def _description(reader: Reader, part: DataSet, listed: list[Cells], *, shared: bool) -> str:
    release = f"{reader.release.text('model.name')} {reader.release.text('model.version')}"
    told = describe(part)
    sentences = [f"Data set of the release {release}."]
    if told:
        sentences.insert(0, f"{told}.")
    others = {
        row.text("path") for row in reader.rows("data.files") if not holds(row, part.cells)
    } & {row.text("path") for row in listed}
    if others:
        sentences.append("A file may hold records of other sets too; their field source tells.")
    root = part.cells.text("merkle_root") or reader.release.text("data.ledger.kept")
    if not shared:
        sentences.append("It may not be redistributed; the release holds digests alone.")
    if root:
        sentences.append(f"Merkle root of the documents kept: {root}.")
    return " ".join(sentences)


def _address(reader: Reader, part: DataSet) -> str | None:
    """Of the set; that of the provider for one that was made here."""
    if part.url or not part.made_of:
        return part.url
    channels = [web_address(row.text("url")) for row in reader.rows("use.channels")]
    contact = web_address(reader.release.text("provider.contact"))
    return next((url for url in channels if url), contact)


def _licences(told: list[DataSet]) -> str | list[str] | None:
    """By address where the list has it; one for each source of a made set."""
    if any(part.licence is None for part in told):
        return None
    found = list(dict.fromkeys(_licence(part.licence or "", part.licence_url) for part in told))
    return found[0] if len(found) == 1 else found


def _licence(text: str, url: str | None) -> str:
    name = listed_id(text)
    return url or text if name is None else f"https://spdx.org/licenses/{name}.html"


def _version(reader: Reader, part: DataSet) -> str | None:
    """The set's own version where it has three numbers; else that of the release."""
    told = part.cells.text("version")
    if told is not None and _VERSION.fullmatch(told):
        return told
    match = _VERSION.match(reader.release.text("model.version") or "")
    return match.group() if match else None


def _date(reader: Reader) -> str:
    """Day of the release; the day of the document where none is declared."""
    told = reader.release.text("model.release_date") or ""
    return told if re.fullmatch(r"\d{4}-\d{2}-\d{2}", told) else reader.facts.document_time[:10]


def _creator(reader: Reader, part: DataSet) -> dict[str, str] | None:
    if part.supplier is None:
        return None
    url = web_address(part.cells.text("publisher_url")) or _address(reader, part)
    body = {"@type": "sc:Organization", "name": part.supplier}
    return {**body, "url": url} if url else body


def _citation(part: DataSet) -> str:
    words = [part.supplier or "Unknown publisher", part.name, f"version {part.version}"]
    end = part.cells.text("collected_to")
    return f"{'. '.join([*words, f'collected to {end}'] if end else words)}."


def _languages(told: list[DataSet]) -> list[str]:
    found: set[str] = set()
    for part in told:
        raw = part.cells.value("languages").value
        found.update(raw if isinstance(raw, Mapping) else part.cells.texts("languages"))
    return sorted(found)


def _file_object(row: Cells) -> dict[str, Any]:
    path = PurePosixPath(row.text("path") or "")
    size = row.number("size_bytes", "size")
    body = {
        "@type": "cr:FileObject",
        "@id": _file_id(row),
        "name": path.name,
        "contentUrl": path.as_posix(),
        "encodingFormat": _TYPES.get(path.suffix, "application/octet-stream"),
        "contentSize": None if size is None else f"{int(size)} B",
        "sha256": row.text("sha256"),
    }
    return {key: value for key, value in body.items() if value is not None}


def _at_the_source(part: DataSet) -> list[dict[str, Any]]:
    """Where the release has no file of the set: its digest, and the address of its source."""
    if part.url is None or part.digest is None:
        return []
    return [
        {
            "@type": "cr:FileObject",
            "@id": "source",
            "name": part.name,
            "contentUrl": part.url,
            "encodingFormat": "application/octet-stream",
            "sha256": part.digest,
        }
    ]


def _file_id(row: Cells) -> str:
    return f"file/{row.text('path')}"


def _record_set(row: Cells, part: DataSet) -> dict[str, Any]:
    """The records of one file: id, the texts, source and licence."""
    name = PurePosixPath(row.text("path") or "").stem
    there = row.texts("fields")
    key = next((column for column in _KEYS if column in there), None)
    at = f"records/{name}"
    columns = {field: field for field in (*TEXTS, "source", "licence") if field in there}
    columns = {"id": key, **columns} if key else columns
    constants = {
        "source": part.cells.text("id") or part.cells.key,
        "licence": part.licence or _UNKNOWN,
    }
    body: dict[str, Any] = {
        "@type": "cr:RecordSet",
        "@id": at,
        "name": name,
        "description": f"One record for each line of {row.text('path')}.",
        "field": [
            *(_field(at, field, column, row) for field, column in columns.items()),
            *(
                {**_head(at, field), "value": text}
                for field, text in constants.items()
                if field not in there
            ),
        ],
    }
    if key:
        body["key"] = {"@id": f"{at}/id"}
    return body


def _head(at: str, field: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{at}/{field}",
        "name": field,
        "description": f"The {field} of the record.",
        "dataType": "sc:Text",
    }


def _field(at: str, field: str, column: str, row: Cells) -> dict[str, Any]:
    more = {"isArray": True} if field in _LIST_FIELDS else {}
    source = {"fileObject": {"@id": _file_id(row)}, "extract": {"column": column}}
    return {**_head(at, field), **more, "source": source}


def _responsible(reader: Reader, part: DataSet, told: list[DataSet]) -> dict[str, Any]:
    cells, release = part.cells, reader.release
    starts = [text for one in told if (text := one.cells.text("collected_from"))]
    ends = [text for one in told if (text := one.cells.text("collected_to"))]
    sensitive = {one.cells.text("sensitive") or _UNKNOWN for one in told}
    known = "yes" if "yes" in sensitive else _UNKNOWN if _UNKNOWN in sensitive else "no"
    biases = [text for one in told for text in one.cells.texts("known_bias")]
    return {
        "rai:dataCollection": "; ".join(
            [
                _labelled("Origin", cells.text("origin")),
                _labelled("Publisher", part.supplier),
                _labelled("Selection", release.text("data.selection")),
            ]
        ),
        "rai:dataCollectionTimeframe": [
            _first_day(text) for text in (*sorted(starts)[:1], *sorted(ends)[-1:])
        ],
        "rai:dataPreprocessingProtocol": dropped_by_filters(reader, cells.key) or [_UNKNOWN],
        "rai:personalSensitiveInformation": [
            f"Personal data: {known}.",
            *release.texts("data.pii.method"),
        ],
        "rai:dataBiases": biases or [_UNKNOWN],
        "rai:dataLimitations": release.texts("data.unsuitability_measures") or [_UNKNOWN],
        "rai:dataUseCases": [f"Used as: {cells.text('role') or _UNKNOWN}."],
    }


def _labelled(label: str, text: str | None) -> str:
    return f"{label}: {text or _UNKNOWN}"


def _first_day(month: str) -> str:
    """A date; a month alone begins on its first day."""
    return f"{month}-01" if re.fullmatch(r"\d{4}-\d{2}", month) else month


def _derived_from(reader: Reader, part: DataSet, told: list[DataSet]) -> list[dict[str, str]]:
    """The sources, and every generator of synthetic text."""
    found = [url for one in told if (url := one.url) is not None]
    for row in reader.rows("data.generators"):
        if row.text("set") in (part.cells.key, part.cells.text("id")):
            name = reference(row.text("model") or _UNKNOWN)
            url = web_address(row.text("summary_url"))
            found.append(url or f"urn:forebear:generator:{name}")
    return [{"@id": url} for url in dict.fromkeys(found)]
