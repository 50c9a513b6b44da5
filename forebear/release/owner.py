"""Who signs a release: an owner, whatever holds the key.

An owner signs three things: in-toto envelopes (layout and ``source`` link), statements in bundles,
and checkpoints in the OpenSSF model-signing format. ``attest`` knows only this interface.

Rests on: provenance page, sections 2, 7 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from forebear.errors import ConfigError
from forebear.formats.dsse import parse_envelope
from forebear.formats.link import PAYLOAD_TYPE
from forebear.formats.statement import Bundle, Statement, key_hint, render_bundle, render_statement
from forebear.release import oms
from forebear.signing.keys import PublicKey, Signer
from forebear.signing.signer import sign_envelope


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
    """An owner whose key is a file.

    Attributes:
        signer: signs layout, ``source`` and statements.
        file: the private key; model-signing reads it by itself.
        passphrase: of the file; None when it is not encrypted.

    Raises:
        ConfigError: the key is a recorder's.
    """

    signer: Signer
    file: Path
    passphrase: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.public.role != "owner":
            raise ConfigError(
                "is no owner key", where=str(self.file), fix="forebear keys new owner"
            )

    @property
    def public(self) -> PublicKey:
        """The owner's public key."""
        return self.signer.public

    def sign_envelope(self, payload: bytes) -> bytes:
        """As :meth:`Owner.sign_envelope`."""
        return sign_envelope(self.signer, payload, PAYLOAD_TYPE)

    def sign_bundle(self, statement: Statement, *, where: str) -> bytes:
        """As :meth:`Owner.sign_bundle`."""
        envelope = parse_envelope(self.sign_envelope(render_statement(statement)), where=where)
        return render_bundle(Bundle(envelope, key_hint(self.public.pem)))

    def sign_model(self, folder: Path) -> bytes:
        """As :meth:`Owner.sign_model`."""
        return oms.sign_model(folder, self.file, self.passphrase)
