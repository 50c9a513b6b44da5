"""``forebear attest`` in a repository that has none of our stages, with keys of every kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from forebear.cli.main import _run
from forebear.errors import ConfigError
from forebear.release.inner import parse_terms
from forebear.release.terms import Terms
from forebear.signing.keys import create_key
from tests.support.softtoken import shared_token
from tests.support.terminal import run_on_terminal, run_without_terminal
from tests.support.workspace import PIPELINE, Workspace, copy_template

INNER = "python -I -m forebear attest --inner --release release"
ATTEST = """
  attest:
    cmd: forebear record attest -- {inner}
    deps:
    - out/tree
    - links/make.link
    - links/use.link
    meta:
      forebear:
        reads: [owner-key, repository]
    params:
    - attest
    outs:
    - release
    - links/attest.link
"""
pytest.importorskip("model_signing")


@pytest.fixture(scope="session")
def recorded(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The throwaway repository with a stage that attests, its other stages recorded."""
    folder = tmp_path_factory.mktemp("attest") / "w"
    workspace = copy_template(template, folder)
    _declare(workspace, INNER)
    workspace.write("params.yaml", workspace.read("params.yaml") + "attest:\n  serial: 3\n")
    workspace.repro("make", "use")
    for words in (("git", "add", "-A"), ("git", "commit", "-q", "-m", "recorded")):
        assert workspace.run(*words).returncode == 0
    return folder


@pytest.fixture
def repo(recorded: Path, tmp_path: Path) -> Workspace:
    return copy_template(recorded, tmp_path / "w")


def _declare(workspace: Workspace, inner: str) -> None:
    workspace.write("dvc.yaml", PIPELINE + ATTEST.format(inner=inner))


def _verify(repo: Workspace, owner_pub: Path) -> int:
    done = repo.run("forebear", "pack", "../packed")
    assert done.returncode == 0, done.stderr
    return repo.run("forebear", "verify", "../packed", "--trust", str(owner_pub)).returncode


def _release(repo: Workspace) -> dict:
    import base64

    bundle = json.loads(repo.read("release/release.sigstore.json"))
    return json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))["predicate"]


PASSES = {0, 3}  # 3: nothing failed, something stayed unchecked


def test_a_foreign_repository_signs_what_its_params_say(repo):
    done = repo.run("forebear", "attest")
    assert done.returncode == 0, done.stderr
    predicate = _release(repo)
    assert predicate["serial"] == 3
    assert predicate["gate"] is None
    assert _verify(repo, repo.keys / "owner.pub") in PASSES


def test_an_encrypted_owner_is_asked_for_on_the_terminal_only(repo, tmp_path):
    private, public = create_key("owner", tmp_path / "other", b"open sesame")
    words = [str(tmp_path / "w/bin/forebear"), "attest", "--key", str(private)]
    done = run_without_terminal(words, env=repo.env, cwd=repo.root)
    assert done.returncode == 4
    assert "no terminal" in done.stderr
    assert not (repo.root / "release").exists()
    code, shown = run_on_terminal(words, ["open sesame"], env=repo.env, cwd=repo.root)
    assert code == 0, shown
    assert "sesame" not in shown
    assert "open sesame" not in repo.read("links/attest.link")
    assert _verify(repo, public) in PASSES
    assert _verify(repo, repo.keys / "owner.pub") == 1


def test_a_wrong_passphrase_signs_nothing(repo, tmp_path):
    private, _ = create_key("owner", tmp_path / "other", b"open sesame")
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    file.write_text("open barley\n")
    done = repo.run("forebear", "attest", "--key", str(private), "--passphrase-file", str(file))
    assert done.returncode == 4
    assert "does not open" in done.stderr
    assert not (repo.root / "release").exists()
    assert not (repo.root / "links/attest.link").exists()


def test_a_token_signs_the_release_with_a_relative_public_file(repo):
    token = shared_token()
    shutil.copy(token.public, repo.root.parent / "token.pub")
    done = repo.run(
        "forebear", "attest", "--key", token.uri, "--public-key", "../token.pub",
        "--passphrase-file", str(token.pin), **token.env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _verify(repo, token.public) in PASSES


def test_an_identity_signs_a_recorded_release(repo, tmp_path):
    pytest.importorskip("sigstore")
    from tests.support.loopback_sigstore import Loopback, serve
    from tests.support.sigstore_release import ME, write_token, write_trust

    _declare(repo, INNER)
    repo.write(
        "dvc.yaml",
        repo.read("dvc.yaml").replace("reads: [", "network: true\n        reads: ["),
    )
    with serve(Loopback()) as instance:
        root, config = write_trust(tmp_path / "trust", instance, 1)
        token = write_token(tmp_path / "trust", instance)
        done = repo.run(
            "forebear", "attest", "--sign", "sigstore", "--trust-config", str(config),
            "--identity-token-file", str(token),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        issuer = instance.issuer
    policy = root.parent / "policy.yaml"
    who = f"identities: [{{identity: {ME}, issuer: {issuer}}}]"
    policy.write_text(f"{who}\ntrusted_root: {root.name}\nrequire_sigstore: true\n")
    assert _verify(repo, policy) in PASSES
    policy.write_text(policy.read_text().replace(ME, "somebody@else.example"))
    assert repo.run("forebear", "verify", "../packed", "--trust", str(policy)).returncode == 1


def test_without_a_stage_attest_the_way_is_shown(repo):
    repo.write("dvc.yaml", PIPELINE)
    done = repo.run("forebear", "attest")
    assert done.returncode == 2
    assert "forebear init" in done.stderr


def test_the_inner_process_refuses_modules_of_the_repository(repo):
    repo.write("hashlib.py", "raise SystemExit('planted')\n")
    done = repo.run("forebear", "attest")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(repo.root / "release")
    _declare(repo, INNER.replace("-I", "-P"))
    (repo.root / "hashlib.py").unlink()
    done = repo.run("forebear", "attest")
    assert done.returncode == 2
    assert "python -I -m forebear" in done.stderr
    assert not (repo.root / "release").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--release", "x"),
        ("--sign", "sigstore"),
        ("--trust-config", __file__),
        ("--identity-token-file", __file__, "--sign", "key"),
        ("--inner",),
        ("--key", "gnupg:x"),
    ],
)
def test_contradicting_options_are_refused(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _run(["attest", *words]) == 2


def test_terms_are_read_as_they_are_written():
    previous = {"serial": 2, "sha256": "0" * 64}
    section = {"serial": 3, "documents": "final", "previous": previous, "allow": []}
    assert parse_terms(section) == Terms(serial=3, documents="final", previous=previous)
    assert parse_terms({}) == Terms()


@pytest.mark.parametrize(
    "section",
    [
        {"serial": "3"},
        {"serial": 0},
        {"serials": 3},
        {"previous": {"serial": 1}},
        {"previous": {"serial": 1, "sha256": "x"}},
        {"serial": 1, "previous": {"serial": 1, "sha256": "0" * 64}},
        {"expires_days": 0, "documents": "none"},
    ],
)
def test_terms_that_cannot_be_are_refused(section):
    with pytest.raises(ConfigError):
        parse_terms(section)


def test_every_fault_of_the_terms_is_told_at_once():
    with pytest.raises(ConfigError, match="2 fault") as refused:
        parse_terms({"serial": 0, "documents": "perfect"})
    assert "serial" in str(refused.value)
    assert "documents" in str(refused.value)


def test_our_own_stage_takes_the_same_terms():
    from stages.attest import main

    model = main.params_model  # type: ignore[attr-defined]
    params = model.model_validate({"seed": 7, "serial": 2, "previous": {
        "serial": 1, "sha256": "0" * 64}})  # fmt: skip
    assert params.terms().previous == {"serial": 1, "sha256": "0" * 64}
