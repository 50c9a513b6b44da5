"""Signing and verifying by Sigstore: a short-lived certificate of an identity, and a public log.

The only place where sigstore meets us, and only inside functions. Verification works on files
alone: it opens no connection, refreshes no trust root and never accepts "whoever". It asks for
more than the library does: everything in the bundle must be vouched for, each source of time by
itself. What remains free are a few bytes of a time stamp's own envelope (its version, the names of
its algorithms); those C4 and C11 cover by the digest of the file.

Rests on: provenance page, section 8; Sigstore client specification; bundle v0.3.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    FormatError,
    MissingExtra,
    PolicyError,
    SignatureError,
)
from forebear.formats import strictjson
from forebear.formats.statement import Bundle, LogEntry, parse_bundle
from forebear.signing.policy import Identity

_MAX_TRUST_BYTES = 8 * 1024 * 1024
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_OTHER_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
_NOTE = re.compile(
    r"(?P<origin>[^\n]+)\n(?P<size>[0-9]{1,18})\n(?P<root>[A-Za-z0-9+/=]+)\n(?:[^\n]+\n)*\n"
    r"(?P<signatures>(?:\u2014 [^\s]+ [A-Za-z0-9+/=]+\n)+)"
)
# what certificates, time stamps and models of the library raise on hostile bytes, beside its own
_HOSTILE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def ambient_token() -> str | None:
    """Identity token of the CI job that we run in; None outside of one.

    Raises:
        MissingExtra: sigstore is not installed.
        EnvironmentFailure: the job may not ask for one.
    """
    with _library("signing by Sigstore"):
        from sigstore import oidc
    try:
        return oidc.detect_credential()
    except oidc.IdentityError as error:
        raise EnvironmentFailure(
            f"the CI job gives no identity: {_first(error)}",
            fix="allow it to ask for one, e.g. 'permissions: id-token: write'",
        ) from error


def sign_statement(statement: bytes, *, trust_config: Path, token: str) -> bytes:
    """File bytes of a bundle around ``statement``: canonical JSON and a newline.

    Args:
        statement: payload, an in-toto Statement.
        trust_config: the instance's client trust config, the public instance's likewise.
        token: OpenID Connect identity token; never logged.

    Raises:
        MissingExtra: sigstore is not installed.
        ConfigError: the trust config does not hold.
        EnvironmentFailure: the token is malformed or expired, or a service refuses.
    """
    with _library("signing by Sigstore"):
        from sigstore import dsse, oidc
    context = _signing_context(trust_config)
    with refusals(trust_config), context.signer(oidc.IdentityToken(token)) as signer:
        written = signer.sign_dsse(dsse.Statement(statement)).to_json()
    data = strictjson.dumps(strictjson.parse(written.encode(), where="bundle"), where="bundle")
    parse_bundle(data, where="bundle")  # never write what verification would refuse
    return data


@contextmanager
def refusals(trust_config: Path) -> Iterator[None]:
    """Makes what the library raises while it signs an EnvironmentFailure; tokens stay unsaid."""
    with _library("signing by Sigstore"):
        import requests
        from sigstore import errors, oidc

        # the public API raises them and exports them nowhere else
        from sigstore._internal.fulcio.client import ExpiredCertificate, FulcioClientError
        from sigstore._internal.rekor import RekorClientError
    try:
        yield
    except (
        errors.Error,
        requests.RequestException,
        FulcioClientError,
        RekorClientError,
        ExpiredCertificate,
        oidc.ExpiredIdentity,
        oidc.IssuerError,
        *_HOSTILE,
    ) as error:
        raise EnvironmentFailure(
            f"Sigstore did not sign: {_first(error)}",
            where=str(trust_config),
            fix="check the connection, the trust config and the age of the identity token",
        ) from error


def verify_bundle(
    data: bytes, *, identities: Sequence[Identity], trusted_root: Path, where: str
) -> tuple[Identity, Bundle]:
    """Who of ``identities`` signed the bundle, and what; without a connection.

    The certificate must chain to the trusted root and carry the CT log's promise; the log entry
    must be proven, its checkpoint signed; each time source must hold by itself and lie within the
    certificate's life. Name and issuer are compared whole.

    Args:
        data: the bundle; serialised in any way, for files of other tools.
        identities: those that are trusted.
        trusted_root: file with the roots of trust.
        where: name of the bundle, for messages.

    Raises:
        FormatError: no bundle of a certificate.
        PolicyError: another identity signed it, or claims so.
        SignatureError: something in it does not hold.
        ConfigError: the trusted root does not hold.
        MissingExtra: sigstore is not installed.
    """
    bundle = parse_bundle(data, where=where, canonical=False)
    claimed = claimed_identity(bundle)
    if claimed not in identities:
        known = ", ".join(map(str, identities)) or "none"
        raise PolicyError(f"it is signed by {claimed}, whom the policy does not trust ({known})")
    root = _root(trusted_root)
    if len(bundle.entries) != 1:
        raise SignatureError(f"it holds {len(bundle.entries)} log entries, not one")
    _require_vouched(bundle.entries[0], root.log_ids)
    for variant in _by_time_source(strictjson.parse(data, where=where), bundle):
        payload_type, payload = root.verify(variant, claimed)
        if (payload_type, payload) != (bundle.envelope.payload_type, bundle.envelope.payload):
            raise SignatureError("the library read another payload than we did")
    return claimed, bundle


def claimed_identity(bundle: Bundle) -> Identity:
    """The identity that the bundle's certificate states, unverified.

    Raises:
        SignatureError: no certificate, not exactly one name, no issuer, or no P-256 key.
    """
    try:
        certificate = x509.load_der_x509_certificate(bundle.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = certificate.extensions.get_extension_for_oid(_ISSUER).value
        public = certificate.public_key()
        (name,) = names
        text = _name_text(name)
        by = issuer.public_bytes().decode("utf-8")
    except _HOSTILE as error:
        raise SignatureError(f"its certificate cannot be read: {_first(error)}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(
        public.curve, ec.SECP256R1
    ):
        raise SignatureError("its certificate is for another kind of key than P-256")
    return Identity(text, by)


def _name_text(name: x509.GeneralName) -> str:
    if isinstance(name, (x509.RFC822Name, x509.UniformResourceIdentifier)):
        return name.value
    if isinstance(name, x509.OtherName) and name.type_id == _OTHER_NAME:
        return name.value.decode("utf-8")
    raise ValueError("its name is neither an address nor a URI")


class _Root:
    """Roots of trust, ready for use."""

    def __init__(self, data: bytes) -> None:
        """Raises what the library raises."""
        from sigstore import models
        from sigstore.verify import Verifier

        value = strictjson.parse(data, where="trusted root")
        with tempfile.NamedTemporaryFile(suffix=".json") as private:
            private.write(data)
            private.flush()
            root = models.TrustedRoot.from_file(private.name)
        self._verifier = Verifier(trusted_root=root)
        self.log_ids = {base64.b64decode(log["logId"]["keyId"]) for log in value["tlogs"]}

    def verify(self, bundle: dict[str, Any], identity: Identity) -> tuple[str, bytes]:
        """Payload type and payload, by the library. Raises SignatureError."""
        from sigstore import errors, models
        from sigstore.verify import policy

        exact = policy.Identity(identity=identity.identity, issuer=identity.issuer)
        try:
            parsed = models.Bundle.from_json(json.dumps(bundle))
            return self._verifier.verify_dsse(parsed, exact)
        except (errors.Error, *_HOSTILE) as error:
            raise SignatureError(f"Sigstore: {_first(error)}") from error


# a release holds a bundle for each stage, all under one root
_prepared = lru_cache(maxsize=4)(_Root)


def _root(file: Path) -> _Root:
    """Raises ConfigError, EnvironmentFailure, MissingExtra."""
    with _library("verifying a Sigstore bundle"):
        from sigstore import errors
    data = _read(file)
    try:
        return _prepared(data)
    except (FormatError, errors.Error, *_HOSTILE) as error:
        raise ConfigError(f"is no trusted root of Sigstore: {_first(error)}", str(file)) from error


def _require_vouched(entry: LogEntry, log_ids: set[bytes]) -> None:
    """Refuses what the library leaves unread: log id, tree size, outer index, invented times."""
    if entry.log_id not in log_ids:
        raise SignatureError("its log is none of the trusted root's")
    note = _NOTE.fullmatch(entry.checkpoint)
    if note is None:
        raise SignatureError("the checkpoint is no signed note")
    if int(note["size"]) != entry.tree_size or note["root"] != _b64(entry.root):
        raise SignatureError("the checkpoint is about another tree than the inclusion proof")
    name = note["origin"].split(" ")[0]
    own = [
        line.split(" ")[1]
        for line in note["signatures"].splitlines()
        if _strict(line.split(" ")[2])[:4] == entry.log_id[:4]
    ]
    if own != [name]:
        raise SignatureError("the checkpoint is not signed once, in the name of its log")
    if (entry.time_s is None) != (entry.promise is None):
        raise SignatureError("the log's time and the promise that covers it need one another")
    if entry.promise is not None and not entry.kind.endswith(" 0.0.1"):
        raise SignatureError("a log of this kind promises nothing")
    if entry.promise is None and entry.index != entry.proof_index:
        raise SignatureError("the index in the log is vouched for by nothing")


def _by_time_source(value: dict[str, Any], bundle: Bundle) -> Iterator[dict[str, Any]]:
    """The bundle once for each source of time in it, without the others.

    The library is content with one time that holds and skips the rest.
    """
    material = value["verificationMaterial"]
    (entry,) = material["tlogEntries"]
    stamps = material.get("timestampVerificationData", {}).get("rfc3161Timestamps", [])
    plain = {key: item for key, item in entry.items() if key not in _TIMED}

    def variant(log_entry: dict[str, Any], chosen: list[Any]) -> dict[str, Any]:
        changed = {
            **material,
            "tlogEntries": [log_entry],
            "timestampVerificationData": {"rfc3161Timestamps": chosen},
        }
        return {**value, "verificationMaterial": changed}

    if bundle.entries[0].promise is not None or not stamps:
        yield variant(entry, [])
    for stamp in stamps:
        yield variant(plain, [stamp])


_TIMED = {"inclusionPromise", "integratedTime"}


def _signing_context(trust_config: Path) -> Any:
    from sigstore import errors, models, sign

    try:
        config = models.ClientTrustConfig.from_json(_read(trust_config).decode("utf-8"))
        return sign.SigningContext.from_trust_config(config)
    except (errors.Error, *_HOSTILE) as error:
        raise ConfigError(
            f"is no client trust config: {_first(error)}", str(trust_config)
        ) from error


@contextmanager
def _library(needed_for: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtra("sign", needed_for) from error


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_TRUST_BYTES + 1)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be read: {(error.strerror or 'failed').lower()}", str(file)
        ) from error
    if len(data) > _MAX_TRUST_BYTES:
        raise ConfigError(f"is longer than {_MAX_TRUST_BYTES} bytes", str(file))
    return data


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _strict(text: str) -> bytes:
    """Bytes of strict base64; none where it is loose."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if _b64(data) == text else b""


def _first(error: Exception) -> str:
    """First line of what the library says, shortened."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
