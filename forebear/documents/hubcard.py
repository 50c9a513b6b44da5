"""The hub's model card (D2): a README with metadata that the hub reads.

Unknown values are left out of the front matter: there is no null that a hub would read as "none".

Source: compliance page, section 8, D2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from forebear.documents import cards, tables
from forebear.documents.bill import read_bill
from forebear.documents.consistency import MAX_METRICS
from forebear.documents.locale import load_locale
from forebear.documents.plans import Document, Lines, Section, Text, facts_of, fill
from forebear.documents.reading import Reader, web_address
from forebear.documents.render import hub_card
from forebear.documents.results import Result, results

if TYPE_CHECKING:
    from forebear.documents.parts import DataSet
    from forebear.documents.values import Facts

ID = "D2"
FILE = "README.md"

# Identifiers that the hub knows; every other licence goes by name and link.
_HUB_LICENCES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-ascl", "artistic-2.0", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
    "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0", "epl-1.0",
    "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "gemma", "gfdl", "gpl", "gpl-2.0", "gpl-3.0",
    "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "llama2", "llama3", "llama3.1",
    "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl",
    "odc-by", "ofl-1.1", "openrail", "openrail++", "osl-3.0", "pddl", "postgresql", "unlicense",
    "wtfpl", "zlib",
}  # fmt: skip
_OTHER_NAMES = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_DATASET = re.compile(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)/?")
_TASK = {"type": "text-generation", "name": "Text generation"}

DOCUMENT = Document(
    ID,
    "README",
    "hub-card",
    (
        Section("d2.summary", (
            Lines(("use.summary", "model.version", "model.params_total", "model.context_length",
                   "eval.gate.verdict")),
            tables.ANCESTORS)),
        Section("d2.verify", (Text("d2.verify"), Lines(("model.digest",)))),
        Section("d2.use", (
            Lines(("use.intended", "use.out_of_scope", "use.prohibited", "use.users")),)),
        Section("d2.training", (tables.STEPS, Lines(("train.objective",)))),
        Section("d2.data", (tables.SETS, tables.SIZES, Lines(("data.latest_collection",)))),
        Section("d2.evaluation", (tables.RESULTS, tables.VERDICT, tables.WAIVERS)),
        Section("d2.limits", (Lines(("limit.known",)), tables.FOUND, tables.ALLOWANCES)),
        Section("d2.compute", (tables.TOTALS,)),
        Section("d2.licence", (
            tables.LICENCE, Lines(("licences.notices",)), tables.DUTIES,
            Lines(("copyright.contact",)))),
        Section("d2.citation", (Text("d2.citation"),)),
        Section("d2.more", (Text("d2.more"),)),
    ),
)  # fmt: skip

SHOWS = {ID: facts_of(DOCUMENT)}


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """The card, by its file name."""
    locale = load_locale(language)
    oecd = cards.card(facts, locale)
    card = fill(DOCUMENT, facts, locale)
    home = f"{cards.NAME}.md"
    return {FILE: hub_card(card, front_matter(facts), oecd=oecd, home=home)}


def front_matter(facts: Facts) -> dict[str, Any]:
    """The hub card's metadata, unknown values left out."""
    reader = Reader(facts)
    release, bill = reader.release, read_bill(facts)
    name = release.text("model.name")
    found = _results(reader)
    matter: dict[str, Any] = {
        "language": release.texts("model.languages"),
        **_licence(release.text("model.licence"), web_address(release.text("model.licence_url"))),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **_base(reader),
        "datasets": [_dataset(part) for part in bill.sets if part.trains],
        "tags": ["forebear", "provenance"],
        "model-index": [{"name": name, "results": found}] if name and found else None,
    }
    return {key: value for key, value in matter.items() if value not in (None, [])}


def _licence(text: str | None, url: str | None) -> dict[str, Any]:
    """The hub's identifier; else ``other`` with name and link."""
    if text is None:
        return {}
    plain = text.lower().removesuffix("-only").removesuffix("-or-later")
    plain = _OTHER_NAMES.get(plain, plain)
    if plain in _HUB_LICENCES:
        return {"license": plain}
    other = {"license": "other", "license_name": text.lower()}
    return {**other, "license_link": url} if url else other


def _base(reader: Reader) -> dict[str, Any]:
    """The hub's name of the base; a list where weights of several were merged."""
    merged: list[str] = []
    base: str | None = None
    for row in reader.rows("model.ancestors"):
        name = row.text("name")
        if name is None or not _HUB_ID.fullmatch(name):
            continue
        if row.key == "base":
            base = name
        elif row.text("use") == "merge" and row.value("own").value is not True:
            merged.append(name)
    if merged:
        return {
            "base_model": list(dict.fromkeys([*([base] if base else []), *merged])),
            "base_model_relation": "merge",
        }
    return {"base_model": base, "base_model_relation": "finetune"} if base else {}


def _dataset(part: DataSet) -> str:
    """The hub's id of a set that comes from there; else its name among the facts."""
    match = _HUB_DATASET.fullmatch(part.url or "")
    return match.group(1) if match else part.cells.text("id") or part.name


def _results(reader: Reader) -> list[dict[str, Any]]:
    """One result per suite in the order of the evaluation; the hub takes fifty metrics."""
    listed: dict[str, dict[str, Any]] = {}
    for result in results(reader)[:MAX_METRICS]:
        entry = listed.setdefault(
            result.suite, {"task": dict(_TASK), "dataset": _suite(result), "metrics": []}
        )
        entry["metrics"].append(_metric(result))
    return list(listed.values())


def _suite(result: Result) -> dict[str, Any]:
    cells, name = result.cells, result.suite
    shown = load_locale().word("name", cells.text("task") or name)
    body = {
        "type": name,
        "name": shown,
        "revision": cells.text("suite_version", "data_sha256"),
        "split": cells.text("split"),
    }
    return {key: value for key, value in body.items() if value is not None}


def _metric(result: Result) -> dict[str, Any]:
    interval, n = result.score.interval, result.cells.number("n")
    arguments: dict[str, Any] = {} if n is None else {"n": n}
    if interval is not None:
        arguments |= {
            "interval_low": interval.low,
            "interval_high": interval.high,
            "level": interval.level,
            "method": interval.method,
        }
    body: dict[str, Any] = {
        "type": result.metric,
        "value": result.number,
        "name": load_locale().word("name", result.cells.text("metric") or result.metric),
    }
    return {**body, "args": arguments} if arguments else body
