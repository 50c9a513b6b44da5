"""Reads the declared sources into drafts, one by one: texts with their role, source and licence.

A malformed row is named by file, line and reason; the run goes on only when the params accept that
share of bad rows, and the rows are then listed in a rejects file.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.train.curate.icd10cm import require_version
from forebear.train.curate.params import SourceParams, is_spdx
from forebear.train.curate.rows import Row, files_of, read_rows

# Long enough for context, short enough that a small share of replay still comes from many topics.
_SECTION_CHARACTERS = 1200

_MESSAGE_ROWS = 5

# What a row of each role must hold beside what its fields are called.
_TEXTS = {
    "domain": ("text",),
    "replay": ("text",),
    "instruction": ("prompt", "answer"),
    "preference": ("prompt", "chosen", "rejected"),
}


@dataclass(frozen=True, slots=True)
class Draft:
    """One text on its way into the corpus.

    Attributes:
        text: what is filtered and, for ``domain`` and ``replay``, kept.
        role: of the source.
        source: id of the source.
        licence: of the row where it has its own, else of the source.
        read: bytes as read from the source; None for a text derived from one read already.
        fields: ``prompt``, ``answer``, ``code``, ``title``, ``form`` of an instruction; ``prompt``,
            ``chosen``, ``rejected`` of a preference.
        made_from: SHA-256 of the documents that a derived text was made from.
        url: where the document stood; empty when not known.
        html: whether the text is still a web page.
    """

    text: str
    role: str
    source: str
    licence: str
    read: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)
    made_from: tuple[bytes, ...] = ()
    url: str = ""
    html: bool = False


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


def read_source(
    source: SourceParams, *, max_bad_fraction: float, reject: Callable[[Reject], object]
) -> Iterator[Draft]:
    """Drafts of a source of files or of the hub, one by one.

    A row of role ``domain`` or ``replay`` holds ``text``; one of role ``instruction`` holds
    ``prompt`` and ``answer``, of ``preference`` ``prompt``, ``chosen`` and ``rejected``; one of
    role ``eval`` is held against the others by whatever ``fields.text`` names. Other keys are
    passed over.

    Args:
        source: of any kind but ``package``.
        max_bad_fraction: share of malformed rows up to which they are only rejected.
        reject: takes each malformed row.
    Raises:
        EnvironmentFailure: a file cannot be read.
        FormatError: a file is broken, or more rows are malformed than accepted; the first are
            named.
    """
    n_rows, n_bad = 0, 0
    first: list[Reject] = []
    for row in read_rows(source):
        n_rows += 1
        try:
            if isinstance(row.value, FormatError):
                raise row.value
            yield _draft(source, row)
        except FormatError as error:
            bad = Reject(source.id, row.file, row.number, error.what)
            n_bad += 1
            first += [bad] if len(first) < _MESSAGE_ROWS else []
            reject(bad)
    if not n_rows:
        raise FormatError("the source is empty", where=f"source {source.id}: {_place(source)}")
    if n_bad > max_bad_fraction * n_rows:
        named = "".join(f"\n  {r.file}:{r.line}: {r.reason}" for r in first)
        raise FormatError(
            f"{n_bad} of {n_rows} rows are malformed, "
            f"accepted is a share of {max_bad_fraction:g}{named}",
            where=f"source {source.id}",
            fix="mend the rows, or raise curate.max_bad_fraction to drop them",
        )


def _place(source: SourceParams) -> str:
    return str(source.path or source.repo)


def _draft(source: SourceParams, row: Row) -> Draft:
    where, value = f"{row.file}:{row.number}", row.value
    if not isinstance(value, dict):
        raise FormatError("is no object", where=where)
    names = _names(source)
    texts = {name: _text(value, names[name], where) for name in names}
    text = "\n".join(texts.values())
    fields = {}
    if source.role == "instruction":
        fields = {
            **texts,
            "code": str(value.get("code", "")),
            "title": str(value.get("title", "")),
            "form": str(value.get("form", "given")),
        }
    if source.role == "preference":
        fields = texts
    return Draft(
        text,
        source.role,
        source.id,
        _licence(source, value, where),
        text.encode() if row.payload is None else row.payload,
        fields,
        url=str(value.get(source.fields.url or "") or ""),
        html=row.html,
    )


def _names(source: SourceParams) -> dict[str, tuple[str, ...]]:
    """Per part of a draft, the fields of a row that make it up."""
    named = source.fields
    if source.role == "eval" or (named.text is not None and "text" in _TEXTS[source.role]):
        return {"text": named.text or ("text",)}
    own = {"prompt": named.prompt, "answer": named.answer}
    return {part: (own.get(part, part),) for part in _TEXTS[source.role]}


def _text(row: dict[str, object], names: tuple[str, ...], where: str) -> str:
    """The texts of these fields, joined by newlines; a list stands for its texts."""
    found = []
    for name in names:
        value = row.get(name)
        parts = value if isinstance(value, list) else [value]
        if not parts or not all(isinstance(one, str) and one.strip() for one in parts):
            raise FormatError(f"{name!r} must be text, not empty", where=where)
        found += [str(one) for one in parts]
    return "\n".join(found)


def _licence(source: SourceParams, row: dict[str, object], where: str) -> str:
    name = source.fields.licence
    if name is None:
        return source.licence
    value = row.get(name)
    if not isinstance(value, str) or not is_spdx(value):
        raise FormatError(f"{name!r} must be the row's licence, an SPDX identifier", where=where)
    return value


def check_source(source: SourceParams) -> None:
    """Refuses at once a source that is not there, before minutes go into the others.

    Raises:
        EnvironmentFailure: missing package, other version, missing file, or the hub while offline.
        MissingExtra: web archives cannot be read.
    """
    if source.path is not None:
        files_of(source)
    if source.kind == "package" and source.version != "stdlib":
        require_version(source)
    if source.kind == "hub" and os.environ.get("HF_HUB_OFFLINE") == "1":
        raise EnvironmentFailure(
            "the hub is asked for, but the stage is offline",
            where=f"source {source.id}: {source.repo}",
            fix="set HF_HUB_OFFLINE=0 and HF_DATASETS_OFFLINE=0, and network: true under the "
            "stage's meta.forebear in dvc.yaml",
        )
    if source.kind == "warc":
        from forebear.train.curate.web import require_web

        require_web()
