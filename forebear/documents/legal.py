"""The constants of the law, from one versioned file: no legal number stands in code.

Source: compliance page, section 4.
"""

from __future__ import annotations

import hashlib
from datetime import date
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from forebear.documents.kinds import is_date
from forebear.documents.strictyaml import parse_mapping
from forebear.documents.values import Row, Source, Value
from forebear.errors import ConfigError

CURRENT = "eu-2026-11"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LegalSource(_Part):
    """Where it stands."""

    title: str = Field(min_length=1)
    reference: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://\S+$")
    date: str


class Entry(_Part):
    """One constant.

    Attributes:
        value: number, text, list or mapping; numbers with a fraction are texts.
        read: whether the passage itself was read, or a summary of it.
        verified_on: day on which it was last compared with its source.
    """

    id: str
    value: Any
    source: LegalSource
    read: Literal["full", "secondary"]
    verified_on: str
    note: str = ""

    @field_validator("verified_on")
    @classmethod
    def _is_day(cls, value: str) -> str:
        if not is_date(value):
            raise ValueError("must be a date YYYY-MM-DD")
        return value

    def as_value(self) -> Value:
        """The constant as a document shows it."""
        title = f"{self.source.title}, {self.source.reference}"
        pair = isinstance(self.value, list) and all(isinstance(one, int) for one in self.value)
        return Value(
            kind="reported",
            value="/".join(map(str, self.value)) if pair else self.value,
            source=Source(title=title, url=self.source.url, retrieved=self.verified_on),
        )


class Tiers(_Part):
    """Names of ranges; a number on a bound belongs to the upper one."""

    unit: str
    bounds: tuple[str, ...] = Field(strict=False)
    names: tuple[str, ...] = Field(strict=False)

    def name(self, number: float) -> str:
        """The range that a number falls into."""
        exact = Fraction(number)
        return self.names[sum(exact >= Fraction(bound) for bound in self.bounds)]


class _File(_Part):
    schema_: Literal["forebear.legal/v1"] = Field(alias="schema")
    version: str
    state: str
    max_age_days: int
    eu_countries: tuple[str, ...] = Field(strict=False)
    entries: tuple[Entry, ...] = Field(strict=False)
    tiers: dict[str, Tiers]


class LegalFile:
    """One state of the law.

    Args:
        data: bytes of the file.
        where: its name, for messages.

    Raises:
        ConfigError: the file does not hold.
    """

    def __init__(self, data: bytes, *, where: str) -> None:
        try:
            file = _File.model_validate(parse_mapping(data, where=where))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{place}: {first['msg']}", where=where) from error
        self.version, self.sha256 = file.version, hashlib.sha256(data).hexdigest()
        self.eu_countries = frozenset(file.eu_countries)
        self.entries = {entry.id: entry for entry in file.entries}
        self.tiers = file.tiers
        self.max_age_days = file.max_age_days

    def number(self, name: str) -> Fraction:
        """A constant as an exact number; a pair is numerator and denominator."""
        value = self.entries[name].value
        if isinstance(value, list):
            return Fraction(value[0], value[1])
        return Fraction(value)

    def text(self, name: str) -> str:
        """A constant as text."""
        return str(self.entries[name].value)

    def stale(self, day: str) -> list[Entry]:
        """Entries verified too long before a day (ISO date or time)."""
        today = date.fromisoformat(day[:10])
        return [
            entry
            for entry in self.entries.values()
            if (today - date.fromisoformat(entry.verified_on)).days > self.max_age_days
        ]

    def rows(self) -> tuple[Row, ...]:
        """Every constant as a row of ``legal.constants``."""
        rows = []
        for entry in self.entries.values():
            shown = entry.as_value()
            cells = {
                name: shown.model_copy(update={"value": value})
                for name, value in (
                    ("id", entry.id), ("value", shown.value), ("source", entry.source.title),
                    ("reference", entry.source.reference), ("url", entry.source.url),
                    ("date", entry.source.date), ("read", entry.read),
                    ("verified_on", entry.verified_on), ("note", entry.note),
                )
            }  # fmt: skip
            rows.append(Row(key=entry.id, cells=cells))
        return tuple(rows)


@cache
def load_legal(version: str = CURRENT) -> LegalFile:
    """The file of a version that ships with Forebear."""
    name = f"{version}.yaml"
    data = resources.files("forebear").joinpath("data", "legal", name).read_bytes()
    return LegalFile(data, where=name)
