"""Golden sets of the user's own: read, checked, and laid beside the generated ones.

A row holds ``id``, ``prompt``, ``answer``, ``source``, ``licence``, and may hold ``choices`` and
``stratum``. With choices the answer is one of them or its place, from 0; without, it is the text
that must come. Fewer than 200 items are warned of, and fewer than 50 cannot gate.

Source: evaluation page, section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.curate.params import OwnSetParams, is_spdx

FEW, TOO_FEW = 200, 50
_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class _OwnRow(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: _Text
    prompt: _Text
    choices: Annotated[tuple[_Text, ...], Field(min_length=2, strict=False)] | None = None
    answer: int | _Text
    stratum: _Text = "all"
    source: _Text
    licence: str

    @field_validator("licence")
    @classmethod
    def _is_spdx(cls, value: str) -> str:
        if not is_spdx(value):
            raise ValueError("must be an SPDX identifier")
        return value

    @model_validator(mode="after")
    def _answer_is_there(self) -> _OwnRow:
        if self.choices is None:
            if not isinstance(self.answer, str):
                raise ValueError("the answer must be a text where there are no choices")
            return self
        if len(set(self.choices)) != len(self.choices):
            raise ValueError("two choices are the same")
        if isinstance(self.answer, str):
            if self.answer not in self.choices:
                raise ValueError("the answer is none of the choices")
        elif not 0 <= self.answer < len(self.choices):
            raise ValueError("the answer is no place among the choices")
        return self


def read_own(
    owned: Sequence[OwnSetParams], *, say: Callable[[str], object]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of every own set under ``own_NAME``, sorted by id, the answer a place where it can be.

    Args:
        owned: names and files.
        say: takes a sentence when a set is small.
    Raises:
        EnvironmentFailure: a file cannot be read.
        FormatError: a row breaks the format, or an id stands twice.
    """
    sets = {}
    for one in owned:
        name = f"own_{one.name}"
        rows = _read(name, Path(one.path))
        sets[name] = [rows[key] for key in sorted(rows)]
        if len(rows) < TOO_FEW:
            say(f"{one.path}: {len(rows)} items, too few to gate: that takes {TOO_FEW}")
        elif len(rows) < FEW:
            say(f"{one.path}: {len(rows)} items; with fewer than {FEW} most drops go unseen")
    return sets


def answer_of(row: dict[str, Any]) -> str:
    """The text of the right answer."""
    choices, answer = row["choices"], row["answer"]
    return str(answer if choices is None else choices[answer])


def _read(name: str, file: Path) -> dict[str, dict[str, Any]]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the golden set: {error.strerror}", where=str(file)
        ) from error
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        where = f"{file}:{number}"
        try:
            row = _OwnRow.model_validate(strictjson.parse(line, where=where))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise FormatError(f"{place}: {first['msg']}".lstrip(": "), where=where) from error
        answer = row.answer
        if row.choices is not None and isinstance(answer, str):
            answer = row.choices.index(answer)
        key = f"{name}:{row.id}"
        if key in rows:
            raise FormatError(f"the id {row.id[:60]!a} stands twice", where=where)
        choices = None if row.choices is None else list(row.choices)
        rows[key] = {**row.model_dump(), "id": key, "choices": choices, "answer": answer}
    if not rows:
        raise FormatError("the golden set is empty", where=str(file))
    return rows
