"""The recorder's key before the run, and the link's file after it.

Before the stage runs the key is examined but not read. It refuses a key that others may read, and
never leaves a half-written link.

Rests on: provenance page, section 2, and section 4, steps 2 and 5.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from forebear.errors import EnvironmentFailure
from forebear.signing.keys import key_files

PASSPHRASE_ENV = "FOREBEAR_RECORDER_PASSPHRASE_FILE"  # noqa: S105  # names a file, holds no secret


def require_key(keys: Path) -> Path:
    """File of the recorder's private key: there, ours, and for our eyes only.

    Only its first line is read, since the stage has yet to run and may meet no key.

    Raises:
        EnvironmentFailure: it is missing, another's, open to others, or encrypted while no
            passphrase is at hand; the message says how to mend it.
    """
    private, _ = key_files("recorder", keys)
    try:
        status = private.lstat()
    except FileNotFoundError as error:
        raise EnvironmentFailure(
            "there is no recorder key, so nothing could be signed",
            where=str(private),
            fix="forebear keys new recorder",
        ) from error
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
    with private.open("rb", buffering=0) as stream:
        encrypted = b"ENCRYPTED" in stream.read(32)
    if encrypted and not os.environ.get(PASSPHRASE_ENV):
        raise EnvironmentFailure(
            "the recorder key is encrypted",
            where=str(private),
            fix=f"name a file that holds its passphrase in {PASSPHRASE_ENV}",
        )
    return private


def read_passphrase() -> bytes | None:
    """Passphrase of the recorder key from the file that the environment names; None without."""
    named = os.environ.get(PASSPHRASE_ENV)
    return Path(named).read_bytes().rstrip(b"\r\n") if named else None


def write_link(target: Path, envelope: bytes) -> None:
    """The link appears whole under its name, or not at all.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(envelope)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
