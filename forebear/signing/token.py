"""Keys named by reference: a file, or a URI of a PKCS#11 token or a key service.

securesystemslib does the talking, with the schemes that it registers:

    file:PATH  hsm:ID?label=TOKEN  awskms:KEY  gcpkms:projects/…  azurekms://VAULT…  hv:KEY/VERSION

A private key behind a URI never enters this process; its public half lies in a file, and every
signature is verified with that before anyone sees it. Refuses other schemes (a path with a colon
in its first part is written ``./a:b``), and lets no exception of a driver out as it is.

Source: securesystemslib 1.6, ``signer``; provenance page, section 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from forebear.errors import (
    EnvironmentFailure,
    ForebearError,
    FormatError,
    MissingExtra,
    SignatureError,
    UsageError,
)
from forebear.signing.keys import (
    PublicKey,
    Signer,
    is_encrypted,
    load_public,
    load_signer,
    parse_public,
)
from forebear.signing.passphrase import Secret

if TYPE_CHECKING:
    from securesystemslib.signer import (  # type: ignore[attr-defined]  # no __all__ there
        Signer as StockSigner,
    )

FILE = "file"
TOKEN = "hsm"  # noqa: S105  # a scheme
# scheme → extra that brings its driver
EXTRAS = {TOKEN: "hsm", "awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms",
          "hv": "vault"}  # fmt: skip
SCHEMES = (FILE, *EXTRAS)
MODULE_ENV = "PYKCS11LIB"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):")
_PROBE = b"forebear: is this key at hand?\n"
_SHOWN = 200


@dataclass(frozen=True)
class TokenSigner:
    """A :class:`Signer` whose private key stays where it is: in a token or a key service."""

    uri: str
    public: PublicKey
    _stock: StockSigner = field(repr=False)

    @property
    def keyid(self) -> str:
        """Key id of the public half."""
        return self.public.keyid

    def sign(self, data: bytes) -> bytes:
        """As :meth:`Signer.sign`.

        Raises:
            EnvironmentFailure: the token refuses, or holds another key than the public file.
        """
        try:
            sig = bytes.fromhex(self._stock.sign(data).signature)
        except ForebearError:
            raise
        # Drivers raise what they like, and securesystemslib documents that they do.
        except Exception as error:
            raise _refused(self.uri, "did not sign", error) from error
        try:
            self.public.verify(sig, data)
        except SignatureError as error:
            raise EnvironmentFailure(
                f"holds another private key than that of public key {self.keyid:.8}",
                self.uri,
                "name the key's own public file, or the right key in the URI",
            ) from error
        return sig


def scheme_of(reference: str) -> str | None:
    """Scheme of a key URI; None for a path.

    Raises:
        UsageError: it has a scheme that no key can have.
    """
    found = _SCHEME.match(reference)
    if found is None:
        return None
    scheme = found[1]
    if scheme not in SCHEMES:
        raise UsageError(
            f"no key can have the scheme {scheme[:20]!a}",
            reference[:80],
            f"use a path (./{reference[:20]}… when it has a colon) or one of "
            + ", ".join(f"{known}:" for known in SCHEMES),
        )
    return scheme


def is_remote(reference: str) -> bool:
    """Whether the key is not a file.

    Raises:
        UsageError: see :func:`scheme_of`.
    """
    return scheme_of(reference) not in (None, FILE)


def key_path(reference: str) -> Path:
    """The file that a reference to a file names, with or without ``file:``."""
    return Path(reference.partition(":")[2] if scheme_of(reference) == FILE else reference)


def needs_secret(reference: str) -> bool:
    """Whether opening the key takes a passphrase or PIN.

    Raises:
        EnvironmentFailure: a key file cannot be read, see ``load_signer``.
        UsageError: see :func:`scheme_of`.
    """
    if is_remote(reference):
        return scheme_of(reference) == TOKEN
    return is_encrypted(key_path(reference))


def open_key(reference: str, *, public: Path, secret: Secret) -> Signer:
    """The signer that ``reference`` names.

    Args:
        reference: path or URI.
        public: file of the public half; read for keys that are no file.
        secret: gives the passphrase or PIN, asked only when one is needed.

    Raises:
        UsageError: the URI cannot be understood.
        MissingExtra: the driver is not installed.
        EnvironmentFailure: file, token or service refuses; or the secret is missing or wrong.
        FormatError: a file holds no Ed25519 or P-256 key.
    """
    if is_remote(reference):
        return _open_remote(reference, load_public(public), secret)
    file = key_path(reference)
    return load_signer(file, secret("passphrase") if is_encrypted(file) else None)


def require_at_hand(signer: Signer) -> None:
    """Returns when the key signs now; costs one signature over bytes that mean nothing.

    Raises:
        EnvironmentFailure: it does not.
    """
    signer.sign(_PROBE)


def fetch_public(uri: str, *, secret: Secret) -> PublicKey:
    """The public half of a key that is no file, as the token or service tells it.

    Raises:
        UsageError: the scheme cannot tell.
        MissingExtra: the driver is not installed.
        EnvironmentFailure: token or service refuses.
        FormatError: the key is neither Ed25519 nor P-256.
    """
    from securesystemslib.signer import (  # type: ignore[attr-defined]  # no __all__ there
        SIGNER_FOR_URI_SCHEME,
    )

    scheme = scheme_of(uri)
    if scheme not in EXTRAS or scheme == "azurekms":
        raise UsageError(
            "cannot tell its public key", uri[:80], "export it as PEM with the service's own tool"
        )
    rest = uri.partition(":")[2]
    words: list[Any] = [rest.partition("/")[0] if scheme == "hv" else rest]
    try:
        if scheme == TOKEN:
            words = [*_parse_hsm(uri), _handler(secret)]
        signer: Any = SIGNER_FOR_URI_SCHEME[scheme]
        stock = signer.import_(*words)[1]
    except ForebearError:
        raise
    except Exception as error:  # as in TokenSigner.sign
        raise _refused(uri, "cannot tell its public key", error) from error
    return _public_of(stock, where=uri)


def _open_remote(uri: str, public: PublicKey, secret: Secret) -> TokenSigner:
    from securesystemslib.signer import (  # type: ignore[attr-defined]  # no __all__ there
        Signer as StockSigner,
    )

    if scheme_of(uri) == TOKEN:
        _parse_hsm(uri)
    try:
        stock = StockSigner.from_priv_key_uri(uri, public.to_securesystemslib(), _handler(secret))
    except Exception as error:  # as in TokenSigner.sign
        raise _refused(uri, "cannot be opened", error) from error
    return TokenSigner(uri, public, stock)


def _parse_hsm(uri: str) -> tuple[int | None, str | None]:
    """Key id and token label of ``hsm:[ID][?label=LABEL]``.

    Raises:
        UsageError: anything else stands in it, a PIN for instance.
    """
    ident, _, query = uri.partition(":")[2].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not re.fullmatch(r"[0-9]{0,9}", ident, re.ASCII) or options.keys() - {"label"}:
        raise UsageError(
            "is no URI of a token's key",
            uri.partition("?")[0][:_SHOWN],
            "hsm:ID?label=TOKEN; the PIN comes from a file or a prompt",
        )
    return (int(ident) if ident else None), options.get("label")


def _public_of(stock: Any, *, where: str) -> PublicKey:
    """Our form of securesystemslib's public key: raw hex for Ed25519, PEM for the others."""
    try:
        text = str(stock.keyval["public"])
        if stock.keytype == "ed25519":
            return PublicKey(Ed25519PublicKey.from_public_bytes(bytes.fromhex(text)), where=where)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError("tells no public key", where) from error
    return parse_public(text.encode(), where=where)


def _handler(secret: Secret) -> Callable[[str], str]:
    """Our source of secrets as securesystemslib wants it."""

    def give(name: str) -> str:
        wanted = "PIN" if name == "pin" else name
        try:
            return secret(wanted).decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"the {wanted} is no UTF-8 text") from error

    return give


def _refused(uri: str, what: str, error: Exception) -> EnvironmentFailure:
    """An exception of a driver as one of ours."""
    from securesystemslib.exceptions import UnsupportedLibraryError

    scheme = scheme_of(uri) or ""
    if isinstance(error, UnsupportedLibraryError):
        return MissingExtra(EXTRAS[scheme], f"a key at {scheme}:")
    text = " ".join(f"{type(error).__name__} {error}".split())[:_SHOWN]
    fix = ""
    if scheme == TOKEN:
        fix = (
            f"name the token's PKCS#11 module in {MODULE_ENV}; a token locks itself after a few "
            "wrong PINs, so look before you try again"
        )
    return EnvironmentFailure(f"{what}: {text}", uri[:_SHOWN], fix)
