"""A link moves to the new recorder key only while it says what is so; nothing is lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from forebear.errors import (
    EnvironmentFailure,
    FormatError,
    PolicyError,
    RecordError,
    SignatureError,
)
from forebear.recording.resign import resign
from forebear.signing.keyring import load_recorders, rotate_key
from forebear.signing.keys import create_key, load_public, load_signer
from forebear.signing.signer import sign_envelope, verify_envelope
from tests.support.workspace import Workspace, copy_template


@pytest.fixture(scope="session")
def recorded(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The throwaway repository after a run, its recorder key replaced since."""
    folder = tmp_path_factory.mktemp("recorded") / "w"
    workspace = copy_template(template, folder)
    workspace.repro()
    rotate_key("recorder", workspace.keys, None)
    return folder


@pytest.fixture
def rotated(recorded: Path, tmp_path: Path) -> Workspace:
    return copy_template(recorded, tmp_path / "w")


def _resign(workspace: Workspace, stage: str = "make"):
    recorders = load_recorders(workspace.root, workspace.keys)
    return resign(stage, root=workspace.root, keys=workspace.keys, recorders=recorders)


def _link(workspace: Workspace) -> Path:
    return workspace.root / "links/make.link"


def _names(workspace: Workspace) -> list[str]:
    return sorted(file.name for file in _link(workspace).parent.iterdir())


def _edit(workspace: Workspace, path: str, text: str) -> None:
    """As a person would: the old file goes, the cache is not written into."""
    (workspace.root / path).unlink()
    workspace.write(path, text)


def test_the_payload_stays_and_the_present_key_signs(rotated):
    before = rotated.envelope("make")
    done = _resign(rotated)
    after = rotated.envelope("make")
    new = load_public(rotated.keys / "recorder.pub")
    assert (done.link, done.old, done.new) == ("links/make.link", before.keyid, new.keyid)
    assert before.keyid != after.keyid
    assert after.payload == before.payload
    verify_envelope(after, new)
    assert _names(rotated) == [".gitignore", "make.link", "use.link"]


def test_a_link_of_the_present_key_is_left_alone(rotated):
    _resign(rotated)
    before = _link(rotated).stat()
    done = _resign(rotated)
    assert done.old == done.new
    assert _link(rotated).stat().st_mtime_ns == before.st_mtime_ns
    assert _link(rotated).stat().st_ino == before.st_ino


@pytest.mark.parametrize("kind", ["copy", "hardlink", "symlink"])
def test_the_cached_old_link_is_never_written_into(rotated, kind):
    assert rotated.run("dvc", "config", "cache.type", kind).returncode == 0
    assert rotated.run("dvc", "checkout", "--relink").returncode == 0
    link = _link(rotated)
    assert link.is_symlink() == (kind == "symlink")
    assert (link.stat().st_nlink > 1) == (kind == "hardlink")
    cached = {
        file: file.read_bytes()
        for file in (rotated.root / ".dvc/cache").rglob("*")
        if file.is_file()
    }
    _resign(rotated)
    assert {file: file.read_bytes() for file in cached} == cached
    assert not link.is_symlink()
    assert link.stat().st_nlink == 1


def test_dvc_enters_the_new_link_and_is_content(rotated):
    done = rotated.run("forebear", "record", "make", "--resign")
    assert done.returncode == 0, done.stderr
    assert "dvc commit --force make" in done.stderr
    assert "links/make.link" in rotated.run("dvc", "status").stdout
    entered = rotated.run("dvc", "commit", "--force", "make")
    assert entered.returncode == 0, entered.stderr
    assert "up to date" in rotated.run("dvc", "status").stdout
    again = rotated.run("dvc", "repro")
    assert "didn't change, skipping" in again.stdout
    _link(rotated).unlink()
    assert rotated.run("dvc", "checkout").returncode == 0
    assert rotated.envelope("make").keyid == load_public(rotated.keys / "recorder.pub").keyid


def test_the_command_speaks_json_and_takes_no_command(rotated):
    done = rotated.run("forebear", "record", "make", "--resign", "--json")
    assert '"schema": "forebear.resign/v1"' in done.stdout
    assert rotated.run("forebear", "record", "make", "--resign", "--", "true").returncode == 2


CHANGES = {
    "an out": lambda w: _edit(w, "out/tree/x.txt", "other"),
    "an out gone": lambda w: (w.root / "out/tree/x.txt").unlink(),
    "an out more": lambda w: w.write("out/tree/more.txt", ""),
    "an uncached out": lambda w: w.write("metrics.json", "{}"),
    "a dep": lambda w: w.write("make.py", w.read("make.py") + "#\n"),
    "a param": lambda w: w.write("params.yaml", w.read("params.yaml").replace("hello", "bye")),
    "the command": lambda w: w.write(
        "dvc.yaml", w.read("dvc.yaml").replace("make.py out/tree", "make.py out/tree -v")
    ),
    "a dep more": lambda w: w.write(
        "dvc.yaml",
        w.read("dvc.yaml").replace("    - make.py\n", "    - make.py\n    - params.yaml\n"),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_no_longer_so_is_not_signed_anew(rotated, what):
    before = _link(rotated).read_bytes()
    CHANGES[what](rotated)
    with pytest.raises(RecordError) as refused:
        _resign(rotated)
    assert _link(rotated).read_bytes() == before
    assert refused.value.exit_code == 1
    done = rotated.run("forebear", "record", "make", "--resign")
    assert done.returncode == 1


def test_the_bytes_count_and_not_the_digest_cache(rotated):
    file = rotated.root / "out/tree/x.txt"
    state = file.stat()
    text = file.read_bytes()
    file.unlink()
    file.write_bytes(text.swapcase())
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(RecordError, match=r"out/tree/x\.txt is not what the stage wrote"):
        _resign(rotated)


def test_a_stranger_s_link_is_not_adopted(rotated, tmp_path):
    stranger = load_signer(create_key("recorder", tmp_path / "stranger", None)[0])
    envelope = rotated.envelope("make")
    _link(rotated).unlink()
    _link(rotated).write_bytes(sign_envelope(stranger, envelope.payload, envelope.payload_type))
    with pytest.raises(PolicyError, match="no known recorder"):
        _resign(rotated)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: data.replace(b'"sig":"', b'"sig":"AAAA'), SignatureError),
        (lambda data: data[:-20], FormatError),
        (lambda data: data[:0], FormatError),
    ],
)
def test_a_damaged_link_is_not_adopted(rotated, change, error):
    data = _link(rotated).read_bytes()
    _link(rotated).unlink()
    _link(rotated).write_bytes(change(data))
    with pytest.raises(error):
        _resign(rotated)
    assert _link(rotated).read_bytes() == change(data)


def test_the_link_of_another_stage_is_not_adopted(rotated):
    _link(rotated).unlink()
    _link(rotated).write_bytes((rotated.root / "links/use.link").read_bytes())
    with pytest.raises(RecordError, match="stage 'use'"):
        _resign(rotated)


def test_without_link_or_key_nothing_happens(rotated):
    before = _link(rotated).read_bytes()
    recorders = load_recorders(rotated.root, rotated.keys)
    (rotated.keys / "recorder.pem").unlink()
    with pytest.raises(EnvironmentFailure):
        resign("make", root=rotated.root, keys=rotated.keys, recorders=recorders)
    assert _link(rotated).read_bytes() == before
    _link(rotated).unlink()
    with pytest.raises(EnvironmentFailure, match="no link"):
        resign("make", root=rotated.root, keys=rotated.keys, recorders=recorders)


def test_a_failing_write_leaves_the_old_link(rotated, monkeypatch):
    before = _link(rotated).read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFailure, match="old link stays"):
        _resign(rotated)
    monkeypatch.undo()
    assert _link(rotated).read_bytes() == before
    assert _names(rotated) == [".gitignore", "make.link", "use.link"]


def test_the_planted_partial_file_is_not_written_through(rotated, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (_link(rotated).parent / ".make.link.partial").symlink_to(victim)
    _resign(rotated)
    assert victim.read_text() == "mine"
    assert stat.S_ISREG(_link(rotated).lstat().st_mode)
