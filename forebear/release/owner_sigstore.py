"""An owner who signs statements by Sigstore: no key to keep, an identity and a public log.

In-toto envelopes need a key that lasts, so layout and ``source`` link stay with the owner's key,
for which the release statement vouches. Statements and checkpoints carry certificates. Never opens
a browser: the identity token comes from a file or from the CI job that we run in.

Rests on: provenance page, sections 2 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure
from forebear.formats.statement import Statement, render_statement
from forebear.release import oms
from forebear.release.owner import Owner
from forebear.signing import sigstore
from forebear.signing.keys import PublicKey

_MAX_TOKEN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SigstoreOwner:
    """An owner with a key for in-toto and an identity for everything else.

    Attributes:
        key_owner: signs layout and ``source`` link.
        trust_config: the instance's client trust config.
        identity_token_file: holds the identity token, read anew for each signature, since tokens
            live for minutes; None to ask the CI job that we run in.
    """

    key_owner: Owner
    trust_config: Path
    identity_token_file: Path | None = None

    @property
    def public(self) -> PublicKey:
        """The owner's public key."""
        return self.key_owner.public

    def sign_envelope(self, payload: bytes) -> bytes:
        """As :meth:`Owner.sign_envelope`, by the key."""
        return self.key_owner.sign_envelope(payload)

    def sign_bundle(self, statement: Statement, *, where: str) -> bytes:
        """As :meth:`Owner.sign_bundle`, by the identity.

        Raises:
            MissingExtra: sigstore is not installed.
            ConfigError: the trust config does not hold.
            EnvironmentFailure: there is no identity, or a service refuses.
        """
        del where
        return sigstore.sign_statement(
            render_statement(statement), trust_config=self.trust_config, token=self._token()
        )

    def sign_model(self, folder: Path) -> bytes:
        """As :meth:`Owner.sign_model`, by the identity. Raises as :meth:`sign_bundle`."""
        token = self._token()
        # the library would open a browser where it finds no ambient identity after hashing
        ambient = self.identity_token_file is None

        def configure(config: Any) -> Any:
            return config.use_sigstore_signer(
                use_ambient_credentials=ambient,
                identity_token=None if ambient else token,
                trust_config=self.trust_config,
            )

        with sigstore.refusals(self.trust_config):
            return oms.sign_with(folder, configure)

    def _token(self) -> str:
        if self.identity_token_file is None:
            token = sigstore.ambient_token()
            if token is None:
                raise EnvironmentFailure(
                    "there is no identity to sign with",
                    fix="run in a CI job that may ask for one, or give an identity token file",
                )
            return token
        try:
            with self.identity_token_file.open("rb") as stream:
                return stream.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
        except OSError as error:
            raise EnvironmentFailure(
                f"the identity token cannot be read: {(error.strerror or 'failed').lower()}",
                str(self.identity_token_file),
            ) from error
        except UnicodeDecodeError as error:
            raise EnvironmentFailure(
                "holds no identity token", str(self.identity_token_file)
            ) from error
