"""The opt-out list: publishers and sites that reserve their works from training.

A line is ``domain:example.org`` (its subdomains too), ``url:https://example.org/blog`` (every
address that begins so) or ``source:ID``. ``#`` at the start or after white space begins a comment:
who asked, when, by what means (robots.txt, TDM reservation, letter). Refuses any other line. A
single document is taken down by the takedown list instead, by its digest.

Source: Directive (EU) 2019/790, article 4(3); compliance page, section 9.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from forebear.errors import ConfigError, EnvironmentFailure

FILTER = "opt_out"
_COMMENT = re.compile(r"(?:^|\s)#.*")
_ENTRY = re.compile(
    r"domain:(?P<domain>[a-z0-9.-]*[a-z0-9])"
    r"|url:(?P<url>https?://\S+)"
    r"|source:(?P<source>[a-z0-9][a-z0-9-]*)"
)


@dataclass(frozen=True)
class OptOutList:
    """Whose documents must not be used.

    Attributes:
        sha256: of the file.
    """

    domains: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()
    sources: frozenset[str] = frozenset()
    sha256: str = hashlib.sha256(b"").hexdigest()

    def __len__(self) -> int:
        return len(self.domains) + len(self.urls) + len(self.sources)

    def reason(self, source: str, url: str) -> str | None:
        """``source``, ``domain`` or ``url`` where a document is reserved, else None."""
        if source in self.sources:
            return "source"
        if not url:
            return None
        parts = _host(url).split(".")
        if any(".".join(parts[start:]) in self.domains for start in range(len(parts))):
            return "domain"
        return "url" if url.startswith(self.urls) else None


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:  # no address at all
        return ""


def read_opt_out(file: Path) -> OptOutList:
    """The list in ``file``.

    Raises:
        EnvironmentFailure: the file cannot be read.
        ConfigError: a line is malformed; each is named.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the opt-out list: {error.strerror}", where=str(file)
        ) from error
    found: dict[str, set[str]] = {"domain": set(), "url": set(), "source": set()}
    bad = []
    for number, raw in enumerate(data.splitlines(), 1):
        text = _COMMENT.sub("", raw.decode("utf-8", "replace")).strip()
        match = _ENTRY.fullmatch(text)
        if match is not None:
            for kind, entries in found.items():
                if match[kind]:
                    entries.add(match[kind])
        elif text:
            bad.append(number)
    if bad:
        raise ConfigError(
            f"line(s) {', '.join(map(str, bad[:10]))} are no opt-out entry",
            where=str(file),
            fix="write domain:NAME, url:ADDRESS or source:ID, and comments after #",
        )
    return OptOutList(
        frozenset(found["domain"]),
        tuple(sorted(found["url"])),
        frozenset(found["source"]),
        hashlib.sha256(data).hexdigest(),
    )
