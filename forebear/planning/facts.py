"""Facts of base models: the table that ships with Forebear, and what a user adds to it.

A fact is what the publisher stated, with source and date; what nobody stated is ``unknown`` in the
file, None here, and never guessed. Parameter counts can be computed from the architecture, which
is how the table is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from forebear.documents.strictyaml import parse_mapping
from forebear.errors import ConfigError, EnvironmentFailure
from forebear.planning.shape import Architecture

# from the least to the most that a licence asks of whoever tunes and publishes
POSTURES = ("permissive", "conditional", "research", "unknown")

_T = TypeVar("_T", bound=BaseModel)


def _known(value: object) -> object:
    return None if value == "unknown" else value


Count = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_known)]
Flag = Annotated[bool | None, BeforeValidator(_known)]
Date = Annotated[
    Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")] | None, BeforeValidator(_known)
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Languages(_Part):
    """What the publisher says is covered.

    Attributes:
        named: language codes, ISO 639-1 where there is one.
        count: how many languages the publisher claims; more than named ones means that the list
            here is not whole, and a language outside it is unknown rather than missing.
    """

    named: tuple[str, ...] = Field(strict=False)
    count: Count

    def covers(self, code: str) -> bool | None:
        """Whether ``code`` is covered; None when the list cannot tell."""
        if code in self.named:
            return True
        return False if self.count == len(self.named) else None


class ModelFacts(_Part):
    """One row of the table; None stands for *unknown*.

    Attributes:
        posture: what the licence asks, one of :data:`POSTURES`; a reading, not legal advice.
        tuned: the weights under this name are instruction-tuned.
        total, active: parameters as stated, all and at work on one token.
        tokens: that it was trained on, as stated.
        languages: inline, or the name of one of the file's ``language_lists``.
        released: publisher's date.
        as_of: when the row was last compared with its source.
    """

    name: str = Field(min_length=1)
    repo: str = Field(min_length=1)
    publisher: str = Field(min_length=1)
    licence: str = Field(min_length=2)
    posture: Literal["permissive", "conditional", "research", "unknown"]
    notes: tuple[str, ...] = Field(default=(), strict=False)
    tuned: Flag
    total: Count
    active: Count
    tokens: Count = None
    architecture: Annotated[Architecture | None, BeforeValidator(_known)]
    context: Count
    languages: Languages
    source: str = Field(min_length=10)
    released: Date
    as_of: Date

    @model_validator(mode="after")
    def _posture_needs_a_licence(self) -> ModelFacts:
        if self.licence == "unknown" and self.posture != "unknown":
            raise ValueError("the posture cannot be known while the licence is unknown")
        return self

    @property
    def parameters(self) -> int | None:
        """Stated total, else computed from the architecture."""
        return self.total or (self.architecture.total() if self.architecture else None)

    @property
    def at_work(self) -> int | None:
        """Stated active parameters, else computed from the architecture."""
        return self.active or (self.architecture.active() if self.architecture else None)


class _Table(_Part):
    """A facts file."""

    schema_: Literal["forebear.models/v1"] = Field(alias="schema")
    language_lists: dict[str, Languages] = Field(default_factory=dict)
    models: tuple[ModelFacts, ...] = Field(strict=False)

    @model_validator(mode="before")
    @classmethod
    def _resolve_lists(cls, values: Any) -> Any:
        lists = values.get("language_lists") or {}
        rows = values.get("models")
        if not isinstance(rows, list):
            return values
        return {**values, "models": [_with_languages(row, lists) for row in rows]}

    @model_validator(mode="after")
    def _names_differ(self) -> _Table:
        names = [row.name for row in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"stands twice: {', '.join(twice)}")
        return self


def _with_languages(row: Any, lists: Mapping[str, Any]) -> Any:
    if isinstance(row, dict) and row.get("languages") in list(lists):
        return {**row, "languages": lists[row["languages"]]}
    return row


def load_facts(extra: Path | None = None) -> dict[str, ModelFacts]:
    """The table by name; rows of ``extra`` are added, or replace those of the same name.

    Raises:
        ConfigError: a row does not hold; all faults are listed.
        EnvironmentFailure: ``extra`` cannot be read.
    """
    packaged = resources.files("forebear").joinpath("data", "models.yaml").read_bytes()
    table = parse_facts(packaged, where="models.yaml")
    if extra is not None:
        table |= parse_facts(read_bytes(extra), where=str(extra))
    return table


def parse_facts(data: bytes, *, where: str) -> dict[str, ModelFacts]:
    """The rows of a facts file by name.

    Raises:
        ConfigError: no such schema, a key missing or unknown, a name twice.
    """
    table = validated(_Table, parse_mapping(data, where=where), where=where)
    return {row.name: row for row in table.models}


def by_repo(table: Mapping[str, ModelFacts], repo: str) -> ModelFacts | None:
    """The row of a repository; None when the table has none."""
    wanted = repo.lower()
    return next((facts for facts in table.values() if facts.repo.lower() == wanted), None)


def shown(count: int | None) -> str:
    """A number of parameters for people: ``119B``, ``600M``."""
    if count is None:
        return "unknown"
    unit, letter = next(((n, c) for n, c in ((10**9, "B"), (10**6, "M")) if count >= n), (1, ""))
    return f"{count / unit:.3g}{letter}"


def read_bytes(file: Path) -> bytes:
    """The bytes of a file that a person names.

    Raises:
        EnvironmentFailure: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be read: {error.strerror}", str(file), "check the path"
        ) from error


def validated(model: type[_T], values: Mapping[str, Any], *, where: str) -> _T:
    """``values`` as ``model``.

    Raises:
        ConfigError: every fault, one line each.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        listing = "".join(f"\n  {line}" for line in sorted(lines))
        raise ConfigError(
            f"{len(lines)} fault(s){listing}", where=where, fix="correct the keys named above"
        ) from error
