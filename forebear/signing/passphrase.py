"""Passphrases and PINs: from a file, from a prompt on a terminal, never from an argument.

Refuses a file that others can read, and a prompt where nobody sits. A passphrase that a person has
typed reaches a child process through a file in memory, which is gone when the child is.

Rests on: provenance page, section 2.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from forebear.errors import EnvironmentFailure, UsageError
from forebear.signing.keys import read_regular

Secret = Callable[[str], bytes]
"""Gives the secret of this name (``passphrase``, ``PIN``); raises when there is none."""

_MAX_BYTES = 4096
_TERMINAL = Path("/dev/tty")
_MEMORY = Path("/dev/shm")  # noqa: S108  # a private folder is made below it


def read_passphrase(file: Path) -> bytes:
    """The first line of ``file``.

    Raises:
        EnvironmentFailure: it cannot be read, is no regular file, or others may read it.
        UsageError: the first line is empty or too long.
    """
    where = str(file)
    # A symbolic link may lead to it: secrets are mounted so.
    data, status = read_regular(file, "the passphrase file", max_bytes=_MAX_BYTES + 1)
    if status.st_mode & 0o077:
        raise EnvironmentFailure(
            f"others may read the passphrase (mode {stat.S_IMODE(status.st_mode):04o})",
            where,
            f"chmod 600 {file}",
        )
    line = data.partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise UsageError("the passphrase is empty", where, "write it into the first line")
    if len(line) > _MAX_BYTES:
        raise UsageError(f"a passphrase has at most {_MAX_BYTES} bytes", where)
    return line


def can_prompt() -> bool:
    """Whether there is a terminal to ask on."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def prompt(what: str, *, twice: bool = False) -> bytes:
    """What a person types on the terminal, unseen.

    Args:
        what: shown, such as ``passphrase of owner.pem``.
        twice: ask again and compare, for a new passphrase.

    Raises:
        EnvironmentFailure: there is no terminal, or it cannot hide what is typed.
        UsageError: nothing was typed, or not the same twice.
    """
    if not can_prompt():
        raise EnvironmentFailure(
            f"there is no terminal to ask for the {what} on", fix="name a file that holds it"
        )
    typed = _ask(what)
    if not typed:
        raise UsageError(f"the {what} is empty", fix="type one")
    if twice and _ask(f"{what} once more") != typed:
        raise UsageError(f"the {what} was typed differently the second time", fix="try again")
    return typed


def from_file_or_prompt(file: Path | None, *, of: str = "", fix: str = "") -> Secret:
    """A source that reads ``file``, else asks on the terminal, once for each name.

    Args:
        file: holds the secret in its first line; None asks.
        of: whose secret, for the prompt and the message.
        fix: said when there is neither file nor terminal.
    """
    known: dict[str, bytes] = {}

    def give(name: str) -> bytes:
        if name not in known:
            what = f"{name} of {of}" if of else name
            if file is None and not can_prompt():
                raise EnvironmentFailure(
                    f"needs its {name}, and there is no terminal to ask on", of, fix
                )
            known[name] = read_passphrase(file) if file is not None else prompt(what)
        return known[name]

    return give


@contextlib.contextmanager
def lent(passphrase: bytes) -> Iterator[Path]:
    """A file with the passphrase for a child process, removed when the block ends.

    It lies in memory where the system has such a place, and in a folder that nobody else enters.

    Raises:
        EnvironmentFailure: no such file can be made.
    """
    place = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
    try:
        folder = Path(tempfile.mkdtemp(prefix="forebear-", dir=place))
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot hand on a passphrase: {error.strerror}", str(error.filename or "")
        ) from error
    try:
        file = folder / "passphrase"
        file.touch(mode=0o600)
        file.write_bytes(passphrase + b"\n")
        yield file
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ask(what: str) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(f"{what}: ").encode()
    except (EOFError, getpass.GetPassWarning, UnicodeError) as error:
        raise EnvironmentFailure(
            f"the terminal gave no {what}", fix="name a file that holds it"
        ) from error
