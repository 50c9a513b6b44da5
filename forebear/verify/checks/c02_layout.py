"""C2: the layout is the owner's, in force, and says what the declared pipeline implies.

The signature decides first: nothing of an untrusted layout is looked at. Roles go by key id, not
by kind of key: a recorder's key in a token or a cloud service is P-256 like an owner's.

Rests on: provenance page, sections 2 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    FormatError,
    MissingExtra,
    PolicyError,
    SignatureError,
)
from forebear.evidence.store import LAYOUT, PIPELINE, Evidence
from forebear.formats.dsse import Envelope
from forebear.formats.layout import SOURCE, LayoutView, derive_layout, parse_layout
from forebear.signing.keys import PublicKey, parse_public
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import verify_envelope
from forebear.verify.result import Failed, Finding, Unchecked, Verdict, failed
from forebear.verify.trust import require_in_toto, with_vouched


def check_layout(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Signature by a trusted owner key, roles, revocation, expiry, and the derivation."""
    try:
        policy = with_vouched(evidence, policy)
        owner = require_owner_signed(evidence.layout_envelope, policy)
    except MissingExtra as error:
        return Unchecked(f"whether an identity vouches for the owner's key: {error.what}")
    except (PolicyError, SignatureError, ConfigError, EnvironmentFailure) as error:
        return Failed((Finding(LAYOUT, f"the layout is not the owner's: {error.what}"),))
    layout = evidence.layout
    try:
        keys = _keys(layout)
    except FormatError as error:
        return Failed((Finding(LAYOUT, error.what),))
    findings = [*_check_roles(layout, keys, owner, policy), *_check_time(layout, policy)]
    if not findings:
        findings += _check_derivation(evidence, layout, keys, owner)
    until = layout.expires.strftime("%Y-%m-%d")
    return failed(
        findings, f"signed by owner key {owner.keyid:.8}, valid until {until}, as derived"
    )


def require_owner_signed(envelope: Envelope, policy: TrustPolicy) -> PublicKey:
    """The trusted, unrevoked owner key that signed this envelope, as in-toto JSON.

    Raises:
        PolicyError: another key, or a revoked one.
        SignatureError: another payload type, or the signature does not hold.
    """
    owner = policy.require_owner(envelope.keyid)
    require_in_toto(envelope)
    verify_envelope(envelope, owner)
    return owner


def _keys(layout: LayoutView) -> dict[str, PublicKey]:
    """Keys by the id that they really have, which must be the one the layout claims."""
    keys = {}
    for keyid, pem in layout.keys.items():
        key = parse_public(pem, where=LAYOUT)
        if key.keyid != keyid:
            raise FormatError(f"key {keyid:.8} is listed under an id that is not its own", LAYOUT)
        keys[keyid] = key
    return keys


def _check_roles(
    layout: LayoutView, keys: dict[str, PublicKey], owner: PublicKey, policy: TrustPolicy
) -> Iterator[Finding]:
    owners = {owner.keyid, *(key.keyid for key in policy.owners)}
    for keyid in keys:
        if keyid in policy.revoked_keyids:
            yield Finding(LAYOUT, f"key {keyid:.8} is revoked by the trust policy")
    for step in layout.steps:
        for keyid in step.keyids:
            if keyid not in keys:
                yield Finding(LAYOUT, f"step {step.name!r} names a key that the layout lacks")
            elif step.name == SOURCE and keyid != owner.keyid:
                yield Finding(LAYOUT, f"'source' may be signed by {keyid:.8}, not by the owner")
            elif step.name != SOURCE and keyid in owners:
                yield Finding(
                    LAYOUT, f"stage {step.name!r} may be signed by {keyid:.8}, an owner's key"
                )


def _check_time(layout: LayoutView, policy: TrustPolicy) -> Iterator[Finding]:
    if layout.expires <= policy.time():
        yield Finding(
            LAYOUT,
            f"the layout expired on {layout.expires:%Y-%m-%d}; to audit an old release, set "
            "'now' in the trust policy",
        )


def _check_derivation(
    evidence: Evidence, layout: LayoutView, keys: dict[str, PublicKey], owner: PublicKey
) -> Iterator[Finding]:
    recorders = [key for keyid, key in keys.items() if keyid != owner.keyid]
    try:
        derived = derive_layout(
            evidence.pipeline, owner=owner, recorders=recorders, expires=layout.expires
        )
    except ConfigError as error:
        yield Finding(PIPELINE, f"gives no layout: {error.what} ({error.where})")
        return
    if derived != evidence.layout_envelope.payload:
        yield Finding(
            LAYOUT,
            "the layout is not the one that pipeline.json implies: "
            + _first_difference(layout, parse_layout(derived, where=PIPELINE)),
        )


def _first_difference(given: LayoutView, derived: LayoutView) -> str:
    for step in derived.steps:
        other = given.step(step.name)
        if other is None:
            return f"step {step.name!r} is missing"
        for what, ours, theirs in (
            ("materials", step.materials, other.materials),
            ("products", step.products, other.products),
            ("keys", step.keyids, other.keyids),
        ):
            if ours != theirs:
                return f"the {what} of step {step.name!r} differ"
    names = {step.name for step in derived.steps}
    extra = [step.name for step in given.steps if step.name not in names]
    return f"step {extra[0]!r} is too much" if extra else "inspection or commands differ"
