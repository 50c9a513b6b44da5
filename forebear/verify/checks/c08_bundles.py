"""C8: statements are signed by the owner, as what they are, about files that are here.

Bundles of a bare key: payload type, signature, key hint, predicate type and subjects. Sigstore
bundles do not exist yet; a bundle of any other kind is refused by C1.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

from collections.abc import Iterator

from forebear.errors import PolicyError, SignatureError
from forebear.evidence.store import RELEASE_BUNDLE, Evidence
from forebear.formats.statement import (
    RECORDER,
    RELEASE,
    SLSA_PROVENANCE,
    TEST_RESULT,
    Statement,
    key_hint,
    parse_bundle,
    parse_statement,
)
from forebear.signing.policy import TrustPolicy
from forebear.verify.checks.c02_layout import require_owner_signed
from forebear.verify.result import Finding, Verdict, counted, failed

GATE = "attestations/gate.sigstore.json"
PROVENANCE = "/provenance.sigstore.json"


def check_bundles(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Every bundle, and that each shipped checkpoint, the gate and the release have one."""
    findings: list[Finding] = []
    for path in evidence.bundles:
        findings += _check_bundle(evidence, policy, path)
    needed = [RELEASE_BUNDLE, GATE]
    needed += [
        f"attestations/{out.path}{PROVENANCE}" for _, out in evidence.shipped if out.kind == "model"
    ]
    findings += [Finding(path, "is missing") for path in needed if path not in evidence.bundles]
    return failed(findings, f"{counted(len(evidence.bundles), 'statement')} signed by the owner")


def _check_bundle(evidence: Evidence, policy: TrustPolicy, path: str) -> Iterator[Finding]:
    bundle = parse_bundle(evidence.read(path), where=path)
    envelope = bundle.envelope
    try:
        owner = require_owner_signed(envelope, policy)
    except (PolicyError, SignatureError) as error:
        yield Finding(path, f"the statement is not the owner's: {error.what}")
        return
    if bundle.hint != key_hint(owner.pem):
        yield Finding(path, "the hint names another key than the one that signed")
    statement = parse_statement(envelope.payload, where=path)
    expected = _predicate_type(path)
    if statement.predicate_type != expected:
        yield Finding(path, f"is a {statement.predicate_type}, where a {expected} belongs")
    elif expected == SLSA_PROVENANCE:
        yield from _check_provenance(evidence, policy, path, statement)


def _predicate_type(path: str) -> str:
    if path == RELEASE_BUNDLE:
        return RELEASE
    return TEST_RESULT if path == GATE else SLSA_PROVENANCE


def _check_provenance(
    evidence: Evidence, policy: TrustPolicy, path: str, statement: Statement
) -> Iterator[Finding]:
    """Subjects are the products of the checkpoint it lies beside; builder, the link's signer."""
    out = path.removeprefix("attestations/").removesuffix(PROVENANCE)
    stage = evidence.pipeline.producer(out)
    if stage is None or stage.name not in evidence.links:
        yield Finding(path, f"is about {out}, which no link here produced")
        return
    products = {
        name: digest
        for name, digest in evidence.links[stage.name].link.products.items()
        if name in {out, f"tree:{out}"} or name.startswith(f"{out}/")
    }
    if dict(statement.subjects) != products:
        yield Finding(path, f"is not about the files that stage {stage.name!r} produced in {out}")
    builder = _builder(statement)
    signer = f"{RECORDER}#{evidence.links[stage.name].envelope.keyid}"
    if builder != signer:
        yield Finding(path, f"names a builder that did not sign the link of stage {stage.name!r}")
    elif policy.allowed_builders and builder not in policy.allowed_builders:
        yield Finding(path, f"the trust policy does not allow the builder {builder}")


def _builder(statement: Statement) -> str | None:
    details = statement.predicate.get("runDetails")
    builder = details.get("builder") if isinstance(details, dict) else None
    found = builder.get("id") if isinstance(builder, dict) else None
    return found if isinstance(found, str) else None
