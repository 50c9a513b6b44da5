"""The verification summary: what a verifier found, as a statement that others can rely on.

Claims SLSA Build level 1 at most, and only when the checks behind it passed; every check's status
stands beside it, so that what was not looked at stays visible.

Source: SLSA verification summary attestation, version 1.0; provenance page, section 7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version

from forebear.errors import UsageError
from forebear.evidence.store import RELEASE_BUNDLE, Evidence
from forebear.formats.link import TREE
from forebear.formats.statement import BASE, VSA, Statement, descriptor
from forebear.verify.products import tree_digest
from forebear.verify.result import CORE, Report

VERIFIER = f"{BASE}/verify"
CHECKS = f"{BASE}/checks"
BUILD_LEVEL = "SLSA_BUILD_LEVEL_1"
_NEEDED = (*CORE, "C8")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def verification_summary(
    report: Report, evidence: Evidence, *, held: bool, policy: tuple[str, bytes], now: datetime
) -> Statement:
    """The statement about the release statement and every shipped checkpoint.

    Args:
        report: of the same evidence.
        evidence: open.
        held: whether all held that the auditor asked for.
        policy: name and bytes of what the auditor trusted.
        now: when it was verified, in UTC.

    Raises:
        UsageError: the release has no statement to be about.
    """
    if not evidence.has(RELEASE_BUNDLE):
        raise UsageError(
            "there is no release statement, so there is nothing a summary could be about",
            RELEASE_BUNDLE,
        )
    passed = {result.id for result in report.results if result.status == "passed"}
    release = evidence.digest(RELEASE_BUNDLE)
    name, data = policy
    return Statement(
        subjects=((RELEASE_BUNDLE, release), *_checkpoints(evidence, intact="C1" in passed)),
        predicate_type=VSA,
        predicate={
            "verifier": {"id": VERIFIER, "version": {"forebear": version("forebear")}},
            "timeVerified": now.strftime(_TIME),
            "resourceUri": f"{BASE}/release#sha256:{release}",
            "policy": {"uri": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}},
            "inputAttestations": [
                {"uri": entry["name"], "digest": entry["digest"]} for entry in _inputs(evidence)
            ],
            "verificationResult": "PASSED" if held else "FAILED",
            "verifiedLevels": [BUILD_LEVEL] if held and passed.issuperset(_NEEDED) else [],
            "slsaVersion": "1.0",
            CHECKS: {result.id: result.status for result in report.results},
        },
    )


def _checkpoints(evidence: Evidence, *, intact: bool) -> Iterator[tuple[str, str]]:
    """Tree of each shipped checkpoint, as its stage's link has it."""
    for _, out in evidence.shipped if intact else ():
        digest = tree_digest(evidence, f"{TREE}{out.path}") if out.kind == "model" else None
        if digest is not None:
            yield f"{TREE}{out.path}", digest


def _inputs(evidence: Evidence) -> Iterator[dict[str, dict[str, str]]]:
    links = sorted(path for paths in evidence.link_files.values() for path in paths)
    for path in (*evidence.bundles, *links):
        yield descriptor(path, evidence.digest(path))
