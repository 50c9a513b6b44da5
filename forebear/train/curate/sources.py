"""Reads the declared sources into drafts: texts with their role, source and licence.

A malformed row of a file is named by file, line and reason; the run goes on only when the params
accept that share of bad rows, and the rows are then listed in a rejects file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.curate.icd10cm import require_version
from forebear.train.curate.params import SourceParams

# Long enough for context, short enough that a small share of replay still comes from many topics.
_SECTION_CHARACTERS = 1200

_MESSAGE_ROWS = 5


@dataclass(frozen=True, slots=True)
class Draft:
    """One text on its way into the corpus.

    Attributes:
        text: what is filtered and, for ``domain`` and ``replay``, kept.
        role: ``domain``, ``replay`` or ``instruction``.
        source: id of the source.
        licence: of the source.
        read: bytes as read from the source; None for a text derived from one read already.
        fields: ``prompt``, ``answer``, ``code``, ``title``, ``form`` of an instruction.
        made_from: SHA-256 of the documents that a derived text was made from.
    """

    text: str
    role: str
    source: str
    licence: str
    read: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)
    made_from: tuple[bytes, ...] = ()


def normal_form(text: str) -> str:
    """``text`` as it is kept: NFC, one kind of line end, no white space at its ends."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


@dataclass(frozen=True, slots=True)
class Reject:
    """A malformed row: where it stands and why it was refused."""

    source: str
    file: str
    line: int
    reason: str


def read_pydoc(source: SourceParams) -> Iterator[Draft]:
    """Python's own help topics, cut at blank lines into sections.

    Raises:
        EnvironmentFailure: this Python was built without them.
        ConfigError: the params pin a version; the topics come with the interpreter.
    """
    if source.version != "stdlib":
        raise ConfigError(
            "the help topics come with the interpreter and have no version of their own",
            where=f"params.yaml: curate.sources: {source.id}.version",
            fix="version: stdlib",
        )
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise EnvironmentFailure(
            "this Python carries no help topics",
            where=f"source {source.id}: pydoc_data.topics",
            fix="install the full standard library",
        ) from None
    for name in sorted(topics):
        for section in sections(topics[name]):
            yield Draft(section, "replay", source.id, source.licence, section.encode())


def sections(text: str) -> Iterator[str]:
    """Parts of ``text`` of about 1200 characters, cut at blank lines."""
    part: list[str] = []
    for block in text.strip().split("\n\n"):
        part.append(block.rstrip())
        if sum(map(len, part)) >= _SECTION_CHARACTERS:
            yield "\n\n".join(part)
            part = []
    if part:
        yield "\n\n".join(part)


def read_jsonl(
    source: SourceParams, *, max_bad_fraction: float
) -> tuple[list[Draft], list[Reject]]:
    """Drafts and rejects of one file.

    A row of role ``domain`` or ``replay`` holds ``text``; one of role ``instruction`` holds
    ``prompt`` and ``answer``. Other keys are passed over.

    Raises:
        EnvironmentFailure: the file cannot be read.
        FormatError: more rows are malformed than accepted; the first are named.
    """
    file = Path(str(source.path))
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the source: {error.strerror}",
            where=f"source {source.id}: {file}",
            fix="check curate.sources in params.yaml",
        ) from error
    drafts: list[Draft] = []
    rejects: list[Reject] = []
    for number, line in enumerate(lines, start=1):
        try:
            drafts.append(_draft(source, line, where=f"{file}:{number}"))
        except FormatError as error:
            rejects.append(Reject(source.id, str(file), number, error.what))
    if not lines:
        raise FormatError("the source is empty", where=f"source {source.id}: {file}")
    if len(rejects) > max_bad_fraction * len(lines):
        named = "".join(f"\n  {r.file}:{r.line}: {r.reason}" for r in rejects[:_MESSAGE_ROWS])
        raise FormatError(
            f"{len(rejects)} of {len(lines)} rows are malformed, "
            f"accepted is a share of {max_bad_fraction:g}{named}",
            where=f"source {source.id}",
            fix="mend the rows, or raise curate.max_bad_fraction to drop them",
        )
    return drafts, rejects


def _draft(source: SourceParams, line: bytes, *, where: str) -> Draft:
    row = strictjson.parse(line, where=where)
    if not isinstance(row, dict):
        raise FormatError("is no object", where=where)
    needed = ("prompt", "answer") if source.role == "instruction" else ("text",)
    for key in needed:
        value = row.get(key)
        if not isinstance(value, str) or not value.strip():
            raise FormatError(f"{key!r} must be text, not empty", where=where)
    text = "\n".join(str(row[key]) for key in needed)
    fields = {}
    if source.role == "instruction":
        fields = {
            "prompt": str(row["prompt"]),
            "answer": str(row["answer"]),
            "code": str(row.get("code", "")),
            "title": str(row.get("title", "")),
            "form": str(row.get("form", "given")),
        }
    return Draft(text, source.role, source.id, source.licence, text.encode(), fields)


def check_source(source: SourceParams) -> None:
    """Refuses at once a source that is not there, before minutes go into the others.

    Raises:
        EnvironmentFailure: missing package, other version, missing file.
    """
    if source.kind == "jsonl" and not Path(str(source.path)).is_file():
        raise EnvironmentFailure(
            "there is no such file",
            where=f"source {source.id}: {source.path}",
            fix="check curate.sources in params.yaml",
        )
    if source.kind == "package" and source.version != "stdlib":
        require_version(source)
