"""D8: the bill of materials of the release, CycloneDX 1.7.

Written as plain JSON, so that no library is needed to make it again. Beside each figure stands a
property that names the signed place behind it, or the role of whoever declared it. What is unknown
is left out or said to be so; no vulnerability, energy or licence is invented.

Source: compliance page, section 8, D8; CycloneDX 1.7.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from forebear.documents.bill import read_bill
from forebear.documents.cyclonedx_card import final_card, plain_card
from forebear.documents.cyclonedx_parts import (
    component_of,
    licences,
    organization,
    properties,
)
from forebear.documents.generator import generator_sha256
from forebear.documents.parts import FINAL, RELEASE, SHOWN, Bill
from forebear.documents.reading import Reader, email_address, web_address
from forebear.documents.spdxlicence import NOASSERTION
from forebear.formats import strictjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebear.documents.parts import Model
    from forebear.documents.values import Facts

ID = "D8"
FILE = "bom.cdx.json"
FILES = (FILE,)
SHOWS = {ID: SHOWN | {"security.vex", "risk.items", "risk.fairness"}}
_SHORT = 12
_VEX_STATES = {
    "resolved", "resolved_with_pedigree", "exploitable", "in_triage", "false_positive",
    "not_affected",
}  # fmt: skip
_VEX_REASONS = {
    "code_not_present", "code_not_reachable", "requires_configuration", "requires_dependency",
    "requires_environment", "protected_by_compiler", "protected_at_runtime",
    "protected_at_perimeter", "protected_by_mitigating_control",
}  # fmt: skip


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """The file by its name."""
    reader = Reader(facts, language)
    bill = read_bill(facts, language)
    body: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, facts.evidence_root)}",
        "version": 1,
        "metadata": _metadata(reader, bill),
        "components": _components(reader, bill),
        "dependencies": _dependencies(bill),
    }
    found = _vulnerabilities(reader, bill)
    if found:
        body["vulnerabilities"] = found
    return {FILE: strictjson.dumps(body)}


def _metadata(reader: Reader, bill: Bill) -> dict[str, Any]:
    facts, release = reader.facts, reader.release
    recorder = next((part for part in bill.libraries if part.name == "forebear"), None)
    generator = generator_sha256()
    tool = {
        "type": "application",
        "bom-ref": "tool/forebear",
        "name": "forebear",
        "version": recorder.version if recorder else f"sha256-{generator[:_SHORT]}",
        "licenses": licences("Apache-2.0", None),
        "description": "Wrote this file; the digest is that of the code which did.",
        "hashes": [{"alg": "SHA-256", "content": generator}],
    }
    body: dict[str, Any] = {
        "timestamp": facts.document_time,
        "lifecycles": [{"phase": "build"}],
        "tools": {"components": [tool]},
        "component": {
            "type": "application",
            "bom-ref": RELEASE,
            "name": f"{bill.final.name}, release",
            "version": bill.final.version,
            "description": "The release: the final model, its evidence and its documents.",
            "licenses": licences(bill.final.licence, bill.final.licence_url),
            "externalReferences": _references(reader, bill),
            "properties": properties(
                [
                    ("forebear:evidence-root", facts.evidence_root),
                    ("forebear:facts", f"sha256:{facts.sha256()}"),
                    ("forebear:draft", "yes" if facts.draft else "no"),
                    *([] if bill.final.licence else [("forebear:licence", "unknown")]),
                ]
            ),
        },
        "licenses": [{"license": {"id": "CC0-1.0"}}],
    }
    name, contact = release.text("provider.legal_name"), release.text("provider.contact")
    if name is None:
        body["properties"] = [{"name": "forebear:provider", "value": "unknown"}]
        return body
    mail = email_address(contact)
    author = {"name": name, **({"email": mail} if mail else {})}
    return {
        **body,
        "authors": [author],
        "manufacturer": organization(name, web_address(contact), mail),
        "properties": properties(
            [
                line
                for fact in ("provider.legal_name", "provider.contact")
                for line in reader.evidence(fact, release.value(fact))
            ]
        ),
    }


def _references(reader: Reader, bill: Bill) -> list[dict[str, Any]]:
    """Model card, licence, documentation, and each link with its digest."""
    listed = [
        {"type": "model-card", "url": "model-card.oecd.html"},
        {"type": "documentation", "url": "README.md"},
        {"type": "documentation", "url": "facts.json"},
    ]
    if bill.final.licence_url:
        listed.append({"type": "license", "url": bill.final.licence_url})
    links = {
        file.link: file.link_sha256
        for file in reader.facts.evidence
        if file.link_sha256 is not None
    }
    attested: list[dict[str, Any]] = [
        {
            "type": "attestation",
            "url": link,
            "comment": "Signed record of one stage.",
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for link, digest in sorted(links.items())
    ]
    return [*listed, *attested]


def _components(reader: Reader, bill: Bill) -> list[dict[str, Any]]:
    listed = []
    for model in bill.models:
        body = component_of(model, "machine-learning-model")
        if model.role == "final":
            body["modelCard"] = final_card(reader, model)
            _complete_final(body, reader, bill)
        else:
            body["modelCard"] = plain_card(reader, model)
        listed.append(body)
    listed += [component_of(part, "data") for part in (*bill.sets, *bill.undisclosed)]
    listed += [
        component_of(part, "library" if part.purl else "application") for part in bill.libraries
    ]
    return listed


def _complete_final(body: dict[str, Any], reader: Reader, bill: Bill) -> None:
    """What the final model has besides: files, ancestors, release notes."""
    if bill.files:
        body["components"] = [component_of(part, "file") for part in bill.files]
    ancestors = [_ancestor(part) for part in bill.others if part.role in ("base", "teacher")]
    if ancestors:
        body["pedigree"] = {"ancestors": ancestors}
    body["releaseNotes"] = _release_notes(reader, bill.final)


def _ancestor(part: Model) -> dict[str, Any]:
    """An ancestor within the pedigree, where a part stands again under a reference of its own."""
    body: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"ancestor/{part.ref}",
        "name": part.name,
        "version": part.version,
        "licenses": licences(part.licence, part.licence_url),
        "properties": properties(
            [
                ("forebear:same-as", part.ref),
                *([] if part.licence else [("forebear:licence", "unknown")]),
            ]
        ),
    }
    if part.digest is not None:
        body["hashes"] = [{"alg": "SHA-256", "content": part.digest}]
    return body


def _release_notes(reader: Reader, final: Model) -> dict[str, Any]:
    numbers = final.version.split("-")[0].split("+")[0].split(".")
    kind = "patch"
    if numbers[-1:] == ["0"]:
        kind = "major" if numbers[1:] == ["0", "0"] else "minor"
    body: dict[str, Any] = {"type": kind, "timestamp": reader.facts.document_time}
    notes = reader.release.texts("release.changes")
    if notes:
        body["notes"] = [{"text": {"contentType": "text/plain", "content": n}} for n in notes]
        lines = reader.evidence("release.changes", reader.release.value("release.changes"))
        body["properties"] = properties(lines)
    return body


def _dependencies(bill: Bill) -> list[dict[str, Any]]:
    """An entry for every reference; data sets, libraries and files rest on nothing further."""
    listed: dict[str, list[str]] = {
        RELEASE: [FINAL, *(part.ref for part in bill.libraries)],
        "tool/forebear": [],
    }
    present = {part.ref for part in bill.parts}
    judges = [part.ref for part in bill.others if part.role == "judge"]
    tests = [part.ref for part in bill.sets if not part.trains]
    for model in bill.models:
        needs = [*model.parents, *model.sets]
        if model.role == "final":
            needs += [*tests, *judges, *(part.ref for part in bill.files)]
            needs += [m.ref for m in bill.others if m.role in ("base", "teacher")]
        listed[model.ref] = [ref for ref in dict.fromkeys(needs) if ref in present]
        if model.role in ("base", "teacher"):
            listed[f"ancestor/{model.ref}"] = [model.ref]
    for part in bill.parts:
        listed.setdefault(part.ref, [])
    return [
        {"ref": ref, **({"dependsOn": sorted(needs)} if needs else {})}
        for ref, needs in sorted(listed.items())
    ]


def _vulnerabilities(reader: Reader, bill: Bill) -> list[dict[str, Any]]:
    """Only what people declare; a state or reason that CycloneDX does not know is left out."""
    by_name: Mapping[str, str] = {part.name: part.ref for part in reversed(bill.parts)}
    listed = []
    for row in reader.rows("security.vex"):
        state, reason = row.text("state"), row.text("justification")
        analysis = {
            "state": state if state in _VEX_STATES else None,
            "justification": reason if reason in _VEX_REASONS else None,
            "detail": row.text("detail"),
        }
        listed.append(
            {
                "id": row.text("id") or NOASSERTION,
                "analysis": {key: text for key, text in analysis.items() if text is not None},
                "affects": [{"ref": by_name.get(row.text("component") or "", RELEASE)}],
                "properties": properties(
                    [line for n in row.names() for line in reader.evidence(n, row.value(n))]
                ),
            }
        )
    return listed
