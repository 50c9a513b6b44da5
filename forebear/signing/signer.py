"""Signing an envelope, and beside it the check of what was signed.

Decides nothing about trust: the caller brings the key that its policy or layout names. A key id
inside an envelope only says which key to try.

Source: DSSE v1.0.2, protocol.md; provenance page, section 3.
"""

from __future__ import annotations

from forebear.errors import SignatureError
from forebear.formats.dsse import Envelope, pae, render_envelope
from forebear.signing.keys import PublicKey, Signer


def sign_envelope(signer: Signer, payload: bytes, payload_type: str) -> bytes:
    """File bytes of an envelope around ``payload``, signed once.

    Raises:
        FormatError: ``payload_type`` is no media type.
    """
    sig = signer.sign(pae(payload_type, payload))
    return render_envelope(Envelope(payload, payload_type, signer.keyid, sig))


def verify_envelope(envelope: Envelope, key: PublicKey) -> None:
    """Returns when ``key`` signed this payload under this payload type.

    Raises:
        SignatureError: another key's id, or the signature does not hold.
    """
    if envelope.keyid != key.keyid:
        raise SignatureError(
            f"is signed by key {envelope.keyid:.8}, not by the expected key {key.keyid:.8}"
        )
    key.verify(envelope.sig, pae(envelope.payload_type, envelope.payload))
