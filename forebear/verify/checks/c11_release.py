"""C11: the release statement holds the parts together, so that two releases cannot be mixed.

Every part must be a subject and every subject a part; what was attached later is no part, but must
be about this release. Where the trust policy wants several owners, their approvals are counted.
Without ``min_serial`` in it the replay of an old, complete release stays unchecked, and the whole
check with it.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, SignatureError
from forebear.evidence.names import (
    ATTESTATIONS,
    LAYOUT,
    OWNER,
    PIPELINE,
    RELEASE_BUNDLE,
    is_attest_link,
)
from forebear.evidence.store import OWN_LINK, Evidence
from forebear.formats.layout import LINKS, SUMS
from forebear.formats.statement import APPROVAL, Statement
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Failed, Finding, Passed, Unchecked, Verdict, counted
from forebear.verify.trust import SignedBy, effective, signer_of

_HEX = re.compile(r"[0-9a-f]{64}")
_DOCUMENTS = ("draft", "final", "none")


def check_release(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Subjects against files, both ways; what was attached; who vouches; then the serial."""
    statement = evidence.statement(RELEASE_BUNDLE)
    later = _later(evidence)
    vouching = _vouching(evidence, policy, later)
    findings = [
        *_check_parts(evidence, statement),
        *_check_predicate(statement.predicate, policy),
        *_check_later(evidence, later),
        *_check_threshold(vouching, policy),
    ]
    if findings:
        return Failed(tuple(findings))
    note = _note(statement, later, vouching)
    if policy.min_serial is None:
        return Unchecked(f"{note}, but without min_serial in a trust policy it may be an old one")
    return Passed(note)


@dataclass(frozen=True, slots=True)
class _Vouching:
    """Owners who stand behind the release, in words, and approvals that count for nothing."""

    owners: tuple[str, ...]
    idle: tuple[str, ...]


def _later(evidence: Evidence) -> dict[str, Statement | FormatError]:
    found: dict[str, Statement | FormatError] = {}
    for path in evidence.later:
        try:
            found[path] = evidence.statement(path)
        except FormatError as error:
            found[path] = error
    return found


def _check_parts(evidence: Evidence, statement: Statement) -> Iterator[Finding]:
    subjects = dict(statement.subjects)
    for path, digest in subjects.items():
        if not evidence.has(path):
            yield Finding(path, f"{path} is a part of this release but is not there")
        elif evidence.digest(path) != digest:
            yield Finding(path, f"{path} is not the part that this release was signed with")
    own = {OWN_LINK} if evidence.kind == "repository" else set()
    for path in evidence.entries:
        if evidence.has(path) and _is_part(path) and path not in subjects and path not in own:
            yield Finding(path, f"{path} is no part of this release")


def _is_part(path: str) -> bool:
    """Whether the release must cover the file: all but itself and what was signed later."""
    if is_attest_link(path):
        return False
    return path in {SUMS, LAYOUT, PIPELINE, OWNER} or path.startswith((LINKS, ATTESTATIONS))


def _check_predicate(predicate: Mapping[str, Any], policy: TrustPolicy) -> Iterator[Finding]:
    serial, previous = predicate.get("serial"), predicate.get("previous")
    if predicate.get("documents") not in _DOCUMENTS:
        yield Finding(RELEASE_BUNDLE, f"documents is none of {', '.join(_DOCUMENTS)}")
    if not _is_number(serial):
        yield Finding(RELEASE_BUNDLE, "has no serial")
        return
    if policy.min_serial is not None and serial < policy.min_serial:
        yield Finding(
            RELEASE_BUNDLE,
            f"serial {serial} is older than the trust policy's min_serial {policy.min_serial}",
        )
    if previous is None:
        return
    if not isinstance(previous, dict) or previous.keys() != {"serial", "sha256"}:
        yield Finding(RELEASE_BUNDLE, "previous must be null or have exactly serial and sha256")
    elif not isinstance(previous["sha256"], str) or not _HEX.fullmatch(previous["sha256"]):
        yield Finding(RELEASE_BUNDLE, "the digest of the previous release is malformed")
    elif not _is_number(previous["serial"]) or previous["serial"] >= serial:
        yield Finding(RELEASE_BUNDLE, f"serial {serial} is not above that of the previous release")


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_later(
    evidence: Evidence, later: Mapping[str, Statement | FormatError]
) -> Iterator[Finding]:
    """What was attached must be about something in here, by name and digest."""
    for path, statement in later.items():
        if isinstance(statement, FormatError):
            yield Finding(path, statement.what)
        elif not any(evidence.names(*subject) for subject in statement.subjects):
            yield Finding(path, "is about nothing in this release")


def _vouching(
    evidence: Evidence, policy: TrustPolicy, later: Mapping[str, Statement | FormatError]
) -> _Vouching:
    """The signer of the release, and every other owner who approved it."""
    policy = effective(evidence, policy)
    subject = (RELEASE_BUNDLE, evidence.digest(RELEASE_BUNDLE))
    owners: dict[str, str] = {}
    idle: list[str] = []
    approvals = [
        path
        for path, statement in later.items()
        if not isinstance(statement, FormatError) and statement.predicate_type == APPROVAL
    ]
    for path in (RELEASE_BUNDLE, *approvals):
        signer = _signer(evidence, policy, path)
        statement = later.get(path)
        about = not isinstance(statement, Statement) or subject in statement.subjects
        if signer is None or not signer.owner or not about:
            idle.append(path)
        else:
            owners.setdefault(signer.owner, signer.name)
    return _Vouching(tuple(owners.values()), tuple(idle))


def _signer(evidence: Evidence, policy: TrustPolicy, path: str) -> SignedBy | None:
    """A signer whom the policy knows and whose signature holds; else None, and C8 tells why."""
    try:
        signer = signer_of(evidence.read(path), policy, where=path)
    except (SignatureError, ConfigError, EnvironmentFailure):
        return None
    return signer if isinstance(signer, SignedBy) else None


def _check_threshold(vouching: _Vouching, policy: TrustPolicy) -> Iterator[Finding]:
    needed = policy.owner_threshold
    missing = needed - len(vouching.owners)
    if missing > 0:
        stand = " and ".join(vouching.owners) or "nobody"
        idle = f"; not counted: {', '.join(vouching.idle)}" if vouching.idle else ""
        yield Finding(
            RELEASE_BUNDLE,
            f"the trust policy wants {counted(needed, 'owner')} behind a release, and behind this "
            f"one stands {stand}: {missing} more must approve it (`forebear attach --approve`)"
            f"{idle}",
        )


def _note(statement: Statement, later: Mapping[str, object], vouching: _Vouching) -> str:
    predicate = statement.predicate
    documents = {"draft": "its documents are drafts", "none": "it has no documents"}
    said = [
        f"all {len(statement.subjects)} parts belong to release {predicate['serial']}",
        documents.get(predicate["documents"], "its documents are final"),
    ]
    if later:
        said.append(f"{counted(len(later), 'statement')} attached later")
    if len(vouching.owners) > 1:
        said.append(f"vouched for by {' and '.join(vouching.owners)}")
    return "; ".join(said)
