"""The table of licences and terms that ships with Forebear, and how an entry is found.

Source: compliance page, section 10.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from forebear.documents.strictyaml import parse_mapping

OpenEu = Literal["yes", "no", "needs_review"]
_STRICTNESS = (
    "allowed", "allowed_with_conditions", "needs_review", "forbidden_competing", "forbidden",
)  # fmt: skip


def _none(value: object) -> object:
    return None if value == "none" else value


Text = Annotated[str | None, BeforeValidator(_none)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LicenceSource(_Part):
    """Where the text stands, and of when."""

    url: str
    date: str


class Licence(_Part):
    """One entry of the table.

    Attributes:
        names: other names of the same terms.
        models: patterns of the names of models whose answers are under it.
        notice, display, naming, acceptable_use, pass_on: duties in words; none where there is none.
        user_cap: users a month above which there is no licence.
        territory: ``eu_multimodal`` or ``eu_vision``: rights in multimodal models are withheld from
            persons in the Union.
    """

    id: str
    kind: Literal[
        "permissive", "attribution", "share_alike", "noncommercial", "no_derivatives",
        "use_restricted", "contract", "public_domain",
    ] = Field(alias="class")  # fmt: skip
    names: tuple[str, ...] = Field(default=(), strict=False)
    models: tuple[str, ...] = Field(default=(), strict=False)
    commercial: Literal["yes", "no"] = "yes"
    derivatives: Literal["yes", "no"] = "yes"
    redistribution: Literal["yes", "no"] = "yes"
    notice: Text = None
    display: Text = None
    naming: Text = None
    user_cap: int | None = None
    acceptable_use: Text = None
    pass_on: Text = None
    attribution: bool = False
    output_training: Literal[
        "allowed", "allowed_with_conditions", "forbidden_competing", "forbidden", "needs_review"
    ] = "allowed"
    output_is_derivative: bool = False
    open_eu: OpenEu = "yes"
    territory: Text = None
    note: Text = None
    source: LicenceSource
    reviewed: str


@cache
def load_table() -> tuple[Licence, ...]:
    """The entries that ship with Forebear."""
    where = "licences.yaml"
    data = resources.files("forebear").joinpath("data", where).read_bytes()
    return tuple(Licence.model_validate(row) for row in parse_mapping(data, where=where)["entries"])


def find(name: str) -> Licence | None:
    """The entry of a licence's name, whatever its case; None when none is listed."""
    wanted = name.strip().lower()
    for entry in load_table():
        if wanted in {entry.id.lower(), *(other.lower() for other in entry.names)}:
            return entry
    return None


def find_terms(model: str, terms: str | None) -> Licence | None:
    """The entry for a model's answers: by its terms and by its name, whichever asks for more.

    Terms are what somebody wrote down; they do not make a model known for stricter ones free.
    """
    named = find(terms.partition(",")[0]) if terms else None
    short = model.lower()
    known = next(
        (entry for entry in load_table()
         if any(fnmatch.fnmatchcase(short, pattern) for pattern in entry.models)),
        None,
    )  # fmt: skip
    found = [entry for entry in (named, known) if entry is not None]
    return max(found, key=lambda entry: _STRICTNESS.index(entry.output_training), default=None)
