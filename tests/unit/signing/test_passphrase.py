"""Passphrases come from a file for our eyes, or from a terminal, and from nowhere else."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from forebear.errors import EnvironmentFailure, UsageError
from forebear.signing.passphrase import _MEMORY, from_file_or_prompt, lent, read_passphrase
from tests.support.terminal import run_on_terminal, run_without_terminal

ASK = """
import sys
from forebear.errors import ForebearError
from forebear.signing.passphrase import prompt
try:
    print("got", prompt("secret", twice="twice" in sys.argv[1:]).hex())
except ForebearError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    return file


def _words(*words: str) -> list[str]:
    return [sys.executable, "-P", "-c", ASK, *words]


@pytest.fixture
def env(repository):
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(repository), "TERM": "dumb"}


@pytest.mark.parametrize("text", [b"open sesame", b"open sesame\n", b"open sesame\r\nmore\n"])
def test_the_first_line_is_the_passphrase(file, text):
    file.write_bytes(text)
    assert read_passphrase(file) == b"open sesame"


def test_blanks_belong_to_the_passphrase(file):
    file.write_bytes(b" a b \n")
    assert read_passphrase(file) == b" a b "


def test_a_mounted_secret_may_be_a_link(file):
    file.write_bytes(b"x\n")
    link = file.with_name("link")
    link.symlink_to(file)
    assert read_passphrase(link) == b"x"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o622])
def test_a_passphrase_that_others_may_read_is_refused(file, mode):
    file.write_bytes(b"open sesame\n")
    file.chmod(mode)
    with pytest.raises(EnvironmentFailure) as refused:
        read_passphrase(file)
    assert "chmod 600" in refused.value.fix
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"\n", b"\r\nsecond\n"])
def test_an_empty_first_line_is_refused(file, text):
    file.write_bytes(text)
    with pytest.raises(UsageError, match="empty"):
        read_passphrase(file)


def test_an_endless_line_is_refused(file):
    file.write_bytes(b"x" * 4097)
    with pytest.raises(UsageError, match="at most"):
        read_passphrase(file)


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("fifo", ".", "missing", "a\0b"):
        with pytest.raises(EnvironmentFailure):
            read_passphrase(tmp_path / name)


def test_a_lent_passphrase_is_for_our_eyes_and_gone_afterwards():
    with lent(b"open sesame") as file:
        assert read_passphrase(file) == b"open sesame"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        if os.access(_MEMORY, os.W_OK):
            assert file.is_relative_to(_MEMORY)
    assert not file.parent.exists()


def test_a_lent_passphrase_is_gone_after_a_failure():
    with pytest.raises(RuntimeError), lent(b"x") as file:
        raise RuntimeError
    assert not file.parent.exists()


def test_a_source_reads_its_file_once(file):
    file.write_bytes(b"one\n")
    source = from_file_or_prompt(file)
    assert source("PIN") == b"one"
    file.unlink()
    assert source("PIN") == b"one"


def test_a_terminal_is_asked_and_shows_nothing(env, tmp_path):
    code, shown = run_on_terminal(_words(), ["open sesame"], env=env, cwd=tmp_path)
    assert code == 0
    assert f"got {b'open sesame'.hex()}" in shown
    assert "open sesame" not in shown


def test_a_new_passphrase_is_typed_twice(env, tmp_path):
    code, shown = run_on_terminal(_words("twice"), ["one", "one"], env=env, cwd=tmp_path)
    assert code == 0
    assert f"got {b'one'.hex()}" in shown
    code, shown = run_on_terminal(_words("twice"), ["one", "two"], env=env, cwd=tmp_path)
    assert code == UsageError.exit_code
    assert "differently" in shown
    assert "got" not in shown


def test_an_empty_answer_is_refused(env, tmp_path):
    code, shown = run_on_terminal(_words(), [""], env=env, cwd=tmp_path)
    assert code == UsageError.exit_code
    assert "empty" in shown


def test_without_a_terminal_nobody_is_asked(env, tmp_path):
    done = run_without_terminal(_words(), env=env, cwd=tmp_path)
    assert done.returncode == EnvironmentFailure.exit_code
    assert "no terminal" in done.stdout


def test_a_source_without_file_and_terminal_says_what_to_do(monkeypatch):
    monkeypatch.setattr("forebear.signing.passphrase._TERMINAL", Path("/dev/null/none"))
    with pytest.raises(EnvironmentFailure) as refused:
        from_file_or_prompt(None, of="owner key", fix="name a file")("passphrase")
    assert refused.value.fix == "name a file"
