"""What publishers state about their base models: the table that ships with Forebear, as reported.

Reads the same file as ``forebear base advise``, whose reader checks every row; here a row is only
looked up. Nothing in it was measured by us, so whatever rests on it is shown as published.

Source: compliance page, section 10.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from forebear.documents.derive import OPERATIONS, TRAINED
from forebear.documents.strictyaml import parse_mapping
from forebear.documents.values import Source, Value, unknown

_FILE = "models.yaml"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """One row of the table; None where nobody stated it.

    Attributes:
        active, total: parameters at work on one token, and all.
        tokens: that it was trained on.
        tuned: the weights under this name are instruction-tuned.
    """

    name: str
    repo: str
    licence: str | None
    tuned: bool | None
    active: int | None
    total: int | None
    tokens: int | None
    context: int | None
    publisher: str
    source: str
    as_of: str

    def reported(self, value: Any, *, what: str, unit: str | None = None) -> Value:
        """A figure of this row with its source; unknown where the row has none."""
        if value is None:
            return unknown(f"the publisher of {self.name} states no {what} that is known here")
        return Value(kind="reported", value=value, unit=unit, source=self._source())

    def flop(self, parts: tuple[str, str]) -> Value:
        """Training compute by 6·N·D from what is reported; ``parts`` are the ids of N and D."""
        if self.active is None or self.tokens is None:
            return unknown(f"parameters or tokens of {self.name} are not published")
        return Value(
            kind="reported",
            value=OPERATIONS[TRAINED]([self.active, self.tokens]),
            unit="FLOP",
            estimate=True,
            method=TRAINED,
            inputs=parts,
            source=self._source(),
        )

    def _source(self) -> Source:
        return Source(title=self.source, url=f"https://huggingface.co/{self.repo}",
                      retrieved=self.as_of)  # fmt: skip


@cache
def _rows() -> tuple[dict[str, Any], ...]:
    data = resources.files("forebear").joinpath("data", _FILE).read_bytes()
    return tuple(parse_mapping(data, where=_FILE)["models"])


def find(repo: str) -> BaseModel | None:
    """The row of a repository, whatever its case; None when the table has none."""
    for row in _rows():
        if str(row["repo"]).lower() == repo.lower():
            return BaseModel(
                name=row["name"],
                repo=row["repo"],
                licence=_known(row.get("licence")),
                tuned=_known(row.get("tuned")),
                active=_known(row.get("active")),
                total=_known(row.get("total")),
                context=_known(row.get("context")),
                publisher=row["publisher"],
                tokens=_known(row.get("tokens")),
                source=row["source"],
                as_of=row["as_of"],
            )
    return None


def _known(value: Any) -> Any:
    return None if value == "unknown" else value
