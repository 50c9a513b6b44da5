"""C7: how far each stage was kept from what it did not declare, as its link tells.

The level is what happened, never what was asked. The trust policy decides whether less fails. A
stage whose network was neither closed nor declared could take in anything, so it does not count as
enforced; and what a link says that its stage was given (grants, network) must be what the pipeline
declares.

Rests on: provenance page, section 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from forebear.errors import ForebearError
from forebear.evidence.store import Evidence, SignedLink
from forebear.formats.layout import SOURCE
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Passed, Unchecked, Verdict, failed

_ORDER = ("unchecked", "observed", "enforced")
_OPEN = "allowed"
_NETWORKS = ("none", "no TCP", "declared")
_KINDS = {"audit hook": "python", "strace": "process"}


@dataclass(frozen=True, slots=True)
class _Told:
    """What one link tells; anything else than a known value counts as the least."""

    level: str
    mechanism: str
    network: str
    grants: tuple[str, ...]
    reason: str

    @property
    def counted(self) -> str:
        """The level that counts: an open network is a hole that no fence around files closes."""
        return "unchecked" if self.network == _OPEN else self.level

    @property
    def shown(self) -> str:
        """The level in words: ``observed (python)`` saw less than ``observed (process)``."""
        if self.network == _OPEN and self.level != "unchecked":
            return f"{self.level}, with an open network"
        kind = _KINDS.get(self.mechanism) if self.level == "observed" else None
        return f"{self.level} ({kind})" if kind else self.level


def check_confinement(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Levels of all stages against the policy's least level; unchecked without one."""
    told = {name: _told(signed) for name, signed in evidence.links.items() if name != SOURCE}
    undeclared = list(_undeclared(evidence, told))
    if undeclared:
        return failed(undeclared, "")
    shown = _summary(told)
    if policy.min_confinement is None:
        if {one.counted for one in told.values()} == {"enforced"}:
            return Passed(f"all {len(told)} stages ran confined{_openings(told)}")
        return Unchecked(
            f"stages ran confined as follows: {shown}; min_confinement in a trust policy decides "
            "whether that is enough"
        )
    least = _ORDER.index(policy.min_confinement)
    findings = [
        Finding(
            evidence.links[name].path,
            f"stage {name!r} ran {one.shown}, the trust policy asks for {policy.min_confinement}"
            + (f" ({one.reason[:200]})" if one.reason else ""),
        )
        for name, one in told.items()
        if _ORDER.index(one.counted) < least
    ]
    return failed(
        findings, f"stages ran confined as the trust policy asks: {shown}{_openings(told)}"
    )


def _summary(told: Mapping[str, _Told]) -> str:
    counts = Counter(one.shown for one in told.values())
    best_first = sorted(
        counts, key=lambda shown: (-_ORDER.index(shown.split(" ")[0].strip(",")), shown)
    )
    return ", ".join(f"{counts[shown]} {shown}" for shown in best_first)


def _openings(told: Mapping[str, _Told]) -> str:
    """What stages were given by declaration, so that nobody has to look for it."""
    notes = []
    for name, one in sorted(told.items()):
        given = [*one.grants, *(["the network"] if one.network == "declared" else [])]
        if given:
            notes.append(f"{name} had {' and '.join(given)}")
    return f"; declared: {', '.join(notes)}" if notes else ""


def _undeclared(evidence: Evidence, told: Mapping[str, _Told]) -> Iterator[Finding]:
    """Grants and networks that links tell of and the pipeline does not declare."""
    try:
        options = {stage.name: stage.options() for stage in evidence.pipeline.stages}
    except ForebearError:  # C1 and C2 tell why it cannot be read
        return
    for name, one in told.items():
        declared = options.get(name, {})
        reads = declared.get("reads", [])
        more = [grant for grant in one.grants if not isinstance(reads, list) or grant not in reads]
        if one.network == "declared" and declared.get("network") is not True:
            more.append("the network")
        if more:
            yield Finding(
                evidence.links[name].path,
                f"stage {name!r} had {', '.join(more)}, which dvc.yaml does not declare",
            )


def _told(signed: SignedLink) -> _Told:
    record = signed.link.byproducts.get("forebear")
    report = record.get("confinement") if isinstance(record, dict) else None
    values = report if isinstance(report, dict) else {}
    grants = values.get("grants")
    level = values.get("level")
    return _Told(
        level=level if level in _ORDER else "unchecked",
        mechanism=str(values.get("mechanism")),
        network=network if (network := values.get("network")) in _NETWORKS else _OPEN,
        grants=tuple(map(str, grants)) if isinstance(grants, list) else (),
        reason=str(values.get("reason") or ""),
    )
