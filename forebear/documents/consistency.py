"""What the schemas of the machine-readable documents do not check: references, gaps, repetitions.

Seen to pass the strict CycloneDX validator: a reference used twice, a dependency on nothing. Seen
to pass SPDX's schema: an AI package without supplier or download location. Pure: parsed documents
in, sentences out.

Source: compliance page, section 8 (D2, D8, D9) and section 13, tests 11 to 14.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MAX_METRICS = 50  # the hub's own limit for one card
_CARD_KEYS = ("license", "library_name", "pipeline_tag", "base_model", "datasets")
_AI_FIELDS = (
    "name", "software_packageVersion", "software_downloadLocation", "suppliedBy", "releaseTime",
    "software_primaryPurpose", "ai_autonomyType", "ai_useSensitivePersonalInformation",
    "ai_informationAboutTraining", "ai_informationAboutApplication", "ai_typeOfModel",
)  # fmt: skip
_DATASET_FIELDS = (
    "name", "software_packageVersion", "software_downloadLocation", "suppliedBy", "originatedBy",
    "builtTime", "releaseTime", "software_primaryPurpose", "dataset_datasetType",
    "dataset_dataCollectionProcess", "dataset_hasSensitivePersonalInformation",
    "dataset_intendedUse", "dataset_knownBias", "dataset_dataPreprocessing",
)  # fmt: skip
_PLACEHOLDERS = {"", "unknown", "none", "n/a", "latest", "todo", "tbd"}
_REMOTE = "unavailable (remote)"


# ── D8 ─────────────────────────────────────────────────────────────────────────────────────────


def cyclonedx_faults(bill: Mapping[str, Any]) -> list[str]:
    """Repeated references, dependencies on nothing, components that lack what each must have."""
    components = list(_components(bill))
    refs = [str(component.get("bom-ref")) for component in components]
    known = set(refs)
    faults = [f"bom-ref {ref} stands twice" for ref, n in Counter(refs).items() if n > 1]
    listed = [entry for entry in bill.get("dependencies", []) if isinstance(entry, Mapping)]
    entries = Counter(str(entry.get("ref")) for entry in listed)
    faults += [f"dependencies list {ref} twice" for ref, n in entries.items() if n > 1]
    faults += [f"dependencies name {ref}, which is nowhere" for ref in entries if ref not in known]
    faults += [f"{ref} has no entry in dependencies" for ref in known - entries.keys()]
    for entry in listed:
        faults += [
            f"{entry.get('ref')} depends on {target}, which is nowhere"
            for target in entry.get("dependsOn", [])
            if target not in known
        ]
    for component in components:
        faults += _component_faults(component, known)
    for number, found in enumerate(bill.get("vulnerabilities", [])):
        faults += [
            f"vulnerability {number} affects {target.get('ref')}, which is nowhere"
            for target in found.get("affects", [])
            if target.get("ref") not in known
        ]
    return sorted(faults)


def _components(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every component, nested ones included: whatever has a type and a name of its own."""
    if isinstance(value, list):
        for entry in value:
            yield from _components(entry)
    elif isinstance(value, Mapping):
        if "bom-ref" in value and "name" in value:
            yield value
        for key, inner in value.items():
            if key not in ("properties", "data", "organization"):
                yield from _components(inner)


def _component_faults(component: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    ref = str(component.get("bom-ref"))
    for name in ("type", "name", "bom-ref", "licenses"):
        if not component.get(name):
            yield f"{ref} has no {name}"
    if str(component.get("version", "")).lower() in _PLACEHOLDERS:
        yield f"{ref} has no version"
    if component.get("type") == "machine-learning-model" and not ref.startswith("ancestor/"):
        yield from _model_faults(ref, component, known)


def _model_faults(ref: str, component: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    """What a model lacks; one that is nowhere in the release may lack more."""
    parameters = component.get("modelCard", {}).get("modelParameters", {})
    for entry in parameters.get("datasets", []):
        if entry.get("ref") not in known:
            yield f"{ref} was trained on {entry.get('ref')}, which is nowhere"
    marks = {(entry.get("name"), entry.get("value")) for entry in component.get("properties", [])}
    if ("forebear:digest", _REMOTE) in marks:
        return
    if not component.get("hashes"):
        yield f"{ref} is local and has no SHA-256"
    for name in ("task", "modelArchitecture", "datasets"):
        if not parameters.get(name):
            yield f"{ref} has no {name}"


# ── D9 ─────────────────────────────────────────────────────────────────────────────────────────


def spdx_faults(document: Mapping[str, Any]) -> list[str]:
    """Repeated ids, references to nothing, packages that lack what their profile demands."""
    graph = [element for element in document.get("@graph", []) if isinstance(element, Mapping)]
    ids = [str(element["spdxId"]) for element in graph if "spdxId" in element]
    faults = [f"id {name} stands twice" for name, n in Counter(ids).items() if n > 1]
    known = set(ids)
    for element in graph:
        name = element.get("spdxId")
        faults += [
            f"{name} refers to {text}, which is nowhere"
            for text in _texts(element)
            if text.startswith("urn:forebear:") and text not in known
        ]
        fields = {
            "ai_AIPackage": _AI_FIELDS,
            "dataset_DatasetPackage": _DATASET_FIELDS,
        }.get(str(element.get("type")), ())
        faults += [f"{name} has no {field}" for field in fields if not element.get(field)]
    return sorted(set(faults))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


# ── D2 ─────────────────────────────────────────────────────────────────────────────────────────


def hub_card_faults(matter: Mapping[str, Any]) -> list[str]:
    """What the hub would refuse, or read wrongly, in the card's metadata."""
    faults = [f"has no {name}" for name in _CARD_KEYS if not matter.get(name)]
    faults += [f"{name} is null" for name, value in matter.items() if value is None]
    if any(not isinstance(entry, str) for entry in matter.get("datasets") or []):
        faults.append("datasets holds something that is no text")
    pairs: Counter[tuple[str, str]] = Counter()
    for model in matter.get("model-index") or []:
        for result in model.get("results", []):
            suite = str(result.get("dataset", {}).get("type"))
            for metric in result.get("metrics", []):
                pairs[suite, str(metric.get("type"))] += 1
                faults += _metric_faults(suite, metric)
    faults += [f"metric {m} of {suite} stands twice" for (suite, m), n in pairs.items() if n > 1]
    if sum(pairs.values()) > MAX_METRICS:
        faults.append(f"has {sum(pairs.values())} metrics; the hub takes {MAX_METRICS}")
    return sorted(faults)


def _metric_faults(suite: str, metric: Mapping[str, Any]) -> Iterator[str]:
    value = metric.get("value")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(float(value or 0)):
        yield f"metric {metric.get('type')} of {suite} has no finite value"
    if any(entry is None for entry in (metric.get("args") or {}).values()):
        yield f"metric {metric.get('type')} of {suite} has a null among its arguments"
