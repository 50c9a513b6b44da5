"""``forebear keys`` as a person uses it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from forebear.cli.main import _run
from forebear.formats.statement import key_hint
from forebear.signing.keys import load_public, load_signer
from tests.support.softtoken import shared_token
from tests.support.terminal import run_on_terminal, run_without_terminal


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def env(repository):
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(repository), "TERM": "dumb"}


def _words(*words: object) -> list[str]:
    return [sys.executable, "-P", "-m", "forebear", *map(str, words)]


def _secret(folder: Path, text: str) -> Path:
    file = folder / "secret"
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def test_a_new_passphrase_is_asked_for_on_the_terminal(folder, env, tmp_path):
    words = _words("keys", "new", "owner", "--passphrase", "--keys", folder)
    code, shown = run_on_terminal(words, ["open sesame", "open sesame"], env=env, cwd=tmp_path)
    assert code == 0, shown
    assert "sesame" not in shown
    assert load_signer(folder / "owner.pem", b"open sesame").public == load_public(
        folder / "owner.pub"
    )


def test_a_mistyped_passphrase_makes_no_key(folder, env, tmp_path):
    words = _words("keys", "new", "owner", "--passphrase", "--keys", folder)
    code, _ = run_on_terminal(words, ["open sesame", "open barley"], env=env, cwd=tmp_path)
    assert code == 2
    assert not (folder / "owner.pem").exists()


def test_without_a_terminal_a_prompt_fails_and_a_file_works(folder, env, tmp_path):
    words = _words("keys", "new", "owner", "--keys", folder)
    assert run_without_terminal([*words, "--passphrase"], env=env, cwd=tmp_path).returncode == 4
    assert not folder.exists()
    file = _secret(tmp_path, "open sesame\n")
    done = run_without_terminal([*words, "--passphrase-file", str(file)], env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    load_signer(folder / "owner.pem", b"open sesame")


def test_prompt_and_file_exclude_each_other(folder, tmp_path):
    file = str(_secret(tmp_path, "x\n"))
    words = ("--passphrase", "--passphrase-file", file, "--keys", str(folder))
    assert _run(["keys", "new", "owner", *words]) == 2
    assert not folder.exists()


def test_a_readable_passphrase_file_is_refused(folder, tmp_path):
    file = _secret(tmp_path, "x\n")
    file.chmod(0o644)
    words = ["keys", "new", "owner", "--passphrase-file", str(file), "--keys", str(folder)]
    assert _run(words) == 4
    file.chmod(0o600)
    assert _run(words) == 0


def test_a_rotated_key_is_listed_beside_the_new_one(folder, capsys):
    where = ("--keys", str(folder))
    assert _run(["keys", "rotate", "recorder", *where]) == 2  # there is none
    assert _run(["keys", "new", "recorder", *where, "--json"]) == 0
    capsys.readouterr()
    old = load_public(folder / "recorder.pub").keyid
    assert _run(["keys", "rotate", "recorder", *where, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["old_keyid"] == old
    assert told["keyid"] == load_public(folder / "recorder.pub").keyid
    assert _run(["keys", "list", *where, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["keys"]
    assert [(row["role"], row["state"], row["keyid"]) for row in rows] == [
        ("recorder", "ready", told["keyid"]),
        ("owner", "missing", None),
        ("recorder", "retired", old),
    ]
    assert _run(["keys", "rotate", "recorder", *where]) == 0
    assert "forebear record STAGE --resign" in capsys.readouterr().out
    assert _run(["keys", "list", *where]) == 0
    assert capsys.readouterr().out.count("retired") == 2


def test_rotation_encrypts_the_new_key(folder, tmp_path, capsys):
    where = ("--keys", str(folder))
    assert _run(["keys", "new", "owner", *where]) == 0
    file = str(_secret(tmp_path, "open sesame\n"))
    assert _run(["keys", "rotate", "owner", "--passphrase-file", file, *where]) == 0
    load_signer(folder / "owner.pem", b"open sesame")
    assert "publish the new owner.pub" in capsys.readouterr().out


def test_ensure_leaves_a_key_in_a_token_alone(folder, capsys):
    where = ("--keys", str(folder))
    assert _run(["keys", "new", "owner", *where]) == 0
    (folder / "owner.pem").unlink()
    capsys.readouterr()
    assert _run(["keys", "ensure", *where, "--json"]) == 0
    assert [row["role"] for row in json.loads(capsys.readouterr().out)["created"]] == ["recorder"]
    assert not (folder / "owner.pem").exists()


@pytest.mark.parametrize("role", ["recorder", "owner"])
def test_a_public_key_is_shown_with_its_names(folder, capsys, role):
    assert _run(["keys", "new", role, "--keys", str(folder)]) == 0
    file = folder / f"{role}.pub"
    key = load_public(file)
    capsys.readouterr()
    assert _run(["keys", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert key.keyid in shown
    assert key_hint(key.pem) in shown
    assert shown.endswith(key.pem.decode())
    assert _run(["keys", "show", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pem"] == key.pem.decode()
    assert _run(["keys", "show", str(folder / f"{role}.pem")]) == 2


def test_a_token_s_public_key_is_fetched(monkeypatch, capsys):
    token = shared_token()
    for name, value in token.env.items():
        monkeypatch.setenv(name, value)
    assert _run(["keys", "fetch", token.uri, "--passphrase-file", str(token.pin)]) == 0
    assert capsys.readouterr().out == token.public.read_text()
    assert _run(["keys", "fetch", "hsm:9?label=forebear+test", "--passphrase-file",
                 str(token.pin)]) == 4  # fmt: skip
