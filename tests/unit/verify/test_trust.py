"""Later statements and their signers: known ones must hold, unknown ones count for nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from forebear.evidence.store import open_evidence
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.statement import (
    APPROVAL,
    PAYLOAD_TYPE,
    Bundle,
    Statement,
    key_hint,
    render_bundle,
    render_statement,
)
from forebear.signing.keys import create_key, load_public, load_signer
from forebear.signing.policy import Identity, TrustPolicy
from forebear.signing.signer import sign_envelope
from forebear.verify.checks.c01_forms import check_forms
from forebear.verify.checks.c08_bundles import check_bundles
from forebear.verify.result import Check
from forebear.verify.run import verify
from forebear.verify.trust import SignedBy, Unknown, signer_of
from tests.support.loopback_sigstore import Forge, Loopback
from tests.support.sigstore_release import ME, write_trust

CHECKS = (Check("C1", "forms", check_forms), Check("C8", "bundles", check_bundles))
STATEMENT = Statement((("release.sigstore.json", "0" * 64),), APPROVAL, {"decision": "approve"})
PATH = "later/approval.sigstore.json"


@pytest.fixture
def release(built, tmp_path):
    shutil.copytree(built.packed, tmp_path / "packed")
    (tmp_path / "packed" / "later").mkdir()
    return tmp_path / "packed"


@pytest.fixture
def policy(built):
    return TrustPolicy(owner_keys=(load_public(built.owner_pub),))


@pytest.fixture
def other(tmp_path):
    return load_signer(create_key("recorder", tmp_path / "other", None)[0])


def key_bundle(signer, *, hint=None):
    envelope = sign_envelope(signer, render_statement(STATEMENT), PAYLOAD_TYPE)
    pem = signer.public.pem if hint is None else hint
    return render_bundle(Bundle(parse_envelope(envelope, where="x"), key_hint(pem)))


def judged(release, policy):
    with open_evidence(release) as evidence:
        report = verify(evidence, policy, checks=CHECKS)
    return {result.id: result.verdict for result in report.results}, {
        result.id: result.status for result in report.results
    }


def test_a_later_statement_of_an_owner_counts(release, policy, built):
    (release / PATH).write_bytes(key_bundle(built.owner))
    verdicts, statuses = judged(release, policy)
    assert statuses == {"C1": "passed", "C8": "passed"}
    assert "1 later statement of" in verdicts["C8"].note


def test_a_later_statement_of_an_attester_counts_but_not_as_an_owners(release, policy, other):
    data = key_bundle(other)
    (release / PATH).write_bytes(data)
    policy = replace(policy, attester_keys=(other.public,))
    assert signer_of(data, policy, where=PATH) == SignedBy(f"key {other.keyid:.8}", "")
    verdicts, _ = judged(release, policy)
    assert "not counted" not in verdicts["C8"].note


def test_an_attester_signs_no_statement_of_the_release(release, policy, built):
    policy = replace(policy, owner_keys=(), attester_keys=(load_public(built.owner_pub),))
    _, statuses = judged(release, policy)
    assert statuses["C8"] == "failed"


def test_a_later_statement_of_a_stranger_is_noted_and_not_counted(release, policy, other):
    (release / PATH).write_bytes(key_bundle(other))
    verdicts, statuses = judged(release, policy)
    assert statuses["C8"] == "passed"
    assert f"not counted: {PATH}: " in verdicts["C8"].note
    assert "0 later statements of" in verdicts["C8"].note


def test_a_later_statement_of_a_revoked_key_is_noted_and_not_counted(release, policy, other):
    data = key_bundle(other)
    (release / PATH).write_bytes(data)
    policy = replace(policy, attester_keys=(other.public,), revoked_keyids=frozenset({other.keyid}))
    assert isinstance(signer_of(data, policy, where=PATH), Unknown)
    verdicts, _ = judged(release, policy)
    assert "revoked" in verdicts["C8"].note


@pytest.mark.parametrize("fault", ["sig", "hint", "payload", "type"])
def test_a_later_statement_that_a_known_signer_did_not_sign_fails_c8(release, policy, built, fault):
    value = strictjson.parse(key_bundle(built.owner), where=PATH)
    other = strictjson.parse((release / "release.sigstore.json").read_bytes(), where=PATH)
    if fault == "sig":
        value["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"]
    elif fault == "payload":
        value["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    elif fault == "hint":
        value["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    else:
        value["dsseEnvelope"]["payloadType"] = "text/plain"
    (release / PATH).write_bytes(strictjson.dumps(value))
    verdicts, statuses = judged(release, policy)
    assert statuses == {"C1": "passed", "C8": "failed"}
    assert [finding.path for finding in verdicts["C8"].findings] == [PATH]


def test_a_malformed_later_statement_fails_c1(release, policy, built):
    (release / PATH).write_bytes(key_bundle(built.owner) + b"\n")
    _, statuses = judged(release, policy)
    assert statuses["C1"] == "failed"


def test_a_later_statement_of_an_identity_is_judged_by_the_policy(release, policy, tmp_path):
    pytest.importorskip("sigstore")
    instance = Loopback()
    root, _ = write_trust(tmp_path, instance, 1)
    made = Forge(instance, ME, instance.issuer).bundle(render_statement(STATEMENT))
    (release / PATH).write_bytes(strictjson.dumps(made))
    verdicts, statuses = judged(release, policy)
    assert statuses["C8"] == "passed"
    assert "not counted" in verdicts["C8"].note
    mine = replace(policy, identities=(Identity(ME, instance.issuer),), trusted_root=root)
    verdicts, statuses = judged(release, mine)
    assert statuses["C8"] == "passed"
    assert "not counted" not in verdicts["C8"].note
    stranger, _ = write_trust(tmp_path / "stranger", Loopback(), 1)
    _, statuses = judged(release, replace(mine, trusted_root=stranger))
    assert statuses["C8"] == "failed"


def test_owners_are_told_apart_and_who_is_vouched_for_is_who_vouches(built, tmp_path):
    owner, second = built.owner, load_signer(create_key("owner", tmp_path / "second", None)[0])
    policy = TrustPolicy(owner_keys=(owner.public, second.public))
    found = {signer_of(key_bundle(key), policy, where="x").owner for key in (owner, second)}
    assert len(found) == 2
    identity = Identity(ME, "https://accounts.example.org")
    policy = TrustPolicy(owner_keys=(owner.public,)).vouch(owner.public, identity)
    assert signer_of(key_bundle(owner), policy, where="x").owner == f"identity {identity}"
