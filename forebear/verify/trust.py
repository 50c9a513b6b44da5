"""Who signed a bundle, as the auditor's trust policy judges it.

Keys and Sigstore identities come to one answer here, so that no check decides about trust by
itself. A release's own word counts once only: a release statement that a trusted identity signed
may vouch for ``owner.pub``, by its digest.

Rests on: provenance page, sections 2, 7 and 8.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    FormatError,
    PathError,
    PolicyError,
    SignatureError,
)
from forebear.evidence.names import OWNER, RELEASE_BUNDLE
from forebear.evidence.store import Evidence
from forebear.formats.dsse import Envelope
from forebear.formats.statement import (
    PAYLOAD_TYPE,
    RELEASE,
    Bundle,
    key_hint,
    parse_bundle,
    parse_statement,
)
from forebear.signing.keys import PublicKey, parse_public
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import verify_envelope


@dataclass(frozen=True, slots=True)
class SignedBy:
    """A signer that the policy knows, whose signature holds.

    Attributes:
        name: for people.
        owner: stands for one owner, whatever they sign with; empty when the signer is none.
    """

    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A signer of whom the policy says nothing, or that they count for nothing.

    Attributes:
        reason: why their signature was not judged.
    """

    reason: str


def signer_of(data: bytes, policy: TrustPolicy, *, where: str) -> SignedBy | Unknown:
    """Who signed the bundle.

    Args:
        data: the bundle.
        policy: as :func:`with_vouched` gives it, where a release may vouch for its key.
        where: name of the bundle, for messages.

    Raises:
        FormatError: no strict bundle.
        SignatureError: a signer that the policy knows, but the signature or proof does not hold.
        ConfigError: the policy's trusted root does not hold.
        MissingExtra: sigstore is needed and not installed.
    """
    bundle = parse_bundle(data, where=where)
    if bundle.certificate:
        return _by_identity(data, bundle, policy, where)
    return _by_key(bundle, policy)


def effective(evidence: Evidence, policy: TrustPolicy) -> TrustPolicy:
    """What :func:`with_vouched` gives; never raises.

    Where the library or the trusted root is missing, the checks that need them say so themselves.
    """
    with suppress(ConfigError, EnvironmentFailure, PathError):
        return with_vouched(evidence, policy)
    return policy


def with_vouched(evidence: Evidence, policy: TrustPolicy) -> TrustPolicy:
    """The policy, with ``owner.pub`` as an owner's key where a trusted identity vouches for it.

    Unchanged when there is nothing to vouch: no identity in the policy, a release statement that
    does not verify, or another key in its place. The checks then say what they miss.

    Raises:
        MissingExtra: sigstore is needed and not installed.
    """
    if not policy.identities or policy.trusted_root is None or policy.vouched is not None:
        return policy
    from forebear.signing import sigstore  # x509 takes 75 ms, and most releases need none of it

    try:
        identity, bundle = sigstore.verify_bundle(
            evidence.read(RELEASE_BUNDLE),
            identities=policy.identities,
            trusted_root=policy.trusted_root,
            where=RELEASE_BUNDLE,
        )
        require_in_toto(bundle.envelope)
        statement = parse_statement(bundle.envelope.payload, where=RELEASE_BUNDLE)
        pem = evidence.read(OWNER)
        key = parse_public(pem, where=OWNER)
    except (FormatError, PolicyError, SignatureError):
        return policy
    vouched = dict(statement.subjects).get(OWNER) == hashlib.sha256(pem).hexdigest()
    if statement.predicate_type != RELEASE or not vouched:
        return policy
    return policy.vouch(key, identity)


def require_in_toto(envelope: Envelope) -> None:
    """Returns when the payload was signed as in-toto JSON. Raises SignatureError."""
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureError(f"it is signed as {envelope.payload_type!a}, not {PAYLOAD_TYPE}")


def _by_identity(
    data: bytes, bundle: Bundle, policy: TrustPolicy, where: str
) -> SignedBy | Unknown:
    from forebear.signing import sigstore

    claimed = sigstore.claimed_identity(bundle)
    if policy.trusted_root is None or claimed not in policy.identities:
        return Unknown(f"the trust policy does not name {claimed}")
    sigstore.verify_bundle(
        data, identities=policy.identities, trusted_root=policy.trusted_root, where=where
    )
    require_in_toto(bundle.envelope)
    return SignedBy(str(claimed), f"identity {claimed}")


def _by_key(bundle: Bundle, policy: TrustPolicy) -> SignedBy | Unknown:
    keyid = bundle.envelope.keyid
    if keyid in policy.revoked_keyids:
        return Unknown(f"key {keyid:.8} is revoked by the trust policy")
    known: dict[str, PublicKey] = {
        key.keyid: key for key in (*policy.attester_keys, *policy.owners)
    }
    if keyid not in known:
        return Unknown(f"the trust policy does not name key {keyid:.8}")
    key = known[keyid]
    if bundle.hint != key_hint(key.pem):
        raise SignatureError("the hint names another key than the one that signed")
    require_in_toto(bundle.envelope)
    verify_envelope(bundle.envelope, key)
    return SignedBy(f"key {keyid:.8}", _owner(key, policy))


def _owner(key: PublicKey, policy: TrustPolicy) -> str:
    """Stands for the owner; who is vouched for is the same as who vouches."""
    if policy.vouched is not None and key == policy.vouched[0]:
        return f"identity {policy.vouched[1]}"
    return f"key {key.keyid}" if key in policy.owner_keys else ""
