"""C7: how far each stage was kept from what it did not declare, as its link tells.

The level is what happened, never what was asked. The trust policy decides whether less fails.

Rests on: provenance page, section 5.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from forebear.evidence.store import Evidence, SignedLink
from forebear.formats.layout import SOURCE
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Passed, Unchecked, Verdict, failed

_ORDER = ("unchecked", "observed", "enforced")


def check_confinement(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Levels of all stages against the policy's least level; unchecked without one."""
    levels = {name: _level(signed) for name, signed in evidence.links.items() if name != SOURCE}
    counts = Counter(levels.values())
    told = ", ".join(f"{counts[level]} {level}" for level in reversed(_ORDER) if counts[level])
    if policy.min_confinement is None:
        if set(levels.values()) == {"enforced"}:
            return Passed(f"all {len(levels)} stages ran confined")
        return Unchecked(
            f"stages ran confined as follows: {told}; min_confinement in a trust policy decides "
            "whether that is enough"
        )
    least = _ORDER.index(policy.min_confinement)
    findings = [
        Finding(
            evidence.links[name].path,
            f"stage {name!r} ran {level}, the trust policy asks for {policy.min_confinement}",
        )
        for name, level in levels.items()
        if _ORDER.index(level) < least
    ]
    return failed(findings, f"stages ran confined as the trust policy asks: {told}")


def _level(signed: SignedLink) -> str:
    """Level that the link records; anything else than a known level counts as unchecked."""
    record: Any = signed.link.byproducts.get("forebear")
    confinement = record.get("confinement") if isinstance(record, dict) else None
    level = confinement.get("level") if isinstance(confinement, dict) else None
    return level if level in _ORDER else "unchecked"
