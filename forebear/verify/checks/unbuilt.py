"""Checks that this version does not make: each says so, and why, and is never called a pass."""

from __future__ import annotations

from collections.abc import Callable

from forebear.evidence.store import Evidence
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Unchecked, Verdict


def not_built(reason: str) -> Callable[[Evidence, TrustPolicy], Verdict]:
    """A check that is always unchecked, for this reason."""

    def check(evidence: Evidence, policy: TrustPolicy) -> Verdict:
        del evidence, policy
        return Unchecked(reason)

    return check
