"""C9: model-signing signatures are the owner's, and list the files that the stage produced.

The bundle of a key is parsed here, so that an auditor needs no further package; that of an
identity is verified like any other of Sigstore. The list of files is compared both ways: the stock
tool ignores ``.git*`` unless told otherwise.

Rests on: provenance page, sections 7, "OMS", and 8; OpenSSF model-signing v1.0.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    FormatError,
    MissingExtra,
    PolicyError,
    SignatureError,
)
from forebear.evidence.store import Evidence
from forebear.formats import strictjson
from forebear.formats.dsse import pae
from forebear.formats.statement import PAYLOAD_TYPE, key_hint
from forebear.pipeline import Out, Stage
from forebear.signing.keys import PublicKey
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Unchecked, Verdict, counted, failed
from forebear.verify.trust import require_in_toto, with_vouched

PREDICATE = "https://model_signing/signature/v1.0"
# What the library calls the file, where a file and no folder was signed.
ALONE = (".",)


def check_oms(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Signature and list of files of every shipped checkpoint's ``model.sig``."""
    models = [(stage, out) for stage, out in evidence.shipped if out.kind == "model"]
    if not models:
        return Unchecked("no checkpoint is shipped")
    findings: list[Finding] = []
    missing = ""
    for stage, out in models:
        path = f"attestations/{out.path}/model.sig"
        if not evidence.has(path):
            findings.append(Finding(path, f"the signature of {out.path} is missing"))
            continue
        try:
            payload = _verified(evidence, with_vouched(evidence, policy), path)
        except MissingExtra as error:
            missing = f"{error.what} ({error.fix})"
            continue
        except (PolicyError, SignatureError, ConfigError, EnvironmentFailure) as error:
            findings.append(Finding(path, f"the signature is not the owner's: {error.what}"))
            continue
        findings += _check_files(evidence, stage, out, payload)
    if missing and not findings:
        return Unchecked(missing)
    return failed(findings, f"{counted(len(models), 'checkpoint')} signed, file by file")


def _verified(evidence: Evidence, policy: TrustPolicy, path: str) -> Mapping[str, Any]:
    """Payload of a bundle that a trusted, unrevoked owner signed."""
    value = strictjson.parse(evidence.read(path), where=path)
    material = value.get("verificationMaterial") if isinstance(value, dict) else None
    if isinstance(material, dict) and "certificate" in material:
        payload = _signed_by_identity(evidence, policy, path)
    else:
        payload = _signed_by_key(value, policy)
    try:
        statement = strictjson.parse(payload, where=path)
    except FormatError as error:
        raise SignatureError(f"its payload {error.what}") from error
    if not isinstance(statement, dict) or statement.get("predicateType") != PREDICATE:
        raise SignatureError(f"its payload is no {PREDICATE}")
    return statement


def _signed_by_identity(evidence: Evidence, policy: TrustPolicy, path: str) -> bytes:
    if policy.trusted_root is None:
        raise PolicyError("it is signed by Sigstore, and the trust policy names no identities")
    from forebear.signing import sigstore  # x509 takes 75 ms, and most releases need none of it

    try:
        _, bundle = sigstore.verify_bundle(
            evidence.read(path),
            identities=policy.identities,
            trusted_root=policy.trusted_root,
            where=path,
        )
    except FormatError as error:
        raise SignatureError(f"it {error.what} ({error.where})") from error
    require_in_toto(bundle.envelope)
    return bundle.envelope.payload


def _signed_by_key(value: Any, policy: TrustPolicy) -> bytes:
    if policy.require_sigstore:
        raise PolicyError("it is signed by a bare key, where the trust policy asks for Sigstore")
    try:
        hint = value["verificationMaterial"]["publicKey"]["hint"]
        envelope = value["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        sig = base64.b64decode(signature["sig"], validate=True)
        payload_type = str(envelope["payloadType"])
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise SignatureError(f"it is no bundle with one signature of a key ({error})") from error
    owner = _owner(policy, hint)
    if payload_type != PAYLOAD_TYPE:
        raise SignatureError(f"it is signed as {payload_type!a}, not {PAYLOAD_TYPE}")
    owner.verify(sig, pae(payload_type, payload))
    return payload


def _owner(policy: TrustPolicy, hint: object) -> PublicKey:
    for key in policy.owners:
        if key_hint(key.pem) == hint:
            policy.require_unrevoked(key.keyid)
            return key
    raise PolicyError("the hint names no trusted owner key")


def _check_files(
    evidence: Evidence, stage: Stage, out: Out, statement: Mapping[str, Any]
) -> Iterator[Finding]:
    path = f"attestations/{out.path}/model.sig"
    if stage.name not in evidence.links:
        yield Finding(path, f"the link of stage {stage.name!r} cannot be read")
        return
    try:
        resources = statement["predicate"]["resources"]
        signed = {_path(out, entry["name"]): str(entry["digest"]) for entry in resources}
        plain = all(entry["algorithm"] == "sha256" for entry in resources)
        unique = len(signed) == len(resources)
    except (KeyError, TypeError) as error:
        yield Finding(path, f"lists no files: {error!r}")
        return
    if not (plain and unique):
        yield Finding(path, "lists files otherwise than once each, by SHA-256")
        return
    products = evidence.links[stage.name].link.products
    made = {
        name: hexed
        for name, hexed in products.items()
        if name == out.path or name.startswith(f"{out.path}/")
    }
    for name in sorted(made.keys() | signed.keys()):
        if signed.get(name) != made.get(name):
            yield Finding(path, f"does not sign {name} as stage {stage.name!r} produced it")


def _path(out: Out, name: str) -> str:
    """Path of a signed file in the repository; a checkpoint of one file has no folder around it."""
    return out.path if not out.is_dir and name in ALONE else f"{out.path}/{name}"
