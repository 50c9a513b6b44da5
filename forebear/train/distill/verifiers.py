"""Verifiers: each judges one answer of a teacher against what is known to be right.

A verifier is a function from the answer and its row to a :class:`Verdict`, found by the name that
params and trajectories use: ``exact_match`` (classification codes), ``mathematics`` (equal values,
however written) and ``code`` (the row's ``tests`` pass, in a sandbox). An answer that a verifier
cannot read is refuted with the reason, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.errors import ConfigError, FormatError
from forebear.train.distill.mathematics import MathComparer
from forebear.train.distill.sandbox import SandboxParams, raise_fences, run_tests

_CODE = re.compile(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?")
_CATEGORY_LENGTH = 3
_FENCED = re.compile(r"^```[ \t]*(?:python|py)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
BY_ROW = "by_row"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer may be learned from, and why.

    Attributes:
        verified: the answer is right.
        reason: a fixed word or two, fit for counting.
        detail: what else the trajectory shall say, by key.
    """

    verified: bool
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VerifierSettings:
    """What verifiers that run something need to know.

    Attributes:
        sandbox: limits of the code verifier.
        weak_fences: code may be run without the least fences (an allowance is declared).
    """

    sandbox: SandboxParams = field(default_factory=SandboxParams)
    weak_fences: bool = False


Verifier = Callable[[str, Mapping[str, str]], Verdict]


def exact_match(answer: str, row: Mapping[str, str]) -> Verdict:
    """Judges a classification code: equal to the row's ``answer`` but for case, blanks and dot.

    The dot may be left out; a dot in the wrong place, or any word beside the code, is refuted.
    The reason tells a near miss (same category, its first three characters) from a far one.
    """
    given, expected = _canonical_code(answer), _canonical_code(row["answer"])
    if not given:
        return Verdict(verified=False, reason="empty")
    if given == expected:
        return Verdict(verified=True, reason="exact match")
    if not _CODE.fullmatch(given):
        return Verdict(verified=False, reason="not a code")
    if given[:_CATEGORY_LENGTH] == expected[:_CATEGORY_LENGTH]:
        return Verdict(verified=False, reason="wrong code, right category")
    return Verdict(verified=False, reason="wrong category")


def _canonical_code(text: str) -> str:
    code = text.strip().upper()
    if len(code) > _CATEGORY_LENGTH and "." not in code:
        return f"{code[:_CATEGORY_LENGTH]}.{code[_CATEGORY_LENGTH:]}"
    return code


def code_of(answer: str) -> str:
    """The program in an answer: its last fenced block, or the whole of it when there is none."""
    blocks = _FENCED.findall(answer)
    return str(blocks[-1]) if blocks else answer


def _code(settings: VerifierSettings) -> Verifier:
    """Probes the sandbox once, then judges programs in it."""
    fences = raise_fences(settings.sandbox, weak_allowed=settings.weak_fences)

    def verify(answer: str, row: Mapping[str, str]) -> Verdict:
        tests = row.get("tests", "")
        if not tests.strip():
            raise FormatError("has no tests to run", where=f"row {row.get('id', '')}")
        reason = run_tests(code_of(answer), tests, settings.sandbox, fences)
        sandbox = {"sandbox": fences.to_json()}
        return Verdict(not reason, reason or "tests passed", sandbox)

    return verify


def _mathematics(settings: VerifierSettings) -> Verifier:
    comparer = MathComparer(timeout_s=settings.sandbox.wall_s)

    def verify(answer: str, row: Mapping[str, str]) -> Verdict:
        reason = comparer.reason(row["answer"], answer)
        return Verdict(not reason, reason or "equal")

    return verify


VERIFIERS: Mapping[str, Callable[[VerifierSettings], Verifier]] = {
    "code": _code,
    "exact_match": lambda _settings: exact_match,
    "mathematics": _mathematics,
}


def require_verifier(name: str, *, where: str) -> None:
    """Refuses a name that no verifier has.

    Raises:
        ConfigError: the known ones are listed.
    """
    if name not in VERIFIERS:
        raise ConfigError(
            f"there is no verifier {name!r}",
            where=where,
            fix=f"choose one of: {', '.join(sorted(VERIFIERS))}",
        )


def load_verifier(name: str, *, where: str, settings: VerifierSettings | None = None) -> Verifier:
    """The verifier registered under ``name``, ready to judge.

    Args:
        name: as written in the params.
        where: the params key, for the message.
        settings: limits; the defaults when left out.
    Raises:
        ConfigError: there is none of that name; the known ones are listed.
        EnvironmentFailure: the machine grants no sandbox for code.
        MissingExtra: a library is not installed.
    """
    require_verifier(name, where=where)
    return VERIFIERS[name](settings or VerifierSettings())
