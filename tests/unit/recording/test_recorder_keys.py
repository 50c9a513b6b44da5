"""The recorder's key is the one that the environment names, tried before the stage runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forebear.errors import EnvironmentFailure, UsageError
from forebear.recording.sealing import load_recorder, require_key
from forebear.signing.keys import create_key, load_public
from forebear.signing.signer import verify_envelope
from tests.support.softtoken import Token, shared_token
from tests.support.workspace import Workspace

STARTED = "metrics.json"  # the first thing that one sees of a stage that has run

TELL = """
seen = [name for name in os.environ if name.startswith("FOREBEAR_RECORDER")]
pathlib.Path("metrics.json").write_text(json.dumps(seen))
"""


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Token:
    token = shared_token()
    for name, value in token.env.items():
        monkeypatch.setenv(name, value)
    return token


def _record(workspace: Workspace, **env: str):
    return workspace.run("forebear", "record", "make", "--", "python", "make.py", "out/tree", **env)


def _secret(folder: Path, text: str) -> str:
    file = folder / "secret"
    file.touch(mode=0o600)
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_an_encrypted_key_elsewhere_signs_the_link(workspace, tmp_path, prefix):
    private, public = create_key("recorder", tmp_path / "other", b"open sesame")
    key = {"FOREBEAR_RECORDER_KEY": f"{prefix}{private}"}
    done = _record(workspace, **key)
    assert done.returncode == 4
    assert "FOREBEAR_RECORDER_PASSPHRASE_FILE" in done.stderr
    assert not (workspace.root / STARTED).exists()
    file = _secret(tmp_path, "open sesame\n")
    done = _record(workspace, FOREBEAR_RECORDER_PASSPHRASE_FILE=file, **key)
    assert done.returncode == 0, done.stderr
    verify_envelope(workspace.envelope("make"), load_public(public))


def test_a_token_signs_the_link_and_its_secrets_stay_outside(workspace, token):
    workspace.write("make.py", workspace.read("make.py") + TELL)
    env = {
        "FOREBEAR_RECORDER_KEY": token.uri,
        "FOREBEAR_RECORDER_PUBLIC": str(token.public),
        "FOREBEAR_RECORDER_PASSPHRASE_FILE": str(token.pin),
    }
    done = _record(workspace, **env, **token.env)
    assert done.returncode == 0, done.stderr
    verify_envelope(workspace.envelope("make"), load_public(token.public))
    assert workspace.read("metrics.json") == "[]"


def test_a_token_that_does_not_sign_stops_the_run_before_it_starts(workspace, token, tmp_path):
    env = {
        "FOREBEAR_RECORDER_KEY": token.uri,
        "FOREBEAR_RECORDER_PUBLIC": str(token.public),
        "FOREBEAR_RECORDER_PASSPHRASE_FILE": _secret(tmp_path, "0815\n"),
    }
    done = _record(workspace, **env, **token.env)
    assert done.returncode == 4
    assert "PinIncorrect" in done.stderr
    assert "0815" not in done.stderr
    assert not (workspace.root / STARTED).exists()


def test_the_recorder_asks_nobody(token, tmp_path, monkeypatch):
    monkeypatch.setenv("FOREBEAR_RECORDER_KEY", token.uri)
    monkeypatch.setenv("FOREBEAR_RECORDER_PUBLIC", str(token.public))
    monkeypatch.delenv("FOREBEAR_RECORDER_PASSPHRASE_FILE", raising=False)
    with pytest.raises(EnvironmentFailure, match="needs its PIN"):
        require_key(tmp_path)
    monkeypatch.setenv("FOREBEAR_RECORDER_PASSPHRASE_FILE", str(token.pin))
    require_key(tmp_path)


def test_the_public_half_of_a_token_lies_in_the_key_folder_by_default(token, tmp_path, monkeypatch):
    monkeypatch.setenv("FOREBEAR_RECORDER_KEY", token.uri)
    monkeypatch.setenv("FOREBEAR_RECORDER_PASSPHRASE_FILE", str(token.pin))
    monkeypatch.delenv("FOREBEAR_RECORDER_PUBLIC", raising=False)
    with pytest.raises(EnvironmentFailure, match="cannot be read"):
        load_recorder(tmp_path)
    shutil.copy(token.public, tmp_path / "recorder.pub")
    assert load_recorder(tmp_path).public == load_public(token.public)


@pytest.mark.parametrize("key", ["gnupg:x", "hsm:2?pin=1"])
def test_a_key_that_cannot_be_is_refused_before_the_run(tmp_path, monkeypatch, key):
    monkeypatch.setenv("FOREBEAR_RECORDER_KEY", key)
    create_key("recorder", tmp_path / "keys", None)
    with pytest.raises(UsageError):
        require_key(tmp_path / "keys")
    monkeypatch.delenv("FOREBEAR_RECORDER_KEY")
    require_key(tmp_path / "keys")


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(EnvironmentFailure):
        require_key(tmp_path / "a\0b")
