"""The takedown list: documents that a person had removed; the next run trains on none of them.

A line is ``sha256:HEX`` (or the bare digest) of the exact bytes of a document, as it was read or as
it was kept, or ``salted:HEX``, its key under the ledger's salt, where the digest itself would give
the document away. ``#`` begins a comment: request, date, who asked. What was read under another
form of the same text goes with it, and so does whatever would have been made from it. Refuses a
line that is none of these, and a salted key without the salt.

Source: provenance page, section 9; compliance page, section 9.1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.ledger import SALT_BYTES, document_key

FILTER = "takedown"
_ENTRY = re.compile(r"(?:(sha256|salted):)?([0-9a-f]{64})")


@dataclass(frozen=True)
class TakedownList:
    """The list, and which of its entries met a document.

    Attributes:
        plain: SHA-256 of documents, hex.
        salted: salted keys, hex.
        sha256: of the file.
        salt: of the ledger; None for a plain one.
    """

    plain: frozenset[str] = frozenset()
    salted: frozenset[str] = frozenset()
    sha256: str = hashlib.sha256(b"").hexdigest()
    salt: bytes | None = None
    _matched: set[str] = field(default_factory=set, repr=False)

    def __len__(self) -> int:
        return len(self.plain) + len(self.salted)

    @property
    def n_matched(self) -> int:
        """Entries that met a document."""
        return len(self._matched)

    def names(self, *forms: bytes) -> bool:
        """Whether one of the forms of a document is listed."""
        found = set()
        for form in forms if len(self) else ():
            found |= {hashlib.sha256(form).hexdigest()} & self.plain
            if self.salted:
                found |= {document_key(form, self.salt)} & self.salted
        self._matched.update(found)
        return bool(found)

    @property
    def matched(self) -> list[str]:
        """Entries that met a document, ascending."""
        return sorted(self._matched)

    def note(self, matched: Iterable[str]) -> None:
        """Takes entries that met a document in a run that was cut off."""
        self._matched.update(matched)


def read_takedown(file: Path, *, salt: bytes | None = None) -> TakedownList:
    """The list in ``file``.

    Args:
        file: UTF-8 text.
        salt: of the ledger.
    Raises:
        EnvironmentFailure: the file cannot be read.
        ConfigError: a line is malformed (each is named), or salted without a salt.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the takedown list: {error.strerror}", where=str(file)
        ) from error
    entries: dict[str, set[str]] = {"sha256": set(), "salted": set()}
    bad = []
    for number, raw in enumerate(data.splitlines(), 1):
        text = raw.decode("utf-8", "replace").partition("#")[0].strip()
        match = _ENTRY.fullmatch(text)
        if match is not None:
            entries[match[1] or "sha256"].add(match[2])
        elif text:
            bad.append(number)
    if bad:
        raise ConfigError(
            f"line(s) {', '.join(map(str, bad[:10]))} are no takedown entry",
            where=str(file),
            fix="write sha256:HEX or salted:HEX, 64 lower-case digits, and comments after #",
        )
    if entries["salted"] and salt is None:
        raise ConfigError(
            "salted keys are listed, but the stage has no salt",
            where=str(file),
            fix="give the stage --salt FILE, declared under deps",
        )
    plain, salted = frozenset(entries["sha256"]), frozenset(entries["salted"])
    return TakedownList(plain, salted, hashlib.sha256(data).hexdigest(), salt)


def read_salt(file: Path) -> bytes | None:
    """The salt in ``file``, 64 hex digits; None when the file is empty.

    Raises:
        EnvironmentFailure: the file cannot be read.
        ConfigError: it holds something else.
    """
    try:
        text = file.read_bytes().strip()
        salt = bytes.fromhex(text.decode("ascii"))
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the salt: {error.strerror}", where=str(file)
        ) from error
    except ValueError:
        salt = b"?"
    if not salt:
        return None
    if len(salt) != SALT_BYTES:
        raise ConfigError("must hold 64 hex digits", where=str(file))
    return salt
