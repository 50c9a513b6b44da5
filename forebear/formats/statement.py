"""Statements (in-toto Statement v1) and the Sigstore bundle v0.3 that carries one.

A bundle is either of a key (a hint which key to try, no log entry) or of an identity (a
certificate, its log entry and time stamps). Refuses unknown fields, digests other than SHA-256,
loose base64 and, but for files of other tools, any serialisation but ours. Verifies nothing: that
is for ``forebear.signing.signer`` and ``forebear.signing.sigstore``.

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
from forebear.formats.dsse import Envelope, decode_base64, envelope_of, render_envelope

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
_MEDIA_TYPE = re.compile(r"[!-~]{1,255}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_MAX_ITEMS = 64
# datetime ends with the year 9999
_MAX_TIME_S = 253_402_300_799


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
class LogEntry:
    """Where and when a transparency log took a signature in, as the bundle claims.

    Attributes:
        index: in the whole log; covered by ``promise`` alone.
        log_id: which log.
        kind: of the entry, with its version: ``dsse 0.0.1``, ``hashedrekord 0.0.2``.
        time_s: seconds since 1970; covered by ``promise`` alone; None in newer logs.
        promise: the log's signature over index and time; None in newer logs.
        proof_index: position in the tree of the checkpoint.
        tree_size: number of leaves of that tree.
        root: its root hash.
        checkpoint: the log's signed note about that tree.
    """

    index: int
    log_id: bytes
    kind: str
    time_s: int | None
    promise: bytes | None
    proof_index: int
    tree_size: int
    root: bytes
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A signed payload and what helps to verify it.

    Attributes:
        envelope: payload, type and signature; without a key id in the bundle of an identity.
        hint: SHA-256 hex of the PEM public key, as model-signing writes it; empty likewise.
        certificate: DER of the signer's certificate; empty in the bundle of a key.
        entries: log entries; one in a sound bundle of an identity.
        n_stamps: number of time stamps.
    """

    envelope: Envelope
    hint: str = ""
    certificate: bytes = b""
    entries: tuple[LogEntry, ...] = ()
    n_stamps: int = 0


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


def parse_bundle(data: bytes, *, where: str, canonical: bool = True) -> Bundle:
    """Bundle in the file ``where``, unverified.

    Args:
        data: the file.
        where: its name, for the message.
        canonical: refuse any serialisation but ours; false for files that other tools write.

    Raises:
        FormatError: not canonical JSON, an unknown field, another media type, loose base64, or
            neither a key's hint nor a certificate.
    """
    parse = strictjson.parse_canonical if canonical else strictjson.parse
    value = parse(data, where=where)
    _require_fields(value, {"dsseEnvelope", "mediaType", "verificationMaterial"}, where)
    if value["mediaType"] != BUNDLE_TYPE:
        raise FormatError(f"mediaType must be {BUNDLE_TYPE}", where)
    material = value["verificationMaterial"]
    if isinstance(material, dict) and "certificate" in material:
        return _parse_keyless(value["dsseEnvelope"], material, where)
    _require_fields(material, {"publicKey", "tlogEntries"}, f"{where}: verificationMaterial")
    _require_fields(material["publicKey"], {"hint"}, f"{where}: publicKey")
    hint = material["publicKey"]["hint"]
    if material["tlogEntries"] != []:
        raise FormatError("a bundle with a key has no log entries", where)
    if not isinstance(hint, str) or not _HEX.fullmatch(hint):
        raise FormatError("the hint must be 64 lower-case hex digits", where)
    return Bundle(envelope_of(value["dsseEnvelope"], where=where), hint)


def _parse_keyless(envelope: Any, material: dict[str, Any], where: str) -> Bundle:
    """Bundle of an identity; whether its parts belong together is verified elsewhere."""
    place = f"{where}: verificationMaterial"
    stamps_field = "timestampVerificationData"
    _require_fields(material, {"certificate", "tlogEntries"}, place, optional={stamps_field})
    _require_fields(material["certificate"], {"rawBytes"}, f"{where}: certificate")
    stamps = material.get(stamps_field, {})
    _require_fields(stamps, set(), f"{where}: {stamps_field}", optional={"rfc3161Timestamps"})
    stamps = _items(stamps.get("rfc3161Timestamps", []), f"{where}: rfc3161Timestamps")
    for stamp in stamps:
        _require_fields(stamp, {"signedTimestamp"}, f"{where}: rfc3161Timestamps")
        _bytes(stamp, "signedTimestamp", where)
    return Bundle(
        envelope=_parse_anonymous_envelope(envelope, f"{where}: dsseEnvelope"),
        certificate=_bytes(material["certificate"], "rawBytes", where),
        entries=tuple(
            _parse_entry(entry, f"{where}: tlogEntries[{index}]")
            for index, entry in enumerate(_items(material["tlogEntries"], f"{where}: tlogEntries"))
        ),
        n_stamps=len(stamps),
    )


def _parse_anonymous_envelope(value: Any, where: str) -> Envelope:
    """Envelope without a key id: the certificate names the signer."""
    _require_fields(value, {"payload", "payloadType", "signatures"}, where)
    signatures = _items(value["signatures"], where)
    if len(signatures) != 1:
        raise FormatError("must hold exactly one signature", where)
    _require_fields(signatures[0], {"sig"}, f"{where}: signatures[0]", optional={"keyid"})
    if signatures[0].get("keyid", "") != "":
        raise FormatError("the signature of a certificate has no key id", where)
    if not isinstance(value["payloadType"], str) or not _MEDIA_TYPE.fullmatch(value["payloadType"]):
        raise FormatError("payloadType is no media type", where)
    sig = _bytes(signatures[0], "sig", where)
    return Envelope(_bytes(value, "payload", where, empty=True), value["payloadType"], "", sig)


def _parse_entry(value: Any, where: str) -> LogEntry:
    needed = {"canonicalizedBody", "inclusionProof", "kindVersion", "logId", "logIndex"}
    _require_fields(value, needed, where, optional={"inclusionPromise", "integratedTime"})
    proof = value["inclusionProof"]
    parts = {"checkpoint", "hashes", "logIndex", "rootHash", "treeSize"}
    _require_fields(proof, parts, f"{where}: inclusionProof")
    _require_fields(proof["checkpoint"], {"envelope"}, f"{where}: checkpoint")
    _require_fields(value["logId"], {"keyId"}, f"{where}: logId")
    _require_fields(value["kindVersion"], {"kind", "version"}, f"{where}: kindVersion")
    for digest in _items(proof["hashes"], f"{where}: hashes"):
        _bytes({"hashes": digest}, "hashes", where, length=32)
    _bytes(value, "canonicalizedBody", where)
    promise = None
    if "inclusionPromise" in value:
        _require_fields(value["inclusionPromise"], {"signedEntryTimestamp"}, where)
        promise = _bytes(value["inclusionPromise"], "signedEntryTimestamp", where)
    time_s = _number(value, "integratedTime", where) if "integratedTime" in value else None
    if time_s is not None and not 0 < time_s <= _MAX_TIME_S:
        raise FormatError("integratedTime is no time", where)
    return LogEntry(
        index=_number(value, "logIndex", where),
        log_id=_bytes(value["logId"], "keyId", where, length=32),
        kind=f"{_text(value['kindVersion'], 'kind', where)} "
        f"{_text(value['kindVersion'], 'version', where)}",
        time_s=time_s,
        promise=promise,
        proof_index=_number(proof, "logIndex", where),
        tree_size=_number(proof, "treeSize", where),
        root=_bytes(proof, "rootHash", where, length=32),
        checkpoint=_text(proof["checkpoint"], "envelope", where),
    )


def _items(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise FormatError(f"must be a list of at most {_MAX_ITEMS} items", where)
    return value


def _text(value: dict[str, Any], field: str, where: str) -> str:
    text = value[field]
    if not isinstance(text, str):
        raise FormatError("must be text", f"{where}: {field}")
    return text


def _number(value: dict[str, Any], field: str, where: str) -> int:
    """An integer as Protocol Buffers write it into JSON: text, in one form."""
    text = _text(value, field, where)
    if not _NUMBER.fullmatch(text):
        raise FormatError("must be a plain decimal number in quotes", f"{where}: {field}")
    return int(text)


def _bytes(
    value: dict[str, Any], field: str, where: str, *, length: int | None = None,
    empty: bool = False,
) -> bytes:  # fmt: skip
    data = decode_base64(_text(value, field, where), f"{where}: {field}")
    if (not data and not empty) or (length is not None and len(data) != length):
        raise FormatError(f"must be {length or 'some'} bytes", f"{where}: {field}")
    return data


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


def _require_fields(
    value: Any, fields: set[str], where: str, *, optional: frozenset[str] | set[str] = frozenset()
) -> None:
    if not isinstance(value, dict) or not fields <= value.keys() <= fields | optional:
        names = ", ".join(sorted(fields | optional))
        raise FormatError(f"must have exactly the fields {names}", where)
