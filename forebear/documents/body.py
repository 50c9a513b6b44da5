"""The JSON of a document: sections of lines, records, tables and sentences, every value bound.

Markdown, HTML and PDF are made from this and from nothing else. Figures are exact here; text
rounds them.

Source: compliance page, sections 7 and 12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.documents.values import Value
from forebear.formats import strictjson

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION = "1.0.0"


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_by_name=True, serialize_by_alias=True
    )


class Line(_Part):
    """One named value.

    Attributes:
        fact: id of the fact, or where in the document's own keys it stands.
        missing: who can supply a required statement that is not there.
        boxes: yes and no are shown as boxes, of which an unanswered one has none ticked.
    """

    fact: str
    label: str
    value: Value
    missing: str | None = None
    boxes: bool = False


class LinesBlock(_Part):
    """Lines, one below the other."""

    kind: Literal["lines"] = "lines"
    lines: tuple[Line, ...]


class Record(_Part):
    """One thing with many properties."""

    heading: str
    lines: tuple[Line, ...]


class RecordsBlock(_Part):
    """Things of one kind, each with its own lines."""

    kind: Literal["records"] = "records"
    fact: str
    caption: str
    records: tuple[Record, ...]
    missing: str | None = None


class TableBlock(_Part):
    """A table of values.

    Attributes:
        columns: labels, in order.
        rows: cells of each row, in the same order.
        heads: names of the rows, as a first column of their own; one more label then.
        unsure: column whose measured values say so when they have no interval.
    """

    kind: Literal["table"] = "table"
    fact: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    heads: tuple[str, ...] = ()
    unsure: int | None = None
    missing: str | None = None


class TextBlock(_Part):
    """A sentence of ours; Markdown."""

    kind: Literal["text"] = "text"
    text: str


Block = LinesBlock | RecordsBlock | TableBlock | TextBlock


class Section(_Part):
    """A heading and what stands below it.

    Attributes:
        number: as it is shown; empty for none.
        level: 2 for a section, 3 for a part of one.
        oecd: references of the OECD profile; empty in other documents.
    """

    number: str = ""
    level: int = Field(default=2, ge=2, le=3)
    heading: str
    oecd: tuple[str, ...] = ()
    blocks: tuple[Block, ...]


class Approved(_Part):
    """One line of the footer about a person's approval."""

    role: str
    name: str
    time: str
    status: str


class Footer(_Part):
    """What every document says about itself."""

    name: Value
    version: Value
    digest: Value
    document_time: str
    evidence_root: str
    facts_sha256: str
    declarations_sha256: str | None
    legal_file: str | None
    approvals: tuple[Approved, ...]


class Body(_Part):
    """One document.

    Attributes:
        id: ``D1`` to ``D13``.
        draft: whether a required statement is missing anywhere in the release.
        n_missing: how many are.
        intro: sentences below the title; Markdown.
    """

    schema_: str = Field(alias="$schema")
    schema_version: str = SCHEMA_VERSION
    id: str
    title: str
    language: str
    draft: bool
    n_missing: int
    intro: tuple[str, ...] = ()
    sections: tuple[Section, ...]
    footer: Footer

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is absent is left out."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=False)

    def to_bytes(self, **more: Any) -> bytes:
        """The file: canonical JSON, with the document's own keys beside."""
        return strictjson.dumps({**_shorten(self.to_json()), **more})

    def values(self) -> Iterator[Value]:
        """Every value in the order in which it is shown."""
        for section in self.sections:
            for block in section.blocks:
                yield from values_of(block)
        yield from (self.footer.name, self.footer.version, self.footer.digest)


def values_of(block: Block) -> Iterator[Value]:
    """Every value of a block in the order in which it is shown."""
    if isinstance(block, LinesBlock):
        yield from (line.value for line in block.lines if line.missing is None)
    elif isinstance(block, RecordsBlock):
        for record in block.records:
            yield from (line.value for line in record.lines if line.missing is None)
    elif isinstance(block, TableBlock):
        for row in block.rows:
            yield from row


def _shorten(value: Any) -> Any:
    """Without the empty lists and false marks that most values carry."""
    if isinstance(value, dict):
        kept = {key: _shorten(one) for key, one in value.items()}
        if "kind" in kept and kept["kind"] in _KINDS:
            return {
                key: one
                for key, one in kept.items()
                if key in ("kind", "value") or (one is not False and one != [])
            }
        return kept
    return [_shorten(one) for one in value] if isinstance(value, list) else value


_KINDS = ("computed", "declared", "reported", "unknown", "not_applicable")
