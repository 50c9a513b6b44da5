"""C11: the release statement holds the parts together, so that two releases cannot be mixed.

Every part must be a subject and every subject a part. Without ``min_serial`` in the trust policy
the replay of an old, complete release stays unchecked, and the whole check with it.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

from collections.abc import Iterator

from forebear.evidence.store import LAYOUT, PIPELINE, RELEASE_BUNDLE, Evidence
from forebear.formats.layout import ATTEST, SUMS
from forebear.formats.statement import Statement, parse_bundle, parse_statement
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Failed, Finding, Passed, Unchecked, Verdict


def check_release(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Subjects against files, both ways; then the serial."""
    bundle = parse_bundle(evidence.read(RELEASE_BUNDLE), where=RELEASE_BUNDLE)
    statement = parse_statement(bundle.envelope.payload, where=RELEASE_BUNDLE)
    findings = list(_check_parts(evidence, statement))
    serial = statement.predicate.get("serial")
    if isinstance(serial, bool) or not isinstance(serial, int):
        findings.append(Finding(RELEASE_BUNDLE, "has no serial"))
    elif policy.min_serial is not None and serial < policy.min_serial:
        findings.append(
            Finding(
                RELEASE_BUNDLE,
                f"serial {serial} is older than the trust policy's min_serial {policy.min_serial}",
            )
        )
    if findings:
        return Failed(tuple(findings))
    parts = f"all {len(statement.subjects)} parts belong to release {serial}"
    if policy.min_serial is None:
        return Unchecked(f"{parts}, but without min_serial in a trust policy it may be an old one")
    return Passed(parts)


def _check_parts(evidence: Evidence, statement: Statement) -> Iterator[Finding]:
    subjects = dict(statement.subjects)
    for path, digest in subjects.items():
        if not evidence.has(path):
            yield Finding(path, f"{path} is a part of this release but is not there")
        elif evidence.digest(path) != digest:
            yield Finding(path, f"{path} is not the part that this release was signed with")
    for path in evidence.entries:
        if evidence.has(path) and _is_part(path) and path not in subjects:
            yield Finding(path, f"{path} is no part of this release")


def _is_part(path: str) -> bool:
    """Whether the release must cover the file: all but itself and what was signed later."""
    if path.startswith(f"links/{ATTEST}."):
        return False
    return path in {SUMS, LAYOUT, PIPELINE} or path.startswith(("links/", "attestations/"))
