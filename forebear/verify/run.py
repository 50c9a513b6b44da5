"""Runs every check in order and gathers what they found.

A check that breaks down is *failed (internal)*, never a pass. Where C1 refused a document that a
later check needs, or a check that it rests on did not pass, it is unchecked; all others still run.

Rests on: provenance page, section 11.
"""

from __future__ import annotations

from collections.abc import Sequence

from forebear.errors import ConfigError, FormatError, PathError
from forebear.evidence.store import Evidence
from forebear.signing.policy import TrustPolicy
from forebear.verify.checks import CHECKS
from forebear.verify.result import (
    Check,
    CheckResult,
    Failed,
    Finding,
    Passed,
    Report,
    Unchecked,
    Verdict,
)
from forebear.verify.trust import effective


def verify(
    evidence: Evidence,
    policy: TrustPolicy,
    *,
    trust: str = "trust policy",
    checks: Sequence[Check] = CHECKS,
    recompute: Sequence[str] = (),
) -> Report:
    """Report of all checks on the evidence.

    Args:
        evidence: open.
        policy: whom the auditor trusts, and how much they insist on.
        trust: where the policy came from, for the report.
        checks: in an order in which each comes after those it rests on.
        recompute: what the auditor asks to have computed again, for the checks that can.
    """
    policy = effective(evidence, policy)  # an identity may vouch for owner.pub: every check sees it
    verdicts: dict[str, Verdict] = {}
    for check in checks:
        verdicts[check.id] = _judge(check, evidence, policy, verdicts, tuple(recompute))
    results = tuple(CheckResult(check.id, check.title, verdicts[check.id]) for check in checks)
    return Report(results, evidence.kind, trust)


def _judge(
    check: Check,
    evidence: Evidence,
    policy: TrustPolicy,
    verdicts: dict[str, Verdict],
    recompute: tuple[str, ...],
) -> Verdict:
    for needed in check.rests_on:
        if not isinstance(verdicts.get(needed), Passed):
            return Unchecked(f"rests on {needed}, which did not pass")
    try:
        if recompute and check.recompute is not None:
            return check.recompute(evidence, policy, recompute)
        return check.function(evidence, policy)
    except (FormatError, PathError, ConfigError) as error:
        if isinstance(verdicts.get("C1"), Failed):
            return Unchecked(f"needs a part that C1 refuses: {error.where or error.what}")
        return _internal(error)
    except Exception as error:  # noqa: BLE001  # a bug in one check must not hide the others
        return _internal(error)


def _internal(error: Exception) -> Failed:
    what = f"the check itself broke down: {type(error).__name__}: {error}"
    return Failed((Finding(getattr(error, "where", "") or "internal", what),), internal=True)
