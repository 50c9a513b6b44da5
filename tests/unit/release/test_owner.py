"""Owners of every kind sign what the stock tools verify."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forebear.errors import ConfigError, EnvironmentFailure, RecordError, UsageError
from forebear.evidence.store import open_evidence
from forebear.formats.statement import parse_bundle, parse_statement
from forebear.release import oms
from forebear.release.owner import (
    KeyOwner,
    load_owner,
    load_owner_from_environment,
    sign_bundle,
)
from forebear.signing.keyring import load_recorders, rotate_key
from forebear.signing.keys import create_key, load_public, load_signer
from forebear.signing.passphrase import from_file_or_prompt
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import verify_envelope
from forebear.signing.token import open_key
from forebear.verify.result import Failed, Report
from forebear.verify.run import verify
from tests.support.release import CHECKPOINT, WEIGHTS, Simulated, build_repository
from tests.support.softtoken import shared_token

BINARIES = Path(sys.executable).parent
pytest.importorskip("model_signing")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return build_repository(tmp_path_factory.mktemp("release"))


@pytest.fixture
def sim(template: Simulated, tmp_path: Path) -> Simulated:
    shutil.copytree(template.repo, tmp_path / "repo", symlinks=True)
    shutil.copytree(template.owner_pub.parent, tmp_path / "keys")
    return replace(
        template,
        repo=tmp_path / "repo",
        packed=tmp_path / "packed",
        owner_pub=tmp_path / "keys/owner.pub",
        owner_file=tmp_path / "keys/owner.pem",
    )


@pytest.fixture(scope="module")
def token():
    token = shared_token()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in token.env.items():
            patch.setenv(name, value)
        yield token


def _stock(folder: Path, owner_pub: Path) -> list[subprocess.CompletedProcess[str]]:
    return [
        subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        for words in (
            [str(BINARIES / "in-toto-verify"), "--layout", "root.layout", "--verification-keys",
             str(owner_pub), "--link-dir", "links", "--inspection-timeout", "86400", "-v"],
            [str(BINARIES / "model_signing"), "verify", "key", CHECKPOINT, "--signature",
             f"attestations/{CHECKPOINT}/model.sig", "--public_key", str(owner_pub)],
        )
    ]  # fmt: skip


def _failed(report: Report) -> list[str]:
    return [str(result) for result in report.results if isinstance(result.verdict, Failed)]


def _require_sound(folder: Path, owner_pub: Path) -> None:
    """Our verifier and the stock tools pass, and fail after one changed byte."""
    policy = TrustPolicy(owner_keys=(load_public(owner_pub),))
    with open_evidence(folder) as evidence:
        report = verify(evidence, policy)
    assert not _failed(report)
    for done in _stock(folder, owner_pub):
        assert done.returncode == 0, done.stdout + done.stderr
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[50] ^= 1
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).write_bytes(data)
    for done in _stock(folder, owner_pub):
        assert done.returncode != 0


def test_a_release_with_links_of_old_and_new_recorder_key_is_sound(sim):
    keys = sim.owner_pub.parent
    sim.record("base")
    done = rotate_key("recorder", keys, None)
    rotated = replace(sim, recorder=load_signer(keys / "recorder.pem"))
    for name in ("sft", "eval"):
        rotated.record(name)
    _attest(rotated, KeyOwner(sim.owner, sim.owner_file), load_recorders(sim.repo, keys))
    signers = {file.name for file in (sim.repo / "release/links").iterdir()}
    assert f"base.{done.old.keyid[:8]}.link" in signers
    assert f"sft.{done.new.keyid[:8]}.link" in signers
    layout = (sim.repo / "release/root.layout").read_bytes()
    assert layout
    _require_sound(rotated.pack(), sim.owner_pub)


def test_a_link_of_an_old_key_whose_public_half_is_gone_is_not_signed_for(sim):
    keys = sim.owner_pub.parent
    done = rotate_key("recorder", keys, None)
    done.retired[1].unlink()
    with pytest.raises(RecordError, match="no known recorder"):
        _attest(sim, KeyOwner(sim.owner, sim.owner_file), load_recorders(sim.repo, keys))


def test_a_release_after_the_owner_s_rotation_needs_the_new_key(sim):
    keys = sim.owner_pub.parent
    old_pub = rotate_key("owner", keys, None).retired[1]
    _attest(sim, load_owner(keys=keys), [sim.recorder.public])
    folder = sim.pack()
    with open_evidence(folder) as evidence:
        report = verify(evidence, TrustPolicy(owner_keys=(load_public(old_pub),)))
    assert _failed(report)
    _require_sound(folder, keys / "owner.pub")


def test_a_token_owns_a_release(sim, token):
    owner = load_owner(token.uri, public=token.public, secret=from_file_or_prompt(token.pin))
    _attest(sim, owner, [sim.recorder.public])
    _require_sound(sim.pack(), token.public)


def test_a_token_records_a_release(sim, token):
    signer = open_key(token.uri, public=token.public, secret=from_file_or_prompt(token.pin))
    sim = replace(sim, recorder=signer)
    for name in ("base", "sft", "eval"):
        sim.record(name)
    _attest(sim, KeyOwner(sim.owner, sim.owner_file), [signer.public])
    _require_sound(sim.pack(), sim.owner_pub)


def test_the_owner_s_key_records_nothing(sim):
    with pytest.raises(ConfigError, match="also a recorder's"):
        _attest(sim, KeyOwner(sim.owner, sim.owner_file), [sim.owner.public, sim.recorder.public])


def _attest(sim: Simulated, owner: KeyOwner, recorders) -> None:
    from forebear.release.attest import Terms, attest

    attest(
        sim.repo, sim.pipeline, owner, recorders=recorders, gate="data/eval/verdict",
        documents="cards/documents", release="release", terms=Terms(),
    )  # fmt: skip
    sim.record("attest")


# ── model signatures ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    for path, data in {"a.bin": b"a", "sub/b": b"", ".git/config": b"g", ".gitignore": b"x",
                       "ключ.txt": b"k", "b c": b"d"}.items():  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_our_model_statement_is_the_one_that_the_library_signs(model, tmp_path):
    private, public = create_key("owner", tmp_path / "keys", None)
    theirs = json.loads(oms.sign_with(model, lambda config: config.use_elliptic_key_signer(
        private_key=private)))  # fmt: skip
    ours = KeyOwner(load_signer(private), private).sign_model(model)
    bundle = parse_bundle(ours, where="model.sig")
    verify_envelope(bundle.envelope, load_public(public))
    import base64

    stock = json.loads(base64.b64decode(theirs["dsseEnvelope"]["payload"]))
    assert json.loads(bundle.envelope.payload) == stock
    mine = json.loads(ours)
    assert mine["verificationMaterial"] == theirs["verificationMaterial"]
    assert mine["mediaType"] == theirs["mediaType"]
    assert {"ключ.txt", ".git/config"} <= {
        entry["name"] for entry in stock["predicate"]["resources"]
    }


def test_a_model_of_links_into_a_cache_is_signed_as_its_bytes(model, tmp_path):
    # as DVC leaves it with `cache.type symlink`; attest has made sure where the links lead
    plain = oms.model_statement(model)
    moved = tmp_path / "cache"
    moved.mkdir()
    file = next(file for file in sorted(model.iterdir()) if file.is_file())
    file.rename(moved / "object")
    file.symlink_to(moved / "object")
    assert oms.model_statement(model) == plain


def test_a_model_with_a_dangling_link_is_refused(model):
    (model / "link").symlink_to("nowhere")
    with pytest.raises(EnvironmentFailure):
        oms.model_statement(model)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(EnvironmentFailure):
        oms.model_statement(tmp_path / "none")


# ── where the owner comes from ─────────────────────────────────────────────────────────────────


@pytest.fixture
def keys(tmp_path, monkeypatch):
    folder = tmp_path / "forebear/keys"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("KEY", "PUBLIC", "PASSPHRASE_FILE"):
        monkeypatch.delenv(f"FOREBEAR_OWNER_{name}", raising=False)
    for role in ("recorder", "owner"):
        create_key(role, folder, None)
    return folder


def test_the_owner_is_the_one_of_the_key_folder(keys):
    assert load_owner_from_environment().public == load_public(keys / "owner.pub")


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_the_environment_names_another_owner(keys, tmp_path, monkeypatch, prefix):
    private, public = create_key("owner", tmp_path / "other", b"open sesame")
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("open sesame\n")
    monkeypatch.setenv("FOREBEAR_OWNER_KEY", f"{prefix}{private}")
    monkeypatch.setenv("FOREBEAR_OWNER_PASSPHRASE_FILE", str(secret))
    assert load_owner_from_environment().public == load_public(public)


def test_the_environment_names_a_token(keys, token, monkeypatch):
    monkeypatch.setenv("FOREBEAR_OWNER_KEY", token.uri)
    monkeypatch.setenv("FOREBEAR_OWNER_PUBLIC", str(token.public))
    monkeypatch.setenv("FOREBEAR_OWNER_PASSPHRASE_FILE", str(token.pin))
    owner = load_owner_from_environment()
    owner.sign_envelope(b"{}\n")
    monkeypatch.delenv("FOREBEAR_OWNER_PUBLIC")
    shutil.copy(token.public, keys / "owner.pub")
    assert load_owner_from_environment().public == owner.public


def test_an_encrypted_owner_without_file_and_terminal_says_what_to_do(keys, monkeypatch, tmp_path):
    private, _ = create_key("owner", tmp_path / "other", b"open sesame")
    monkeypatch.setenv("FOREBEAR_OWNER_KEY", str(private))
    monkeypatch.setattr("forebear.signing.passphrase._TERMINAL", Path("/dev/null/none"))
    with pytest.raises(EnvironmentFailure) as refused:
        load_owner_from_environment()
    assert "FOREBEAR_OWNER_PASSPHRASE_FILE" in refused.value.fix


def test_a_recorder_key_is_no_owner(keys):
    with pytest.raises(ConfigError, match="no owner key"):
        load_owner(str(keys / "recorder.pem"))


def test_any_key_signs_a_statement(keys):
    from forebear.formats.statement import APPROVAL, Statement

    signer = load_signer(keys / "recorder.pem")
    statement = Statement((("x", "0" * 64),), APPROVAL, {})
    bundle = parse_bundle(sign_bundle(signer, statement, where="x"), where="x")
    verify_envelope(bundle.envelope, signer.public)
    assert parse_statement(bundle.envelope.payload, where="x") == statement


@pytest.mark.parametrize(("way", "error"), [("post", ConfigError), ("sigstore", ConfigError)])
def test_another_way_or_a_missing_trust_configuration_is_refused(keys, monkeypatch, way, error):
    monkeypatch.setenv("FOREBEAR_SIGN", way)
    monkeypatch.delenv("FOREBEAR_TRUST_CONFIG", raising=False)
    with pytest.raises(error):
        load_owner_from_environment()


def test_an_unknown_scheme_is_refused(keys, monkeypatch):
    monkeypatch.setenv("FOREBEAR_OWNER_KEY", "gnupg:x")
    with pytest.raises(UsageError):
        load_owner_from_environment()


def test_a_sigstore_identity_stands_beside_the_key(keys, monkeypatch, tmp_path):
    from forebear.release import owner_sigstore

    monkeypatch.setattr(owner_sigstore, "SigstoreOwner", lambda owner, **given: (owner, given))
    monkeypatch.setenv("FOREBEAR_SIGN", "sigstore")
    monkeypatch.setenv("FOREBEAR_TRUST_CONFIG", "trust.json")
    monkeypatch.delenv("FOREBEAR_IDENTITY_TOKEN_FILE", raising=False)
    owner, given = load_owner_from_environment()
    assert owner.public == load_public(keys / "owner.pub")
    assert given == {"trust_config": Path("trust.json"), "identity_token_file": None}
    monkeypatch.setenv("FOREBEAR_IDENTITY_TOKEN_FILE", "token")
    assert load_owner_from_environment()[1]["identity_token_file"] == Path("token")
    monkeypatch.setenv("FOREBEAR_SIGN", "key")
    assert load_owner_from_environment().public == owner.public
