"""Who signs a release: an owner, whatever holds the key.

An owner signs three things: in-toto envelopes (layout and ``source`` link), statements in bundles,
and checkpoints in the OpenSSF model-signing format. ``attest`` knows only this interface.

The key is the file or the key URI that FOREBEAR_OWNER_KEY names, else ``owner.pem`` in the user's
key folder. Passphrase or PIN come from the file that FOREBEAR_OWNER_PASSPHRASE_FILE names, else
from a prompt. The public half of a key that is no file lies in FOREBEAR_OWNER_PUBLIC, else in
``owner.pub``. Refuses keys that the stock tools could not verify.

Rests on: provenance page, sections 2, 7 and 8.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from forebear.errors import ConfigError
from forebear.formats.dsse import parse_envelope
from forebear.formats.link import PAYLOAD_TYPE
from forebear.formats.statement import Bundle, Statement, key_hint, render_bundle, render_statement
from forebear.release import oms
from forebear.signing import signer as signing
from forebear.signing.keys import PublicKey, Signer, default_directory, key_files
from forebear.signing.passphrase import Secret, from_file_or_prompt
from forebear.signing.token import open_key

KEY_ENV = "FOREBEAR_OWNER_KEY"
PUBLIC_ENV = "FOREBEAR_OWNER_PUBLIC"
PASSPHRASE_ENV = "FOREBEAR_OWNER_PASSPHRASE_FILE"  # noqa: S105  # names a file, holds no secret
SIGN_ENV = "FOREBEAR_SIGN"
IDENTITY_TOKEN_ENV = "FOREBEAR_IDENTITY_TOKEN_FILE"  # noqa: S105  # as above
TRUST_CONFIG_ENV = "FOREBEAR_TRUST_CONFIG"
BY_KEY = "key"
BY_SIGSTORE = "sigstore"


class Owner(Protocol):
    """What ``attest`` asks of an owner."""

    @property
    def public(self) -> PublicKey:
        """The key that signs layout and ``source`` link."""
        ...

    def sign_envelope(self, payload: bytes) -> bytes:
        """File bytes of an in-toto envelope around a layout or link."""
        ...

    def sign_bundle(self, statement: Statement, *, where: str) -> bytes:
        """File bytes of a Sigstore bundle around a statement; ``where`` is for messages."""
        ...

    def sign_model(self, folder: Path) -> bytes:
        """Bytes of ``model.sig`` over every file of a checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """An owner with a key of their own: a file, a token's or a key service's.

    Attributes:
        signer: holds the key.
        reference: path or URI of the key, for messages.

    Raises:
        ConfigError: the key is no P-256 key.
    """

    signer: Signer
    reference: Path | str

    def __post_init__(self) -> None:
        if self.public.role != "owner":
            raise ConfigError(
                "is no owner key (P-256), which every stock tool verifies",
                where=str(self.reference),
                fix="forebear keys new owner",
            )

    @property
    def public(self) -> PublicKey:
        """The owner's public key."""
        return self.signer.public

    def sign_envelope(self, payload: bytes) -> bytes:
        """As :meth:`Owner.sign_envelope`."""
        return signing.sign_envelope(self.signer, payload, PAYLOAD_TYPE)

    def sign_bundle(self, statement: Statement, *, where: str) -> bytes:
        """As :meth:`Owner.sign_bundle`."""
        return sign_bundle(self.signer, statement, where=where)

    def sign_model(self, folder: Path) -> bytes:
        """As :meth:`Owner.sign_model`."""
        return self.sign_bundle(oms.model_statement(folder), where=str(folder))


def sign_bundle(signer: Signer, statement: Statement, *, where: str) -> bytes:
    """File bytes of a bundle around a statement, signed by any key, a recorder's too.

    Raises:
        FormatError: the statement has no canonical form.
        EnvironmentFailure: a token or key service refuses.
    """
    data = signing.sign_envelope(signer, render_statement(statement), PAYLOAD_TYPE)
    return render_bundle(Bundle(parse_envelope(data, where=where), key_hint(signer.public.pem)))


def owner_reference(keys: Path) -> str:
    """Path or URI of the owner's key, as the environment or the key folder has it."""
    return os.environ.get(KEY_ENV) or str(key_files("owner", keys.absolute())[0])


def load_owner(
    reference: str | None = None,
    *,
    keys: Path | None = None,
    public: Path | None = None,
    secret: Secret | None = None,
) -> KeyOwner:
    """The owner with the key that ``reference`` names; what is left out the environment says.

    Args:
        reference: path or URI.
        keys: the key folder; the user's when left out.
        public: file of the public half of a key that is no file.
        secret: gives passphrase or PIN when one is needed.

    Raises:
        UsageError: the URI cannot be understood.
        MissingExtra: the driver of a token or key service is not installed.
        EnvironmentFailure: the key cannot be opened.
        FormatError: a file holds no key of ours.
        ConfigError: it is no owner's key.
    """
    keys = keys or default_directory()
    reference = reference or owner_reference(keys)
    if public is None:
        public = _named(PUBLIC_ENV) or key_files("owner", keys)[1]
    if secret is None:
        fix = f"name a file that holds it in {PASSPHRASE_ENV}, or run `forebear attest` yourself"
        secret = from_file_or_prompt(_named(PASSPHRASE_ENV), of="owner key", fix=fix)
    return KeyOwner(open_key(reference, public=public, secret=secret), reference)


def load_owner_from_environment() -> Owner:
    """The owner as FOREBEAR_SIGN wants it: with a key, or with a Sigstore identity beside it.

    Raises:
        ConfigError: the variable has another value, or names no trust configuration.
        ForebearError: see :func:`load_owner`; and what the Sigstore owner raises.
    """
    way = os.environ.get(SIGN_ENV) or BY_KEY
    if way not in (BY_KEY, BY_SIGSTORE):
        raise ConfigError(f"must be key or sigstore, not {way[:20]!a}", where=SIGN_ENV)
    owner = load_owner()
    if way == BY_KEY:
        return owner
    from forebear.release.owner_sigstore import SigstoreOwner

    trust_config = _named(TRUST_CONFIG_ENV)
    if trust_config is None:
        raise ConfigError(
            "signing with Sigstore needs its trust configuration",
            where=TRUST_CONFIG_ENV,
            fix="forebear attest --sign sigstore --trust-config FILE",
        )
    return SigstoreOwner(
        owner, trust_config=trust_config, identity_token_file=_named(IDENTITY_TOKEN_ENV)
    )


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None
