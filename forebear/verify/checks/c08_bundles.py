"""C8: statements are signed by an owner, as what they are, about files that are here.

A bundle is of a key or of a Sigstore identity: signature, payload type, and for an identity the
certificate, the CT log's promise, the log's proof and the signed time. Then predicate type and
subjects. Statements that were added later may be anybody's: what a known signer did not sign
fails, what an unknown one signed is counted and believed by nobody.

Rests on: provenance page, sections 7 and 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from forebear.errors import ConfigError, EnvironmentFailure, MissingExtra, SignatureError
from forebear.evidence.names import GATE_BUNDLE, Role, bundle_role, checkpoint_bundle
from forebear.evidence.store import RELEASE_BUNDLE, Evidence
from forebear.formats.link import TREE
from forebear.formats.statement import (
    LEDGER,
    RECORDER,
    SLSA_PROVENANCE,
    Statement,
    parse_bundle,
)
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Unchecked, Verdict, counted, failed
from forebear.verify.trust import Unknown, signer_of, with_vouched


def check_bundles(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Every bundle, and that each shipped checkpoint, the gate and the release have one."""
    findings: list[Finding] = []
    missing = ""
    unknown: list[str] = []
    # each bundle that needs the library or the trusted root meets the same fault
    with suppress(ConfigError, EnvironmentFailure):
        policy = with_vouched(evidence, policy)
    for path in (*evidence.bundles, *evidence.later):
        later = path in evidence.later
        check = _check_later(evidence, policy, path, unknown) if later else _check_bundle(
            evidence, policy, path
        )  # fmt: skip
        try:
            findings += check
        except MissingExtra as error:
            missing = f"{error.what} ({error.fix})"
        except (SignatureError, ConfigError, EnvironmentFailure) as error:
            whose = "signed as it says" if later else "the owner's"
            findings.append(Finding(path, f"the statement is not {whose}: {error.what}"))
    needed = _needed(evidence)
    findings += [Finding(path, "is missing") for path in needed if path not in evidence.bundles]
    if missing and not findings:
        return Unchecked(missing)
    note = f"{counted(len(evidence.bundles), 'statement')} signed by the owner"
    return failed(findings, note + _note_on_later(len(evidence.later), unknown))


def _needed(evidence: Evidence) -> list[str]:
    """Bundles that a release must hold; the gate's where the release statement names a gate."""
    needed = [RELEASE_BUNDLE]
    needed += [checkpoint_bundle(out.path) for _, out in evidence.shipped if out.kind == "model"]
    if evidence.has(RELEASE_BUNDLE):
        release = evidence.statement(RELEASE_BUNDLE)
        if release.predicate.get("gate") is not None:
            needed.append(GATE_BUNDLE)
    return needed


def _note_on_later(n_later: int, unknown: list[str]) -> str:
    if not n_later:
        return ""
    note = (
        f"; {counted(n_later - len(unknown), 'later statement')} of signers that the policy knows"
    )
    if unknown:
        note += f"; not counted: {'; '.join(unknown)}"
    return note


def _check_bundle(evidence: Evidence, policy: TrustPolicy, path: str) -> Iterator[Finding]:
    data = evidence.read(path)
    signer = signer_of(data, policy, where=path)
    if isinstance(signer, Unknown):
        yield Finding(path, f"the statement is not the owner's: {signer.reason}")
        return
    if not signer.owner:
        yield Finding(path, f"the statement is not the owner's: {signer.name} is none")
        return
    bundle = parse_bundle(data, where=path)
    if policy.require_sigstore and not bundle.certificate:
        yield Finding(path, "is signed by a bare key, where the trust policy asks for Sigstore")
    role = bundle_role(path)
    if role is None:
        yield Finding(path, "is a statement that no release of ours holds")
        return
    statement = evidence.statement(path)
    if statement.predicate_type != role.predicate_type:
        yield Finding(
            path, f"is a {statement.predicate_type}, where a {role.predicate_type} belongs"
        )
    elif role.predicate_type == SLSA_PROVENANCE:
        yield from _check_provenance(evidence, policy, path, role, statement)
    elif role.predicate_type == LEDGER:
        yield from _check_ledger(evidence, path, role, statement)


def _check_later(
    evidence: Evidence, policy: TrustPolicy, path: str, unknown: list[str]
) -> Iterator[Finding]:
    """Nothing to find where the signer is known and the signature holds, or nobody knows them."""
    signer = signer_of(evidence.read(path), policy, where=path)
    if isinstance(signer, Unknown):
        unknown.append(f"{path}: {signer.reason}")
    yield from ()


def _check_provenance(
    evidence: Evidence, policy: TrustPolicy, path: str, role: Role, statement: Statement
) -> Iterator[Finding]:
    """Subjects are products: all of a stage, or those in a checkpoint; builder, their signer."""
    if role.stage:
        name = role.stage
    else:
        producer = evidence.pipeline.producer(role.out)
        name = "" if producer is None else producer.name
    if name not in evidence.links:
        yield Finding(path, f"is about {role.stage or role.out}, which no link here produced")
        return
    products = evidence.links[name].link.products
    if role.out:
        products = {
            path: digest
            for path, digest in products.items()
            if path in {role.out, f"{TREE}{role.out}"} or path.startswith(f"{role.out}/")
        }
    if dict(statement.subjects) != dict(products):
        about = f"in {role.out}" if role.out else "there"
        yield Finding(path, f"is not about the files that stage {name!r} produced {about}")
    builder = _builder(statement)
    signer = f"{RECORDER}#{evidence.links[name].envelope.keyid}"
    if builder != signer:
        yield Finding(path, f"names a builder that did not sign the link of stage {name!r}")
    elif policy.allowed_builders and builder not in policy.allowed_builders:
        yield Finding(path, f"the trust policy does not allow the builder {builder}")


def _check_ledger(
    evidence: Evidence, path: str, role: Role, statement: Statement
) -> Iterator[Finding]:
    """Its one subject is a ledger root that some stage produced."""
    made = {
        digest
        for signed in evidence.links.values()
        for name, digest in signed.link.products.items()
        if name == role.ledger
    }
    if len(statement.subjects) != 1 or statement.subjects[0] not in {
        (role.ledger, digest) for digest in made
    }:
        yield Finding(path, f"is not about {role.ledger} as a stage produced it")


def _builder(statement: Statement) -> str | None:
    details = statement.predicate.get("runDetails")
    builder = details.get("builder") if isinstance(details, dict) else None
    found = builder.get("id") if isinstance(builder, dict) else None
    return found if isinstance(found, str) else None
