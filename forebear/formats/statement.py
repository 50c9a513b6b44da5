"""Statements (in-toto Statement v1) and the Sigstore bundle v0.3 that carries one.

A bundle of the owner's key holds a hint which key to try and no log entry. Refuses unknown fields,
digests other than SHA-256 and any serialisation but ours. Verifies nothing: the envelope that it
hands out is for ``forebear.signing.signer``.

Source: in-toto attestation framework, Statement v1; Sigstore bundle v0.3; provenance page,
section 7.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.formats.dsse import Envelope, parse_envelope, render_envelope

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

BASE = "https://github.com/forebear-ml/forebear"
SLSA_PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VSA = "https://slsa.dev/verification_summary/v1"
RELEASE = f"{BASE}/release/v1"
LEDGER = f"{BASE}/ledger/v1"
REPRODUCTION = f"{BASE}/reproduction/v1"
APPROVAL = f"{BASE}/approval/v1"
WAIVER = f"{BASE}/waiver/v1"
STAGE_BUILD = f"{BASE}/stage/v1"
RECORDER = f"{BASE}/recorder/v1"

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Statement:
    """What is claimed about some artifacts.

    Attributes:
        subjects: name and SHA-256 of each artifact, in order; names are unique.
        predicate_type: says how to read the predicate.
        predicate: JSON values.
    """

    subjects: tuple[tuple[str, str], ...]
    predicate_type: str
    predicate: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A signed payload and what helps to verify it.

    Attributes:
        envelope: payload, type and signature.
        hint: SHA-256 hex of the PEM public key, as model-signing writes it.
    """

    envelope: Envelope
    hint: str


def key_hint(pem: bytes) -> str:
    """Hint of a public key: SHA-256 over its PEM."""
    return hashlib.sha256(pem).hexdigest()


def render_statement(statement: Statement) -> bytes:
    """Payload bytes: canonical JSON and a newline.

    Raises:
        FormatError: no subject, a repeated name, a malformed digest, or no canonical form.
    """
    _require_form(statement, statement.predicate_type)
    return strictjson.dumps(
        {
            "_type": STATEMENT_TYPE,
            "predicate": dict(statement.predicate),
            "predicateType": statement.predicate_type,
            "subject": [descriptor(name, digest) for name, digest in statement.subjects],
        }
    )


def parse_statement(payload: bytes, *, where: str) -> Statement:
    """Statement in the payload of an envelope.

    Raises:
        FormatError: not canonical JSON, or a field is missing, unknown or of the wrong type.
    """
    value = strictjson.parse_canonical(payload, where=where)
    _require_fields(value, {"_type", "predicate", "predicateType", "subject"}, where)
    if value["_type"] != STATEMENT_TYPE:
        raise FormatError(f"_type must be {STATEMENT_TYPE}", where)
    if not isinstance(value["predicateType"], str) or not isinstance(value["predicate"], dict):
        raise FormatError("predicateType must be text and predicate an object", where)
    if not isinstance(value["subject"], list):
        raise FormatError("subject must be a list", where)
    statement = Statement(
        subjects=tuple(_parse_subject(entry, where) for entry in value["subject"]),
        predicate_type=value["predicateType"],
        predicate=value["predicate"],
    )
    _require_form(statement, where)
    return statement


def descriptor(name: str, digest: str) -> dict[str, Any]:
    """A resource descriptor: ``{"name": …, "digest": {"sha256": …}}``."""
    return {"digest": {"sha256": digest}, "name": name}


def render_bundle(bundle: Bundle) -> bytes:
    """File bytes of a bundle with a key: canonical JSON and a newline."""
    envelope = strictjson.parse(render_envelope(bundle.envelope), where="envelope")
    return strictjson.dumps(
        {
            "dsseEnvelope": envelope,
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": bundle.hint}, "tlogEntries": []},
        }
    )


def parse_bundle(data: bytes, *, where: str) -> Bundle:
    """Bundle in the file ``where``, unverified.

    Raises:
        FormatError: not canonical JSON, an unknown field, another media type, no key hint.
    """
    value = strictjson.parse_canonical(data, where=where)
    _require_fields(value, {"dsseEnvelope", "mediaType", "verificationMaterial"}, where)
    if value["mediaType"] != BUNDLE_TYPE:
        raise FormatError(f"mediaType must be {BUNDLE_TYPE}", where)
    material = value["verificationMaterial"]
    _require_fields(material, {"publicKey", "tlogEntries"}, f"{where}: verificationMaterial")
    _require_fields(material["publicKey"], {"hint"}, f"{where}: publicKey")
    hint = material["publicKey"]["hint"]
    if material["tlogEntries"] != []:
        raise FormatError("a bundle with a key has no log entries", where)
    if not isinstance(hint, str) or not _HEX.fullmatch(hint):
        raise FormatError("the hint must be 64 lower-case hex digits", where)
    envelope = parse_envelope(strictjson.dumps(value["dsseEnvelope"]), where=where)
    return Bundle(envelope, hint)


def _parse_subject(value: Any, where: str) -> tuple[str, str]:
    _require_fields(value, {"digest", "name"}, f"{where}: subject")
    name, digest = value["name"], value["digest"]
    _require_fields(digest, {"sha256"}, f"{where}: subject")
    if not isinstance(name, str) or not isinstance(digest["sha256"], str):
        raise FormatError("name and digest must be texts", f"{where}: subject")
    return name, digest["sha256"]


def _require_form(statement: Statement, where: str) -> None:
    names = [name for name, _ in statement.subjects]
    if not names or len(set(names)) != len(names):
        raise FormatError("needs subjects, each name once", where)
    for name, digest in statement.subjects:
        if not _HEX.fullmatch(digest):
            raise FormatError("the digest must be 64 lower-case hex digits", f"{where}: {name!a}")


def _require_fields(value: Any, fields: set[str], where: str) -> None:
    if not isinstance(value, dict) or value.keys() != fields:
        raise FormatError(f"must have exactly the fields {', '.join(sorted(fields))}", where)
