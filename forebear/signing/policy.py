"""What the auditor trusts: owner keys and Sigstore identities, and how much they insist on.

Nothing in a release is trusted because the release says so; this comes from outside it, as the
owner's public key alone or as a YAML file. Refuses unknown and repeated keys. An owner's key that
only a verified identity vouches for is kept apart from those that the auditor brought.

Source: provenance page, section 2, "Trust policy".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from forebear.errors import EnvironmentFailure, PolicyError
from forebear.signing.keys import PublicKey, parse_public

Confinement = Literal["enforced", "observed", "unchecked"]

_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs by Sigstore: a name, and who vouches for it. Both are compared whole.

    Attributes:
        identity: subject alternative name of the certificate: an address or a URI.
        issuer: OpenID Connect issuer that the certificate names.
    """

    identity: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.identity} (by {self.issuer})"


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Trust that the auditor brings to a verification.

    Attributes:
        owner_keys: keys that may sign a layout and a release.
        identities: owners who sign statements by Sigstore.
        trusted_root: file with the roots, logs and time stamping authorities of Sigstore.
        owner_threshold: how many owners must vouch for a release.
        require_sigstore: whether statements of a bare key count for nothing.
        attester_keys: keys of others whose later attestations are believed; no owners.
        min_serial: oldest release serial accepted; None leaves replay unchecked.
        min_confinement: least confinement of a stage that passes; None accepts any.
        allowed_builders: builder ids accepted in provenance; empty accepts any.
        revoked_keyids: keys whose signatures count for nothing.
        now: time to judge expiry by, with a time zone; None is the present.
        vouched: never brought by the auditor: key for which one of ``identities`` vouches.
    """

    owner_keys: tuple[PublicKey, ...] = ()
    identities: tuple[Identity, ...] = ()
    trusted_root: Path | None = None
    owner_threshold: int = 1
    require_sigstore: bool = False
    attester_keys: tuple[PublicKey, ...] = ()
    min_serial: int | None = None
    min_confinement: Confinement | None = None
    allowed_builders: tuple[str, ...] = ()
    revoked_keyids: frozenset[str] = frozenset()
    now: datetime | None = None
    vouched: tuple[PublicKey, Identity] | None = None

    @property
    def owners(self) -> tuple[PublicKey, ...]:
        """Every key that may sign as owner: those brought, and the one that is vouched for."""
        return self.owner_keys if self.vouched is None else (*self.owner_keys, self.vouched[0])

    def vouch(self, key: PublicKey, identity: Identity) -> TrustPolicy:
        """This policy, with an owner key for which a verified identity vouches."""
        return replace(self, vouched=(key, identity))

    def time(self) -> datetime:
        """The time to judge expiry by, in UTC."""
        return self.now or datetime.now(UTC)

    def require_owner(self, keyid: str) -> PublicKey:
        """The trusted, unrevoked owner key with this id.

        Raises:
            PolicyError: there is none.
        """
        self.require_unrevoked(keyid)
        for key in self.owners:
            if key.keyid == keyid:
                return key
        known = ", ".join([f"{key.keyid:.8}" for key in self.owners] + self._names())
        raise PolicyError(f"key {keyid:.8} is no trusted owner key; trusted: {known}")

    def require_unrevoked(self, keyid: str) -> None:
        """Returns unless the policy revokes this key.

        Raises:
            PolicyError: it does.
        """
        if keyid in self.revoked_keyids:
            raise PolicyError(f"key {keyid:.8} is revoked by the trust policy")

    def _names(self) -> list[str]:
        return [str(identity) for identity in self.identities]


def load_policy(file: Path) -> TrustPolicy:
    """Policy in ``file``: an owner's public key in PEM, or YAML.

    Raises:
        EnvironmentFailure: the file, or a key file it names, cannot be read.
        ConfigError: the YAML does not hold; one line per fault.
        FormatError: a key is no owner key.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise EnvironmentFailure(
            f"the trust policy cannot be read: {(error.strerror or 'failed').lower()}", str(file)
        ) from error
    if data.lstrip().startswith(b"-----BEGIN"):
        return TrustPolicy(owner_keys=(parse_public(data, where=str(file)),))
    from forebear.signing import policyfile  # pydantic costs 80 ms

    return policyfile.parse_policy(data, where=str(file), folder=file.parent)
