"""Signing by a loopback instance, verifying without one, and what either refuses."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys

import pytest

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    FormatError,
    MissingExtra,
    PolicyError,
    SignatureError,
)
from forebear.formats import strictjson
from forebear.formats.statement import Statement, parse_bundle, render_statement
from forebear.signing import sigstore
from forebear.signing.policy import Identity
from tests.support.loopback_pki import Authority
from tests.support.loopback_sigstore import Forge, Loopback, serve
from tests.support.sigstore_release import ME, write_trust

pytest.importorskip("sigstore")
PAYLOAD = render_statement(Statement((("a", "0" * 64),), "https://example.org/p", {"n": 1}))


@pytest.fixture(scope="module")
def instance():
    with serve(Loopback()) as served:
        yield served


@pytest.fixture(params=[1, 2], ids=["rekor1", "rekor2"])
def rekor(request):
    return request.param


@pytest.fixture
def trust(instance, tmp_path, rekor):
    return write_trust(tmp_path, instance, rekor)


def sign(instance, config, **claims):
    return sigstore.sign_statement(PAYLOAD, trust_config=config, token=instance.token(ME, **claims))


def verify(instance, data, root, identity=ME, issuer=""):
    who = Identity(identity, issuer or instance.issuer)
    return sigstore.verify_bundle(data, identities=(who,), trusted_root=root, where="b")


def test_what_is_signed_verifies_with_sockets_disabled(instance, trust, monkeypatch):
    root, config = trust
    data = sign(instance, config)

    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    who, bundle = verify(instance, data, root)
    assert who == Identity(ME, instance.issuer)
    assert bundle.envelope.payload == PAYLOAD
    assert bundle.envelope.payload_type == "application/vnd.in-toto+json"


def test_what_is_written_is_canonical_and_strict(instance, trust):
    data = sign(instance, trust[1])
    assert strictjson.dumps(strictjson.parse(data, where="b")) == data
    assert parse_bundle(data, where="b").certificate


def test_a_uri_is_an_identity_like_an_address(instance, trust):
    job = "https://gitlab.example.org/team/model//.gitlab-ci.yml@refs/heads/main"
    token = instance.token(job)
    data = sigstore.sign_statement(PAYLOAD, trust_config=trust[1], token=token)
    assert verify(instance, data, trust[0], identity=job)[0].identity == job


def test_a_bundle_in_another_serialisation_is_verified_as_it_is(instance, trust):
    value = json.loads(sign(instance, trust[1]))
    assert verify(instance, json.dumps(value, indent=1).encode(), trust[0])


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [("other@example.org", ""), (ME[:-1], ""), (ME + "x", ""), (ME, "https://example.org")],
)
def test_another_identity_is_refused_by_the_policy(instance, trust, identity, issuer):
    with pytest.raises(PolicyError, match=re.escape(ME)):
        verify(instance, sign(instance, trust[1]), trust[0], identity=identity, issuer=issuer)


def test_a_claim_without_proof_is_no_signature(instance, trust, rekor):
    made = Forge(instance, ME, instance.issuer, rekor, ca=Authority.make("fulcio")).bundle(PAYLOAD)
    with pytest.raises(SignatureError):
        verify(instance, strictjson.dumps(made), trust[0])


def test_a_certificate_that_is_none_is_no_signature(instance, trust, rekor):
    made = Forge(instance, ME, instance.issuer, rekor).bundle(PAYLOAD)
    made["verificationMaterial"]["certificate"]["rawBytes"] = "AAAA"
    with pytest.raises(SignatureError):
        verify(instance, strictjson.dumps(made), trust[0])


def test_the_bundle_of_a_key_names_no_identity(instance, trust):
    value = {
        "dsseEnvelope": {
            "payload": "",
            "payloadType": "a",
            "signatures": [{"keyid": "0" * 64, "sig": "AAAA"}],
        },
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "0" * 64}, "tlogEntries": []},
    }
    with pytest.raises(SignatureError):
        verify(instance, strictjson.dumps(value), trust[0])
    with pytest.raises(FormatError):
        verify(instance, b"{}", trust[0])


@pytest.mark.parametrize(
    ("claims", "token"),
    [({"lifetime_s": -60}, None), ({"aud": "other"}, None), ({}, "no token at all")],
)
def test_a_bad_token_is_refused_and_never_shown(instance, trust, claims, token):
    token = token or instance.token(ME, **claims)
    with pytest.raises(EnvironmentFailure) as refused:
        sigstore.sign_statement(PAYLOAD, trust_config=trust[1], token=token)
    assert token not in str(refused.value)


def test_a_token_that_the_ca_does_not_know_is_refused(instance, trust):
    with pytest.raises(EnvironmentFailure):
        sigstore.sign_statement(PAYLOAD, trust_config=trust[1], token=Loopback().token(ME))


def test_a_service_that_is_not_there_is_a_failure_of_the_environment(tmp_path, rekor):
    absent = Loopback()
    _, config = write_trust(tmp_path, absent, rekor)
    with pytest.raises(EnvironmentFailure):
        sign(absent, config)


def test_a_ca_without_transparency_is_not_signed_with(tmp_path, rekor):
    dishonest = Loopback(ct=lambda _issuer, _certificate: None)
    _, config = write_trust(tmp_path / "a", Loopback(), rekor)
    honest = json.loads(config.read_text())
    with serve(dishonest) as served:
        dishonest.trusted_root = lambda: honest["trustedRoot"]
        _, config = write_trust(tmp_path / "b", served, rekor)
        with pytest.raises(EnvironmentFailure):
            sign(served, config)


@pytest.mark.parametrize("text", ["", "{}", "[", '{"mediaType": 1}', "\xff"])
def test_a_broken_trust_config_is_named(instance, tmp_path, text):
    config = tmp_path / "config.json"
    config.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError) as refused:
        sign(instance, config)
    assert refused.value.where == str(config)
    with pytest.raises(EnvironmentFailure):
        sign(instance, tmp_path / "absent.json")


def test_no_ci_job_gives_no_token_and_a_broken_one_is_explained(monkeypatch):
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("id._internal.oidc.ambient.detect_gcp", lambda _audience: None)
    assert sigstore.ambient_token() is None
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", raising=False)
    with pytest.raises(EnvironmentFailure) as refused:
        sigstore.ambient_token()
    assert "id-token" in refused.value.fix


def test_a_gitlab_job_gives_its_token(instance, trust, monkeypatch):
    token = instance.token(ME)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token)
    assert sigstore.ambient_token() == token


def test_without_the_library_the_extra_is_named(instance, trust, monkeypatch):
    data = sign(instance, trust[1])
    for name in [name for name in sys.modules if name.partition(".")[0] == "sigstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    with pytest.raises(MissingExtra, match="'sign'"):
        verify(instance, data, trust[0])
    with pytest.raises(MissingExtra):
        sign(instance, trust[1])
    with pytest.raises(MissingExtra):
        sigstore.ambient_token()


def test_importing_the_module_does_not_import_the_library():
    code = "import sys, forebear.signing.sigstore; sys.exit('sigstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
