"""The recorder's key before the run, and the link's file after it.

The key is the file or the key URI that FOREBEAR_RECORDER_KEY names, else ``recorder.pem`` in the
key folder. Before the stage runs a file is examined but not read, and a token is asked for one
signature. It refuses a key that others may read, asks nobody for a passphrase, since a run may end
at night, and never leaves a half-written link.

Rests on: provenance page, section 2, and section 4, steps 2 and 5.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from forebear.errors import EnvironmentFailure
from forebear.signing import passphrase
from forebear.signing.keys import Signer, key_files
from forebear.signing.token import is_remote, key_path, open_key, require_at_hand

KEY_ENV = "FOREBEAR_RECORDER_KEY"
PUBLIC_ENV = "FOREBEAR_RECORDER_PUBLIC"
PASSPHRASE_ENV = "FOREBEAR_RECORDER_PASSPHRASE_FILE"  # noqa: S105  # names a file, holds no secret


def require_key(keys: Path) -> None:
    """Returns when the recorder's key is there, ours, and for our eyes only.

    Of a file only the first line is read, since the stage has yet to run and may meet no key. A
    token or key service is asked whether it signs: better now than after hours of training.

    Args:
        keys: the key folder.

    Raises:
        EnvironmentFailure: it is missing, another's, open to others, encrypted while no passphrase
            is at hand, or a token that does not sign; the message says how to mend it.
        UsageError: FOREBEAR_RECORDER_KEY cannot be understood.
    """
    reference = _reference(keys)
    if is_remote(reference):
        require_at_hand(load_recorder(keys))
        return
    private = key_path(reference)
    _require_own_file(private)
    with private.open("rb", buffering=0) as stream:
        encrypted = b"ENCRYPTED" in stream.read(32)
    if encrypted and not os.environ.get(PASSPHRASE_ENV):
        raise EnvironmentFailure(
            "the recorder key is encrypted",
            where=str(private),
            fix=f"name a file that holds its passphrase in {PASSPHRASE_ENV}",
        )


def load_recorder(keys: Path) -> Signer:
    """The recorder's signer.

    Args:
        keys: the key folder.

    Raises:
        EnvironmentFailure: see :func:`require_key`.
        UsageError: FOREBEAR_RECORDER_KEY cannot be understood.
        FormatError: a key file holds no key of ours.
    """
    reference = _reference(keys)
    named = os.environ.get(PUBLIC_ENV)
    public = Path(named) if named else key_files("recorder", keys)[1]
    return open_key(reference, public=public, secret=_secret)


def write_link(target: Path, envelope: bytes) -> None:
    """The link appears whole under its name, or not at all.

    What stands there is replaced, never written into: it may be a link into DVC's cache.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb") as stream:
            stream.write(envelope)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _reference(keys: Path) -> str:
    return os.environ.get(KEY_ENV) or str(key_files("recorder", keys.absolute())[0])


def _secret(name: str) -> bytes:
    named = os.environ.get(PASSPHRASE_ENV)
    if not named:
        raise EnvironmentFailure(
            f"the recorder key needs its {name}",
            fix=f"name a file that holds it in {PASSPHRASE_ENV}",
        )
    return passphrase.read_passphrase(Path(named))


def _require_own_file(private: Path) -> None:
    try:
        status = private.lstat()
    except FileNotFoundError as error:
        raise EnvironmentFailure(
            "there is no recorder key, so nothing could be signed",
            where=str(private),
            fix="forebear keys new recorder",
        ) from error
    except ValueError as error:
        raise EnvironmentFailure("no file can have this name", where=str(private)) from error
    if not stat.S_ISREG(status.st_mode):
        raise EnvironmentFailure("the key is no regular file", where=str(private))
    if status.st_uid != os.geteuid():
        raise EnvironmentFailure("the key belongs to another user", where=str(private))
    if status.st_mode & 0o077:
        raise EnvironmentFailure(
            f"others may read the key (mode {stat.S_IMODE(status.st_mode):04o})",
            where=str(private),
            fix=f"chmod 600 {private}",
        )
