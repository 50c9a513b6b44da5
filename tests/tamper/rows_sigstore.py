"""Rows 42 and 50 to 56: what can be done to a bundle of a Sigstore identity.

Each change leaves canonical JSON behind, so that C1 has nothing to say and C8 must. Changes with
``forge`` play a service of the trusted instance that misbehaves, or one that only looks like it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from forebear.evidence.store import open_evidence
from forebear.formats import strictjson
from forebear.signing.policy import Identity, TrustPolicy
from forebear.verify.checks.c01_forms import check_forms
from forebear.verify.checks.c08_bundles import check_bundles
from forebear.verify.result import Check, Report
from forebear.verify.run import verify
from tests.support.loopback_pki import Authority, CtLog, Tsa, b64
from tests.support.loopback_sigstore import Forge, Loopback
from tests.support.release import CHECKPOINT
from tests.support.sigstore_release import ME, Keyless

GATE = "attestations/gate.sigstore.json"
PROVENANCE = f"attestations/{CHECKPOINT}/provenance.sigstore.json"
RELEASE = "release.sigstore.json"
FORMS_AND_BUNDLES = (Check("C1", "forms", check_forms), Check("C8", "bundles", check_bundles))


@dataclass
class KeylessCase:
    """A copy of a release by an identity, and the auditor's policy; both may be changed."""

    folder: Path
    keyless: Keyless
    policy: TrustPolicy

    @property
    def instance(self) -> Loopback:
        """The instance that signed."""
        return self.keyless.instance

    def read(self, path: str = GATE) -> dict[str, Any]:
        """A bundle as JSON values."""
        return strictjson.parse((self.folder / path).read_bytes(), where=path)

    def write(self, value: Mapping[str, Any], path: str = GATE) -> None:
        """A bundle in canonical form."""
        (self.folder / path).write_bytes(strictjson.dumps(dict(value)))

    def change(self, change: Callable[[dict[str, Any]], object], path: str = GATE) -> None:
        """Changes the verification material of a bundle."""
        value = self.read(path)
        change(value["verificationMaterial"])
        self.write(value, path)

    def entry(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Changes the log entry of the gate's bundle."""
        self.change(lambda material: change(material["tlogEntries"][0]))

    def forge(self, path: str = GATE, payload_type: str = "", **how: Any) -> None:
        """Signs what the bundle says anew, in the ways of :class:`Forge`."""
        value = self.read(path)["dsseEnvelope"]
        maker = Forge(
            **{
                "instance": self.instance,
                "identity": ME,
                "issuer": self.instance.issuer,
                "rekor": self.keyless.rekor,
                **how,
            }
        )
        payload = base64.b64decode(value["payload"])
        self.write(maker.bundle(payload, payload_type or value["payloadType"]), path)

    def forge_payload(self, path: str, payload: bytes) -> None:
        """Has the trusted identity itself sign something else."""
        maker = Forge(self.instance, ME, self.instance.issuer, self.keyless.rekor)
        self.write(maker.bundle(payload), path)

    def trust(self, identity: str = ME, issuer: str = "") -> None:
        """Makes the auditor trust another identity."""
        who = Identity(identity, issuer or self.instance.issuer)
        self.policy = replace(self.policy, identities=(who,))

    def verify(self, checks: tuple[Check, ...] | None = None) -> Report:
        """Our report; all checks when none are named."""
        with open_evidence(self.folder) as evidence:
            if checks is None:
                return verify(evidence, self.policy)
            return verify(evidence, self.policy, checks=checks)


@dataclass(frozen=True)
class SigstoreRow:
    """One row; ``rekor`` names the logs for which it makes sense."""

    id: str
    change: Callable[[KeylessCase], Any]
    rekor: tuple[int, ...]


ROWS: list[SigstoreRow] = []


def row(
    id_: str, *rekor: int
) -> Callable[[Callable[[KeylessCase], Any]], Callable[[KeylessCase], Any]]:
    """Adds the decorated change to the rows."""

    def add(change: Callable[[KeylessCase], Any]) -> Callable[[KeylessCase], Any]:
        ROWS.append(SigstoreRow(id_, change, rekor or (1, 2)))
        return change

    return add


def flipped(text: str) -> str:
    """Base64 text of the same bytes with one bit changed."""
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return b64(data)


def other_entry(case: KeylessCase) -> dict[str, Any]:
    """The log entry of another bundle."""
    return case.read(PROVENANCE)["verificationMaterial"]["tlogEntries"][0]


# ── what was signed ────────────────────────────────────────────────────────────────────────────


@row("42")
def payload_type_that_was_signed(case: KeylessCase) -> None:
    case.forge(payload_type="application/json")


@row("42b")
def payload_type_changed(case: KeylessCase) -> None:
    value = case.read()
    value["dsseEnvelope"]["payloadType"] = "application/json"
    case.write(value)


@row("42c")
def payload_changed(case: KeylessCase) -> None:
    value = case.read()
    payload = base64.b64decode(value["dsseEnvelope"]["payload"])
    value["dsseEnvelope"]["payload"] = b64(payload.replace(b'"PASSED"', b'"WARNED"'))
    case.write(value)


@row("60")
def statement_in_the_place_of_another(case: KeylessCase) -> None:
    case.write(case.read(PROVENANCE))


# ── log entry ──────────────────────────────────────────────────────────────────────────────────


@row("50a")
def log_entry_removed(case: KeylessCase) -> None:
    case.change(lambda material: material.update(tlogEntries=[]))


@row("50b")
def log_entry_of_another_bundle(case: KeylessCase) -> None:
    case.change(lambda material: material.update(tlogEntries=[other_entry(case)]))


@row("50c")
def second_log_entry(case: KeylessCase) -> None:
    case.change(lambda material: material["tlogEntries"].append(other_entry(case)))


@row("50d", 1)
def promise_and_time_removed(case: KeylessCase) -> None:
    case.entry(lambda entry: (entry.pop("inclusionPromise"), entry.pop("integratedTime")))


@row("50e", 1)
def promise_removed(case: KeylessCase) -> None:
    case.entry(lambda entry: entry.pop("inclusionPromise"))


@row("50f", 1)
def time_removed(case: KeylessCase) -> None:
    case.entry(lambda entry: entry.pop("integratedTime"))


@row("50g", 1)
def time_changed(case: KeylessCase) -> None:
    case.entry(lambda entry: entry.update(integratedTime=str(int(entry["integratedTime"]) + 1)))


@row("50h", 2)
def time_invented(case: KeylessCase) -> None:
    case.entry(lambda entry: entry.update(integratedTime="1700000000"))


@row("50i", 2)
def promise_invented(case: KeylessCase) -> None:
    case.entry(lambda entry: entry.update(inclusionPromise={"signedEntryTimestamp": b64(b"x")}))


@row("50j", 1)
def promise_of_another_bundle(case: KeylessCase) -> None:
    promise = other_entry(case)["inclusionPromise"]
    case.entry(lambda entry: entry.update(inclusionPromise=promise))


@row("50k")
def outer_index_changed(case: KeylessCase) -> None:
    case.entry(lambda entry: entry.update(logIndex=str(int(entry["logIndex"]) + 1)))


@row("50l")
def log_id_changed_where_nobody_looks(case: KeylessCase) -> None:
    case.entry(lambda entry: entry["logId"].update(keyId=flipped(entry["logId"]["keyId"])))


@row("50m")
def kind_changed(case: KeylessCase) -> None:
    kind = "hashedrekord" if case.keyless.rekor == 1 else "dsse"
    case.entry(lambda entry: entry["kindVersion"].update(kind=kind))


# ── inclusion proof and checkpoint ─────────────────────────────────────────────────────────────


def proof(case: KeylessCase, change: Callable[[dict[str, Any]], object]) -> None:
    case.entry(lambda entry: change(entry["inclusionProof"]))


def note(case: KeylessCase, old: str, new: str) -> None:
    def change(checkpoint: dict[str, Any]) -> None:
        assert old in checkpoint["envelope"]
        checkpoint["envelope"] = checkpoint["envelope"].replace(old, new, 1)

    proof(case, lambda value: change(value["checkpoint"]))


@row("51a")
def proof_hash_changed(case: KeylessCase) -> None:
    proof(case, lambda value: value["hashes"].append(flipped(value["hashes"].pop())))


@row("51b")
def root_hash_changed(case: KeylessCase) -> None:
    proof(case, lambda value: value.update(rootHash=flipped(value["rootHash"])))


@row("51c")
def tree_size_changed(case: KeylessCase) -> None:
    proof(case, lambda value: value.update(treeSize=str(int(value["treeSize"]) + 1)))


@row("51d")
def proof_index_changed(case: KeylessCase) -> None:
    proof(case, lambda value: value.update(logIndex=str(int(value["logIndex"]) - 1)))


@row("51e")
def proof_of_another_bundle(case: KeylessCase) -> None:
    other = other_entry(case)["inclusionProof"]
    proof(case, lambda value: value.update(other))


@row("51f")
def checkpoint_of_another_bundle(case: KeylessCase) -> None:
    other = other_entry(case)["inclusionProof"]["checkpoint"]
    proof(case, lambda value: value.update(checkpoint=other))


@row("51g")
def checkpoint_of_another_size(case: KeylessCase) -> None:
    size = case.read()["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["treeSize"]
    note(case, f"\n{size}\n", f"\n{int(size) + 1}\n")


@row("51h")
def checkpoint_by_another_key(case: KeylessCase) -> None:
    stranger = Loopback()
    log = stranger.v1 if case.keyless.rekor == 1 else stranger.v2

    def change(value: dict[str, Any]) -> None:
        forged = log.checkpoint(int(value["treeSize"]), base64.b64decode(value["rootHash"]))
        value["checkpoint"] = {"envelope": forged}

    proof(case, change)


@row("51i")
def checkpoint_signed_in_another_name(case: KeylessCase) -> None:
    note(case, "\u2014 ", "\u2014 not-")


@row("51j")
def checkpoint_without_signature(case: KeylessCase) -> None:
    def cut(value: dict[str, Any]) -> None:
        text = value["checkpoint"]["envelope"]
        value["checkpoint"] = {"envelope": text[: text.index("\u2014")]}

    proof(case, cut)


@row("51k")
def checkpoint_with_a_line_that_is_no_signature(case: KeylessCase) -> None:
    note(case, "\u2014 ", "anything\n\u2014 ")


@row("51l")
def log_body_changed(case: KeylessCase) -> None:
    def change(entry: dict[str, Any]) -> None:
        body = base64.b64decode(entry["canonicalizedBody"])
        entry["canonicalizedBody"] = b64(body.replace(b'"apiVersion"', b'"apiversion"'))

    case.entry(change)


# ── certificate ────────────────────────────────────────────────────────────────────────────────


@row("52a")
def sct_stripped(case: KeylessCase) -> None:
    case.forge(sct=lambda _issuer, _certificate: None)


@row("52b")
def sct_of_another_certificate(case: KeylessCase) -> None:
    der = base64.b64decode(case.read()["verificationMaterial"]["certificate"]["rawBytes"])
    oid = x509.PrecertificateSignedCertificateTimestamps.oid
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_oid(oid).value
    wrapped = found.public_bytes()  # an OCTET STRING with a short length
    case.forge(sct=lambda _issuer, _certificate: wrapped[2:])


@row("52c")
def sct_of_an_unknown_log(case: KeylessCase) -> None:
    case.forge(sct=CtLog())


@row("52d")
def sct_twice(case: KeylessCase) -> None:
    def twice(issuer: bytes, certificate: bytes) -> bytes:
        one = case.instance.ct(issuer, certificate)[2:]
        return len(one + one).to_bytes(2, "big") + one + one

    case.forge(sct=twice)


@row("53a")
def certificate_expired_at_signing(case: KeylessCase) -> None:
    case.forge(born=datetime.now(UTC) - timedelta(hours=1))


@row("53b")
def certificate_not_yet_valid_at_signing(case: KeylessCase) -> None:
    case.forge(born=datetime.now(UTC) + timedelta(hours=1))


@row("53c")
def signed_before_the_certificate(case: KeylessCase) -> None:
    case.forge(at=datetime.now(UTC) - timedelta(hours=1))


@row("54a")
def another_identity(case: KeylessCase) -> None:
    case.trust("somebody@example.org")


@row("54b")
def another_issuer(case: KeylessCase) -> None:
    case.trust(issuer="https://accounts.example.org")


@row("54c")
def prefix_of_the_identity(case: KeylessCase) -> None:
    case.trust(ME[:-1])


@row("54d")
def prefix_of_the_issuer(case: KeylessCase) -> None:
    case.trust(issuer=case.instance.issuer[:-1])


@row("54e")
def identity_that_begins_like_the_trusted_one(case: KeylessCase) -> None:
    case.forge(identity=f"{ME}.evil.example")


@row("54f")
def identity_in_other_case(case: KeylessCase) -> None:
    case.trust(ME.replace("r", "R", 1))


@row("54g")
def certificate_with_two_names(case: KeylessCase) -> None:
    case.forge(identity=f"{ME} evil@example.org")


@row("54h")
def issuer_that_another_ca_field_claims(case: KeylessCase) -> None:
    case.forge(issuer=f"{case.instance.issuer}/")


@row("55a")
def another_ca_with_equal_names(case: KeylessCase) -> None:
    case.forge(ca=Authority.make("fulcio"))


@row("55b")
def another_instance_with_equal_names(case: KeylessCase) -> None:
    case.forge(instance=Loopback(url=case.instance.url))


# ── time stamps ────────────────────────────────────────────────────────────────────────────────


def stamps(case: KeylessCase, *tokens: bytes) -> None:
    values = [{"signedTimestamp": b64(token)} for token in tokens]
    case.change(
        lambda material: material.update(timestampVerificationData={"rfc3161Timestamps": values})
    )


def signature(case: KeylessCase) -> bytes:
    return base64.b64decode(case.read()["dsseEnvelope"]["signatures"][0]["sig"])


@row("56a")
def time_stamp_of_another_signature(case: KeylessCase) -> None:
    stamps(case, case.instance.tsa.stamp(b"another signature"))


@row("56b", 2)
def time_stamp_removed(case: KeylessCase) -> None:
    stamps(case)


@row("56c")
def time_stamp_by_another_authority_with_equal_names(case: KeylessCase) -> None:
    stamps(case, Tsa.make("tsa").stamp(signature(case)))


@row("56d")
def time_stamp_outside_the_certificates_life(case: KeylessCase) -> None:
    stamps(
        case,
        case.instance.tsa.stamp(signature(case), at=datetime.now(UTC) - timedelta(hours=1)),
    )


@row("56e")
def good_time_stamp_beside_a_foreign_one(case: KeylessCase) -> None:
    tsa = case.instance.tsa
    stamps(case, tsa.stamp(signature(case)), tsa.stamp(b"another signature"))


@row("56f")
def time_stamp_that_is_none(case: KeylessCase) -> None:
    stamps(case, hashlib.sha256(b"x").digest())
