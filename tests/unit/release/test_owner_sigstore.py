"""An owner who signs by Sigstore, and what happens when there is no identity."""

from __future__ import annotations

import pytest

from forebear.errors import EnvironmentFailure
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope
from forebear.formats.statement import Statement
from forebear.release.owner import KeyOwner
from forebear.release.owner_sigstore import SigstoreOwner
from forebear.signing import sigstore
from forebear.signing.keys import create_key, load_signer
from forebear.signing.policy import Identity
from forebear.signing.signer import verify_envelope
from tests.support.loopback_sigstore import Loopback, serve
from tests.support.sigstore_release import ME, write_token, write_trust

pytest.importorskip("sigstore")
STATEMENT = Statement((("a", "0" * 64),), "https://example.org/p", {})


@pytest.fixture(scope="module")
def instance():
    with serve(Loopback()) as served:
        yield served


@pytest.fixture
def key_owner(tmp_path):
    file, _ = create_key("owner", tmp_path / "keys", None)
    return KeyOwner(load_signer(file), file)


@pytest.fixture
def trust(tmp_path, instance):
    return write_trust(tmp_path, instance, 1)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / ".git").mkdir(parents=True)
    (folder / "weights").write_text("w")
    (folder / ".git" / "x").write_text("x")
    return folder


def signed_by(data, trust, instance):
    who = Identity(ME, instance.issuer)
    return sigstore.verify_bundle(data, identities=(who,), trusted_root=trust[0], where="b")[1]


def test_envelopes_are_of_the_key_and_statements_of_the_identity(
    key_owner, trust, instance, tmp_path
):
    token = write_token(tmp_path, instance)
    owner = SigstoreOwner(key_owner, trust_config=trust[1], identity_token_file=token)
    assert owner.public == key_owner.public
    envelope = parse_envelope(owner.sign_envelope(b"{}"), where="e")
    verify_envelope(envelope, key_owner.public)
    bundle = signed_by(owner.sign_bundle(STATEMENT, where="s"), trust, instance)
    assert bundle.certificate


def test_a_model_is_signed_with_every_file(key_owner, trust, instance, tmp_path, model):
    token = write_token(tmp_path, instance)
    owner = SigstoreOwner(key_owner, trust_config=trust[1], identity_token_file=token)
    bundle = signed_by(owner.sign_model(model), trust, instance)
    payload = strictjson.parse(bundle.envelope.payload, where="p")
    assert [one["name"] for one in payload["predicate"]["resources"]] == [".git/x", "weights"]


def test_a_ci_job_signs_with_its_own_identity(key_owner, trust, instance, monkeypatch, model):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", instance.token(ME))
    owner = SigstoreOwner(key_owner, trust_config=trust[1])
    assert signed_by(owner.sign_bundle(STATEMENT, where="s"), trust, instance)
    assert signed_by(owner.sign_model(model), trust, instance)


def test_without_an_identity_nothing_is_signed_and_no_browser_opens(
    key_owner, trust, monkeypatch, model
):
    monkeypatch.setattr(sigstore, "ambient_token", lambda: None)
    monkeypatch.setattr("webbrowser.open", lambda *_: pytest.fail("a browser was opened"))
    owner = SigstoreOwner(key_owner, trust_config=trust[1])
    with pytest.raises(EnvironmentFailure, match="no identity"):
        owner.sign_bundle(STATEMENT, where="s")
    with pytest.raises(EnvironmentFailure, match="no identity"):
        owner.sign_model(model)


def test_a_token_that_cannot_be_used_is_explained(key_owner, trust, instance, tmp_path, model):
    expired = write_token(tmp_path, instance, lifetime_s=-60)
    for file in (tmp_path / "absent", tmp_path, expired):
        owner = SigstoreOwner(key_owner, trust_config=trust[1], identity_token_file=file)
        with pytest.raises(EnvironmentFailure):
            owner.sign_bundle(STATEMENT, where="s")
        with pytest.raises(EnvironmentFailure):
            owner.sign_model(model)
    (tmp_path / "token").write_bytes(b"\xff")
    owner = SigstoreOwner(key_owner, trust_config=trust[1], identity_token_file=expired)
    with pytest.raises(EnvironmentFailure):
        owner.sign_bundle(STATEMENT, where="s")
