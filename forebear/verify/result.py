"""What a check found: passed, failed or unchecked; never a truth value.

A verdict has no ``__bool__``, so that absence cannot read as success. :class:`Report` alone
computes the exit code.

Rests on: provenance page, section 11; style page, section 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forebear.evidence.store import Evidence
from forebear.signing.policy import TrustPolicy

SCHEMA = "forebear.verify/v1"
CORE = ("C1", "C2", "C3", "C4", "C5", "C6")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold.

    Attributes:
        path: the file, link or stage that it is about.
        text: what is wrong, in plain words.
    """

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Passed:
    """The check was made and everything held; ``note`` says what was looked at."""

    note: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something does not hold.

    Attributes:
        findings: at least one, the first broken edge first.
        internal: the check itself broke down, which is never a pass.
    """

    findings: tuple[Finding, ...]
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Nothing is known: the check was not made, for this reason."""

    reason: str


Verdict = Passed | Failed | Unchecked


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        id: ``C1`` to ``C16``.
        title: what it is about, in a few words.
        function: makes the check.
        rests_on: checks without whose pass this one says nothing.
        recompute: makes the check when the auditor asks to have these stages computed again; None
            for a check that computes nothing again.
    """

    id: str
    title: str
    function: Callable[[Evidence, TrustPolicy], Verdict]
    rests_on: tuple[str, ...] = ()
    recompute: Callable[[Evidence, TrustPolicy, tuple[str, ...]], Verdict] | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Verdict of one check."""

    id: str
    title: str
    verdict: Verdict

    @property
    def status(self) -> str:
        """``passed``, ``failed`` or ``unchecked``."""
        return type(self.verdict).__name__.lower()


@dataclass(frozen=True, slots=True)
class Report:
    """Results of all checks.

    Attributes:
        results: in the order of the checks.
        kind: ``release`` or ``repository``.
        trust: whom the verdict trusts, in words.
    """

    results: tuple[CheckResult, ...]
    kind: str
    trust: str

    def count(self, status: str) -> int:
        """Number of checks with that status."""
        return sum(result.status == status for result in self.results)

    def exit_code(self, *, strict: bool = False) -> int:
        """1 when a check failed; 3 when one that is needed is unchecked; else 0.

        Args:
            strict: every check is needed, not only C1 to C6.
        """
        # Whatever is no known verdict counts as failed.
        known = {"passed", "failed", "unchecked"}
        if any(result.status == "failed" or result.status not in known for result in self.results):
            return 1
        passed = {result.id for result in self.results if result.status == "passed"}
        needed = {result.id for result in self.results} | set(CORE) if strict else set(CORE)
        return 0 if needed <= passed else 3

    def to_json(self, *, strict: bool = False) -> dict[str, Any]:
        """The report as JSON values: the same facts as the text."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "trust": self.trust,
            "checks": [_to_json(result) for result in self.results],
            "counts": {name: self.count(name) for name in ("passed", "failed", "unchecked")},
            "exit_code": self.exit_code(strict=strict),
        }


def failed(findings: list[Finding], otherwise: str) -> Verdict:
    """Failed with these findings; passed with the note ``otherwise`` when there are none."""
    return Failed(tuple(findings)) if findings else Passed(otherwise)


def counted(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _to_json(result: CheckResult) -> dict[str, Any]:
    verdict = result.verdict
    entry: dict[str, Any] = {"id": result.id, "title": result.title, "status": result.status}
    if isinstance(verdict, Failed):
        entry["internal"] = verdict.internal
        entry["findings"] = [
            {"path": finding.path, "text": finding.text} for finding in verdict.findings
        ]
    elif isinstance(verdict, Passed):
        entry["note"] = verdict.note
    else:
        entry["reason"] = verdict.reason
    return entry
