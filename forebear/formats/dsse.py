"""The signing envelope (DSSE): a payload, its type, one signature.

Refuses what stock parsers let pass: unknown fields, several signatures, loose base64, any
serialisation but ours. Holds no keys and verifies nothing: ``forebear.signing.signer`` does.

Source: DSSE v1.0.2 (protocol.md, envelope.md); provenance page, section 3.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from forebear.errors import FormatError
from forebear.formats import strictjson

_FIELDS = {"payload", "payloadType", "signatures"}
_SIGNATURE_FIELDS = {"keyid", "sig"}
_MEDIA_TYPE = re.compile(r"[!-~]{1,255}")
_KEYID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One signed payload.

    Attributes:
        payload: the bytes that were signed, as received.
        payload_type: media type, part of what is signed.
        keyid: 64 lower-case hex digits; a hint which key to try, never a proof.
        sig: raw signature (Ed25519: 64 bytes, ECDSA: DER).
    """

    payload: bytes
    payload_type: str
    keyid: str
    sig: bytes


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that a signature covers.

    Source: DSSE v1, protocol.md, "Signature Definition".
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(data: bytes, *, where: str) -> Envelope:
    """Envelope in ``data``, unverified.

    Args:
        data: whole file, as ``render_envelope`` writes it.
        where: name of the file, for the message.

    Raises:
        FormatError: not canonical JSON, a field is missing or unknown, not exactly one signature,
            loose base64, or a malformed key id or media type.
    """
    return envelope_of(strictjson.parse_canonical(data, where=where), where=where)


def envelope_of(value: Any, *, where: str) -> Envelope:
    """Envelope in a JSON value that was read strictly, such as the member of a bundle.

    Raises:
        FormatError: as :func:`parse_envelope`, but for the form of the text.
    """
    _require_fields(value, _FIELDS, where)
    signatures = value["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise FormatError("must hold exactly one signature", where)
    _require_fields(signatures[0], _SIGNATURE_FIELDS, f"{where}: signatures[0]")
    for text in (value["payloadType"], signatures[0]["keyid"]):
        if not isinstance(text, str):
            raise FormatError("payloadType and keyid must be texts", where)
    envelope = Envelope(
        payload=decode_base64(value["payload"], f"{where}: payload"),
        payload_type=value["payloadType"],
        keyid=signatures[0]["keyid"],
        sig=decode_base64(signatures[0]["sig"], f"{where}: signatures[0].sig"),
    )
    _require_form(envelope, where)
    return envelope


def render_envelope(envelope: Envelope) -> bytes:
    """File bytes of ``envelope``: canonical JSON and a newline.

    Raises:
        FormatError: malformed key id or media type, or an empty signature.
    """
    _require_form(envelope, "envelope")
    return strictjson.dumps(
        {
            "payload": base64.b64encode(envelope.payload).decode("ascii"),
            "payloadType": envelope.payload_type,
            "signatures": [
                {
                    "keyid": envelope.keyid,
                    "sig": base64.b64encode(envelope.sig).decode("ascii"),
                }
            ],
        }
    )


def _require_fields(value: Any, fields: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise FormatError("must be a JSON object", where)
    if value.keys() != fields:
        odd = ", ".join(sorted(ascii(name)[:60] for name in value.keys() ^ fields))
        raise FormatError(f"these fields are missing or unknown: {odd}", where)


def _require_form(envelope: Envelope, where: str) -> None:
    if not _MEDIA_TYPE.fullmatch(envelope.payload_type):
        raise FormatError("payloadType is no media type", where)
    if not _KEYID.fullmatch(envelope.keyid):
        raise FormatError("keyid must be 64 lower-case hex digits", where)
    if not envelope.sig:
        raise FormatError("the signature is empty", where)


def decode_base64(text: object, where: str) -> bytes:
    """Bytes of strict base64: standard alphabet, padded, no spare bits.

    Raises:
        FormatError: anything else.
    """
    if not isinstance(text, str):
        raise FormatError("must be base64 text", where)
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError("is not base64", where) from error
    # The decoder ignores the spare bits of the last character, so one value has several texts.
    if base64.b64encode(raw) != text.encode("ascii"):
        raise FormatError("is not strict base64", where)
    return raw
