"""Whether a teacher's terms let others learn from its output, from a small table with sources.

The table (``forebear/data/teacher_terms.yaml``) is a reading aid with dates, no legal advice. Where
it forbids, only an allowance helps; where it knows nothing or states a condition, somebody must
have read the terms and say so with a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forebear.errors import ConfigError, EnvironmentFailure

_TABLE = Path(__file__).parents[2] / "data" / "teacher_terms.yaml"
_WHERE = "params.yaml: distill.teacher"
_ALLOWANCE = "add an allowance for distill.teacher.terms"


class Posture(BaseModel):
    """What one family's terms say.

    ``names`` are patterns over the lower-case model name, its organisation left out; ``as_of`` is
    the state of knowledge.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    names: tuple[str, ...] = Field(strict=False, min_length=1)
    posture: Literal["permitted", "conditional", "forbidden"]
    says: str = Field(min_length=10)
    source: str = Field(pattern="^https://")
    as_of: str = Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")


def load_table(file: Path = _TABLE) -> list[Posture]:
    """The table's rows, in order: the first that matches a name counts.

    Raises:
        EnvironmentFailure: it cannot be read.
        ConfigError: a row has another form.
    """
    try:
        rows = yaml.safe_load(file.read_text(encoding="utf-8"))
        return [Posture.model_validate(row) for row in rows]
    except OSError as error:
        raise EnvironmentFailure(str(error.strerror), where=str(file)) from error
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        raise ConfigError(" ".join(str(error).split())[:300], where=str(file)) from error


def posture_of(name: str, table: Sequence[Posture]) -> Posture | None:
    """The first row whose patterns match ``name``."""
    plain = name.lower().rpartition("/")[2]
    for row in table:
        if any(fnmatchcase(plain, pattern) for pattern in row.names):
            return row
    return None


def require_terms(
    names: Sequence[str], *, declared: str, by: str | None, own: bool, allowed: bool
) -> None:
    """Refuses a teacher whose terms forbid training on its output, or that nobody has read.

    Args:
        names: the teacher's names; any of them may be in the table.
        declared: the params' reading: ``permitted``, ``forbidden`` or ``unknown``.
        by: who read the terms.
        own: a local checkpoint; one that no row names needs no reader.
        allowed: an allowance is declared.
    Raises:
        ConfigError: the terms forbid, or are unknown, and there is no allowance.
    """
    table = load_table()
    known = [row for row in (posture_of(name, table) for name in names) if row is not None]
    if allowed:
        return
    for row in known:
        if row.posture == "forbidden":
            raise ConfigError(
                f"the terms of {names[0]} forbid training on its output: {row.says} "
                f"({row.source}, as of {row.as_of})",
                where=_WHERE,
                fix=f"choose another teacher, or {_ALLOWANCE} with the consent's reference",
            )
    if declared == "forbidden":
        raise ConfigError(
            f"the terms of {names[0]} forbid training on its output",
            where=_WHERE,
            fix=f"choose another teacher, or {_ALLOWANCE}",
        )
    conditions = [row for row in known if row.posture == "conditional"]
    certain = bool(known) and not conditions
    if declared == "unknown" and not certain:
        raise ConfigError(
            f"nobody knows whether the terms of {names[0]} allow training on its output",
            where=_WHERE,
            fix=f"read them and declare training_on_output and by, or {_ALLOWANCE}",
        )
    if by is None and (conditions or not (own or certain)):
        said = f": {conditions[0].says} ({conditions[0].source})" if conditions else ""
        raise ConfigError(
            f"who read the terms of {names[0]}?{said}",
            where=f"{_WHERE}.by",
            fix="name the person who read them and declares them permitted",
        )
