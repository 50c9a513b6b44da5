"""Keys of the two roles: made, loaded, named.

The recorder signs with Ed25519 (no nonce to get wrong), the owner with ECDSA P-256 (every other
tool takes it). A recorder's key in a token is P-256 too, which is all that tokens offer. Refuses to
overwrite a key, to load a private key that others can read, and every other kind of key. The
private bytes of a key in a file never leave this module.

Source: provenance page, section 2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from forebear.errors import EnvironmentFailure, FormatError, SignatureError, UsageError

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # no __all__ there

Role = Literal["recorder", "owner"]

_PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
_MAX_BYTES = 64 * 1024


class PublicKey:
    """Public half of a recorder or owner key. Equal when the key id is.

    Args:
        key: Ed25519 or P-256.
        where: name of the file, for the message.

    Raises:
        FormatError: another kind of key.
    """

    def __init__(self, key: object, *, where: str = "public key") -> None:
        p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        if not isinstance(key, ed25519.Ed25519PublicKey) and not p256:
            raise FormatError(
                "is neither an Ed25519 nor a P-256 key", where, "make one with 'forebear keys new'"
            )
        self._key: _PublicKey = key  # type: ignore[assignment]  # narrowed just above

    @cached_property
    def keyid(self) -> str:
        """Key id as securesystemslib computes it: 64 lower-case hex digits."""
        return str(self.to_securesystemslib().keyid)

    @cached_property
    def pem(self) -> bytes:
        """SubjectPublicKeyInfo in PEM."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def role(self) -> Role:
        """The role that this kind of key is made for."""
        return "recorder" if isinstance(self._key, ed25519.Ed25519PublicKey) else "owner"

    def to_securesystemslib(self) -> SSlibKey:
        """The same key for in-toto and securesystemslib."""
        # 60 ms, and not every caller needs it
        from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # as above

        return SSlibKey.from_crypto(self._key)

    def verify(self, sig: bytes, data: bytes) -> None:
        """Returns when ``sig`` is this key's signature over ``data``.

        Raises:
            SignatureError: it is not.
        """
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(sig, data)
            else:
                self._key.verify(sig, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise SignatureError(
                "the signature does not hold: the content or the signature was changed",
                f"key {self.keyid:.8}",
            ) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.keyid == other.keyid

    def __hash__(self) -> int:
        return hash(self.keyid)

    def __repr__(self) -> str:
        return f"PublicKey({self.role}, {self.keyid:.8})"


class Signer(Protocol):
    """Whatever holds a private key: signs bytes and shows the public half."""

    @property
    def public(self) -> PublicKey:
        """The public half."""
        ...

    @property
    def keyid(self) -> str:
        """Key id of the public half."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Signature over ``data``: 64 bytes (Ed25519) or DER (ECDSA with SHA-256).

        Raises:
            EnvironmentFailure: a token or service refuses.
        """
        ...


@dataclass(frozen=True)
class FileSigner:
    """A :class:`Signer` whose private key was read from a file."""

    _key: _PrivateKey = field(repr=False)
    public: PublicKey

    @property
    def keyid(self) -> str:
        """Key id of the public half."""
        return self.public.keyid

    def sign(self, data: bytes) -> bytes:
        """As :meth:`Signer.sign`; never refuses."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))


def default_directory() -> Path:
    """Folder of this user's keys: ``$XDG_CONFIG_HOME/forebear/keys``."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification has relative values ignored.
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".config"
    return base / "forebear" / "keys"


def key_files(role: Role, directory: Path) -> tuple[Path, Path]:
    """Where the private and the public key of ``role`` lie: ``<role>.pem``, ``<role>.pub``."""
    return directory / f"{role}.pem", directory / f"{role}.pub"


def create_key(role: Role, directory: Path, passphrase: bytes | None) -> tuple[Path, Path]:
    """Makes a key pair and returns its private and its public file.

    Args:
        role: ``recorder`` (Ed25519) or ``owner`` (P-256).
        directory: made with mode 0700 when absent.
        passphrase: encrypts the private key; None leaves it in clear, guarded by its mode.

    Raises:
        UsageError: there is a key already, or the passphrase is empty.
        EnvironmentFailure: the folder is open to others or not writable.
    """
    private, public = key_files(role, directory)
    require_private_folder(directory)
    for file in (private, public):
        if os.path.lexists(file):
            raise UsageError(
                f"there is a {role} key already", str(file),
                f"keep it, or replace it with 'forebear keys rotate {role}'",
            )  # fmt: skip
    write_pair(role, private, public, passphrase)
    return private, public


def write_pair(role: Role, private: Path, public: Path, passphrase: bytes | None) -> None:
    """Writes a new key pair into two files that must not exist, the public one first.

    Raises:
        UsageError: the passphrase is empty.
        EnvironmentFailure: a file exists or cannot be written; neither is left.
    """
    if passphrase is not None and not passphrase:
        raise UsageError("the passphrase is empty", fix="type one, or leave encryption out")
    key: _PrivateKey = (
        ed25519.Ed25519PrivateKey.generate()
        if role == "recorder"
        else ec.generate_private_key(ec.SECP256R1())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )
    write_new(public, PublicKey(key.public_key()).pem, 0o644)
    try:
        write_new(private, pem, 0o600)
    except EnvironmentFailure:
        public.unlink(missing_ok=True)
        raise


def is_encrypted(private: Path) -> bool:
    """Whether the private key needs a passphrase.

    Raises:
        EnvironmentFailure: as ``load_signer``.
    """
    return b"ENCRYPTED" in read_private(private).partition(b"\n")[0]


def load_signer(private: Path, passphrase: bytes | None = None) -> FileSigner:
    """Signer with the key in ``private`` (PKCS#8 PEM).

    Raises:
        EnvironmentFailure: the file is absent, a symbolic link, another user's, or open to group
            or world; or the passphrase is missing, wrong or not needed.
        FormatError: the file holds no Ed25519 or P-256 key.
    """
    data = read_private(private)
    where = str(private)
    encrypted = b"ENCRYPTED" in data.partition(b"\n")[0]
    if encrypted and passphrase is None:
        raise EnvironmentFailure("the key is encrypted", where, "give its passphrase")
    try:
        key = serialization.load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise EnvironmentFailure("the passphrase does not open the key", where) from error
        raise FormatError("holds no private key in PKCS#8 PEM", where) from error
    # The kind is checked before anything is signed, by building the public half.
    return FileSigner(key, PublicKey(key.public_key(), where=where))  # type: ignore[arg-type]


def load_public(file: Path) -> PublicKey:
    """Public key in ``file`` (SubjectPublicKeyInfo PEM).

    Raises:
        EnvironmentFailure: the file cannot be read.
        FormatError: the file holds no Ed25519 or P-256 public key.
    """
    data, _ = read_regular(file, "the public key", max_bytes=_MAX_BYTES)
    return parse_public(data, where=str(file))


def parse_public(data: bytes, *, where: str) -> PublicKey:
    """Public key in PEM bytes.

    Raises:
        FormatError: no Ed25519 or P-256 public key.
    """
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError("holds no public key in PEM", where) from error
    return PublicKey(key, where=where)


def read_private(file: Path) -> bytes:
    """Bytes of a private key file, when nobody else can read it.

    Raises:
        EnvironmentFailure: see :func:`load_signer`.
    """
    where = str(file)
    # the link itself is refused, not what it leads to
    data, status = read_regular(file, "the key", max_bytes=_MAX_BYTES, flags=os.O_NOFOLLOW)
    if status.st_uid != os.geteuid():
        raise EnvironmentFailure(
            "the key belongs to another user", where, "make your own with 'forebear keys new'"
        )
    if status.st_mode & 0o077:
        raise EnvironmentFailure(
            f"others may read the key (mode {stat.S_IMODE(status.st_mode):04o})",
            where,
            f"chmod 600 {file}",
        )
    return data


def read_regular(
    file: Path, what: str, *, max_bytes: int, flags: int = 0
) -> tuple[bytes, os.stat_result]:
    """First bytes of a regular file, and its status while it was open.

    Args:
        file: to read.
        what: names it in the message.
        max_bytes: reads no more.
        flags: more flags for opening it.

    Raises:
        EnvironmentFailure: it cannot be opened, is a symbolic link under ``O_NOFOLLOW``, or is no
            regular file.
    """
    try:
        # NONBLOCK: a FIFO in its place must not hang us.
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise EnvironmentFailure(f"{what} is no regular file", str(file))
            return os.read(handle, max_bytes), status
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise EnvironmentFailure(
                f"{what} is a symbolic link", str(file), "put the file itself there"
            ) from error
        raise unreadable(file, error) from error


def require_private_folder(directory: Path) -> None:
    """Returns when ``directory`` is ours and closed to others; makes it when absent.

    Raises:
        EnvironmentFailure: it is another's, open to others, or cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except (OSError, ValueError) as error:
        raise unreadable(directory, error) from error
    if status.st_uid != os.geteuid():
        raise EnvironmentFailure("the key folder belongs to another user", str(directory))
    if status.st_mode & 0o077:
        raise EnvironmentFailure(
            f"others may enter the key folder (mode {stat.S_IMODE(status.st_mode):04o})",
            str(directory),
            f"chmod 700 {directory}",
        )


def write_new(file: Path, data: bytes, mode: int) -> None:
    """Writes a file that must not exist, durable before we return.

    Raises:
        EnvironmentFailure: it exists or cannot be written; nothing half-written is left.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(file, flags, mode)
        try:
            with os.fdopen(handle, "wb") as stream:
                os.fchmod(handle, mode)  # the umask may have taken bits away
                stream.write(data)
                stream.flush()
                os.fsync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                file.unlink()
            raise
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be written: {(error.strerror or 'failed').lower()}", str(file)
        ) from error


def unreadable(file: Path, error: OSError | ValueError) -> EnvironmentFailure:
    """What a refused read or an impossible name (ValueError) means to the caller."""
    # ValueError: a NUL in the name
    reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
    fix = "make a key with 'forebear keys new'" if isinstance(error, FileNotFoundError) else ""
    return EnvironmentFailure(f"cannot be read: {(reason or 'failed').lower()}", str(file), fix)
