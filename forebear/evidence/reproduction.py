"""The predicate of a reproduction: who ran which stage again, and what came out.

Written by ``forebear reproduce`` and read by whoever verifies. Refuses a predicate of another form;
whether its signer counts, and whether the run is the one in this release, is for the verifier.

Rests on: provenance page, section 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from forebear.errors import FormatError
from forebear.formats.statement import REPRODUCTION, Statement

Verdict = Literal["identical", "within bound", "different"]
IDENTICAL: Verdict = "identical"
WITHIN: Verdict = "within bound"
DIFFERENT: Verdict = "different"
VERDICTS: tuple[Verdict, ...] = (IDENTICAL, WITHIN, DIFFERENT)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One stage, run again elsewhere.

    Attributes:
        stage: as declared.
        link: SHA-256 of the original link's file.
        keyid: key that signed the original link.
        original: digest by name of the stage's outs, ``tree:`` names for folders.
        reproduced: the same of the second run.
        verdict: what the comparison came to.
        changed_params: values that the second run had instead, as text, by path; empty when none.
        environment: of the second run: Python's version, digest of the packages, whether it equals
            the original's.
        hardware: of the second run.
        confinement: how the second run was confined.
        comparison: figures and names behind the verdict.
        started: time in UTC.
        ended: likewise.
    """

    stage: str
    link: str
    keyid: str
    original: Mapping[str, str]
    reproduced: Mapping[str, str]
    verdict: Verdict
    changed_params: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    confinement: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    ended: str = ""

    def to_statement(self) -> Statement:
        """A statement about the original's outs."""
        return Statement(
            tuple(sorted(self.original.items(), key=lambda one: (":" not in one[0], one[0]))),
            REPRODUCTION,
            {
                "original": {
                    "stage": self.stage,
                    "link": {"sha256": self.link},
                    "keyid": self.keyid,
                    "outs": dict(self.original),
                },
                "reproduced": {
                    "outs": dict(self.reproduced),
                    "changedParams": dict(self.changed_params),
                    "confinement": dict(self.confinement),
                    "started": self.started,
                    "ended": self.ended,
                },
                "verdict": self.verdict,
                "environment": dict(self.environment),
                "hardware": dict(self.hardware),
                "comparison": dict(self.comparison),
            },
        )


def parse_reproduction(statement: Statement, *, where: str) -> Reproduction:
    """The reproduction that a statement tells of.

    Raises:
        FormatError: another predicate type or form; or an *identical* whose outs differ.
    """
    if statement.predicate_type != REPRODUCTION:
        raise FormatError(f"is a {statement.predicate_type}, no reproduction", where)
    predicate = statement.predicate
    original = _mapping(predicate, "original", where)
    again = _mapping(predicate, "reproduced", where)
    verdict = next((one for one in VERDICTS if one == predicate.get("verdict")), None)
    if verdict is None:
        raise FormatError(f"verdict is none of: {', '.join(VERDICTS)}", where)
    found = Reproduction(
        stage=_text(original, "stage", where),
        link=_text(_mapping(original, "link", where), "sha256", where),
        keyid=_text(original, "keyid", where),
        original=_texts(original, "outs", where),
        reproduced=_texts(again, "outs", where),
        verdict=verdict,
        changed_params=_texts(again, "changedParams", where),
        environment=_mapping(predicate, "environment", where),
        hardware=_mapping(predicate, "hardware", where),
        confinement=_mapping(again, "confinement", where),
        comparison=_mapping(predicate, "comparison", where),
        started=_text(again, "started", where),
        ended=_text(again, "ended", where),
    )
    if dict(statement.subjects) != found.original:
        raise FormatError("its subjects are not the outs of the original", where)
    if (verdict == IDENTICAL) != (found.original == found.reproduced):
        raise FormatError(f"says {verdict}, and its digests say otherwise", where)
    return found


def _mapping(value: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise FormatError("must be an object", f"{where}: {key}")
    return found


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise FormatError("must be text", f"{where}: {key}")
    return found


def _texts(value: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    found = _mapping(value, key, where)
    return {name: _text(found, name, f"{where}: {key}") for name in found}
