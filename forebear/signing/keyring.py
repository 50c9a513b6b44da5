"""The key folder over time: keys in use, keys that were replaced, and how one replaces another.

A replaced pair stays as ``<role>.<keyid8>.pem`` and ``.pub``. Public halves of replaced recorder
keys stay known, so that links which they signed still count. Refuses to lose or overwrite any key;
a replacement that is killed half-way is completed or undone by the next one.

Rests on: provenance page, section 2, "Rotation".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forebear.errors import EnvironmentFailure, ForebearError, UsageError
from forebear.signing.keys import (
    PublicKey,
    Role,
    is_encrypted,
    key_files,
    load_public,
    load_signer,
    read_private,
    require_private_folder,
    unreadable,
    write_new,
    write_pair,
)

State = Literal["missing", "public", "locked", "ready", "refused", "retired"]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key of the folder.

    Attributes:
        role: whose.
        keyid: None when there is no readable public half.
        state: ``ready``, ``locked`` (encrypted), ``public`` (the private half lies elsewhere, in a
            token perhaps), ``retired``, ``missing`` or ``refused``.
        private: its file, whether or not it exists.
        public: its file, whether or not it exists.
        reason: why it is refused; else empty.
        fix: how to mend that; may be empty.
    """

    role: Role
    keyid: str | None
    state: State
    private: Path
    public: Path
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did.

    Attributes:
        old: key that was replaced.
        new: key in use now.
        retired: files of the old pair.
    """

    old: PublicKey
    new: PublicKey
    retired: tuple[Path, Path]


def describe(role: Role, directory: Path) -> KeyRow:
    """The key that ``role`` uses now; faults are a state, not an error."""
    private, public = key_files(role, directory)
    if not os.path.lexists(private) and not os.path.lexists(public):
        return KeyRow(role, None, "missing", private, public)
    keyid = None
    state: State = "public"
    try:
        keyid = load_public(public).keyid
        if os.path.lexists(private):
            state = "locked" if is_encrypted(private) else "ready"
    except ForebearError as error:
        return KeyRow(role, keyid, "refused", private, public, error.what, error.fix)
    return KeyRow(role, keyid, state, private, public)


def retired(role: Role, directory: Path) -> tuple[KeyRow, ...]:
    """Keys that ``role`` used before, by file name."""
    pattern = re.compile(rf"{role}\.[0-9a-f]{{8}}\.pub")
    try:
        files = sorted(file for file in directory.iterdir() if pattern.fullmatch(file.name))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise unreadable(directory, error) from error
    rows = []
    for public in files:
        private = public.with_suffix(".pem")
        try:
            rows.append(KeyRow(role, load_public(public).keyid, "retired", private, public))
        except ForebearError as error:
            rows.append(KeyRow(role, None, "refused", private, public, error.what))
    return tuple(rows)


def load_recorders(root: Path, keys: Path) -> tuple[PublicKey, ...]:
    """Public keys of known recorders, by key id.

    They are this machine's, in use and replaced, and those in ``trust/recorders/*.pub``.

    Args:
        root: the DVC root.
        keys: the key folder.

    Raises:
        EnvironmentFailure: there is none, or a file cannot be read.
        FormatError: a file holds no recorder key.
    """
    files = [
        key_files("recorder", keys)[1],
        *(row.public for row in retired("recorder", keys)),
        *sorted((root / "trust" / "recorders").glob("*.pub")),
    ]
    found = {key.keyid: key for key in map(load_public, (file for file in files if file.is_file()))}
    if not found:
        raise EnvironmentFailure(
            "no recorder key is known", where=str(keys), fix="forebear keys new recorder"
        )
    return tuple(found[keyid] for keyid in sorted(found))


def rotate_key(role: Role, directory: Path, passphrase: bytes | None) -> Rotation:
    """Replaces the key of ``role`` by a new one and keeps the old pair.

    Args:
        role: whose.
        directory: the key folder.
        passphrase: encrypts the new private key; None leaves it in clear.

    Raises:
        UsageError: there is no key file to replace, or the passphrase is empty.
        EnvironmentFailure: files are open to others or unwritable, do not belong together, or
            another command changes keys.
    """
    private, public = key_files(role, directory)
    with _locked(directory):
        _settle(private, public)
        if not os.path.lexists(private):
            raise UsageError(
                f"there is no {role} key in a file to replace",
                str(private),
                f"make one with 'forebear keys new {role}'; a key in a token is replaced there",
            )
        old = load_public(public)
        _require_pair(private, old)
        kept = tuple(_retired_name(file, old) for file in (private, public))
        _keep(private, kept[0], read_private(private), 0o600)
        _keep(public, kept[1], old.pem, 0o644)
        fresh_private, fresh_public = _fresh(private), _fresh(public)
        write_pair(role, fresh_private, fresh_public, passphrase)
        new = load_public(fresh_public)
        _adopt(fresh_public, public)
        _adopt(fresh_private, private)
    return Rotation(old, new, (kept[0], kept[1]))


# A new pair is written public half first and put in place public half first. So a killed rotation
# leaves one of these: the public file alone or both files, nothing is in place yet; the private
# file alone, the public one is in place. Between the two the old private key signs, and its public
# half is known as a retired one.


def _settle(private: Path, public: Path) -> None:
    """Completes or undoes a rotation that was killed."""
    fresh_private, fresh_public = _fresh(private), _fresh(public)
    if os.path.lexists(fresh_private) and not os.path.lexists(fresh_public):
        _adopt(fresh_private, private)
        return
    try:
        # the private one first: alone it would mean the contrary
        fresh_private.unlink(missing_ok=True)
        fresh_public.unlink(missing_ok=True)
    except OSError as error:
        raise unreadable(fresh_public, error) from error


def _fresh(file: Path) -> Path:
    return file.with_name(f".{file.name}.new")


def _retired_name(file: Path, key: PublicKey) -> Path:
    return file.with_name(f"{file.stem}.{key.keyid:.8}{file.suffix}")


def _require_pair(private: Path, public: PublicKey) -> None:
    """Returns when both halves belong together; an encrypted one is not opened for that."""
    if not is_encrypted(private) and load_signer(private).public != public:
        raise EnvironmentFailure(
            f"is not the private half of public key {public.keyid:.8}",
            str(private),
            "put the right public file beside it",
        )


def _keep(file: Path, copy: Path, data: bytes, mode: int) -> None:
    """A copy under another name; one that a killed rotation left must be the same."""
    if not os.path.lexists(copy):
        write_new(copy, data, mode)
    elif copy.is_symlink() or copy.read_bytes() != data:
        raise UsageError(
            f"there is another file in the place where {file.name} would be kept",
            str(copy),
            "move it elsewhere",
        )


def _adopt(fresh: Path, file: Path) -> None:
    try:
        fresh.replace(file)
        handle = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be written: {(error.strerror or 'failed').lower()}", str(file)
        ) from error


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Holds the folder against another command that changes keys."""
    require_private_folder(directory)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise EnvironmentFailure(
            "another command is changing keys here", str(directory), "wait for it to end"
        ) from error
    try:
        yield
    finally:
        os.close(handle)
