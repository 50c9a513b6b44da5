"""Rotation: no key is lost, whenever it is killed, and what old keys signed still counts."""

from __future__ import annotations

import fcntl
import os

import pytest

from forebear.errors import EnvironmentFailure, UsageError
from forebear.signing import keyring
from forebear.signing.keyring import describe, load_recorders, retired, rotate_key
from forebear.signing.keys import create_key, key_files, load_public, load_signer

ROLES = ["recorder", "owner"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing that we wrote handles it."""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "keys"


@pytest.mark.parametrize("role", ROLES)
def test_the_new_key_signs_and_the_old_pair_is_kept(folder, role):
    private, public = create_key(role, folder, None)
    old_private, old_public = private.read_bytes(), public.read_bytes()
    old = load_public(public)
    done = rotate_key(role, folder, None)
    assert (done.old, done.new) == (old, load_public(public))
    assert done.old != done.new
    assert load_signer(private).public == done.new
    assert done.new.role == role
    assert [file.name for file in done.retired] == [
        f"{role}.{old.keyid[:8]}.pem", f"{role}.{old.keyid[:8]}.pub",
    ]  # fmt: skip
    assert done.retired[0].read_bytes() == old_private
    assert done.retired[1].read_bytes() == old_public
    assert load_signer(done.retired[0]).public == old
    assert {file.name for file in folder.iterdir()} == {
        private.name, public.name, done.retired[0].name, done.retired[1].name,
    }  # fmt: skip
    assert private.stat().st_mode & 0o777 == done.retired[0].stat().st_mode & 0o777 == 0o600


def test_many_rotations_keep_every_key(folder):
    create_key("recorder", folder, None)
    seen = {load_public(folder / "recorder.pub").keyid}
    for _ in range(4):
        seen.add(rotate_key("recorder", folder, None).new.keyid)
    assert {key.keyid for key in load_recorders(folder, folder)} == seen
    assert len(seen) == 5
    assert {row.keyid for row in retired("recorder", folder)} < seen
    assert retired("owner", folder) == ()


def test_an_encrypted_key_is_replaced_unopened(folder):
    private, _ = create_key("owner", folder, b"old")
    done = rotate_key("owner", folder, b"new")
    assert load_signer(private, b"new").public == done.new
    assert load_signer(done.retired[0], b"old").public == done.old
    assert describe("owner", folder).state == "locked"


STEPS = ["_keep", "_keep", "write_pair", "_adopt", "_adopt"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_killed_rotation_loses_nothing_and_can_be_repeated(folder, monkeypatch, step, after):
    private, public = create_key("recorder", folder, None)
    old = load_public(public)
    count = iter(range(100))

    def killing(real):
        def call(*args, **kwargs):
            now = next(count) == step
            if now and not after:
                raise Killed
            real(*args, **kwargs)
            if now:
                raise Killed

        return call

    with monkeypatch.context() as patch:
        for name in set(STEPS):
            patch.setattr(keyring, name, killing(getattr(keyring, name)))
        with pytest.raises(Killed):
            rotate_key("recorder", folder, None)
    known = load_recorders(folder, folder)
    assert old in known
    assert load_signer(private).public in known  # whatever signs now is known
    done = rotate_key("recorder", folder, None)
    assert load_signer(private).public == load_public(public) == done.new
    assert {old, done.new} <= set(load_recorders(folder, folder))
    assert not [file for file in folder.iterdir() if file.name.startswith(".")]


def test_a_pair_killed_between_its_files_is_undone(folder):
    create_key("owner", folder, None)
    old = load_public(folder / "owner.pub")
    (folder / ".owner.pub.new").write_bytes(b"half")
    assert rotate_key("owner", folder, None).old == old


def test_only_one_command_changes_keys(folder):
    create_key("owner", folder, None)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentFailure, match="another command"):
            rotate_key("owner", folder, None)
    finally:
        os.close(handle)
    rotate_key("owner", folder, None)


def test_a_key_in_a_token_is_not_replaced_here(folder):
    create_key("owner", folder, None)[0].unlink()
    before = (folder / "owner.pub").read_bytes()
    assert describe("owner", folder).state == "public"
    with pytest.raises(UsageError, match="no owner key in a file"):
        rotate_key("owner", folder, None)
    assert (folder / "owner.pub").read_bytes() == before


def test_halves_that_do_not_belong_together_are_refused(folder, tmp_path):
    create_key("owner", folder, None)
    other = create_key("owner", tmp_path / "other", None)[1].read_bytes()
    (folder / "owner.pub").write_bytes(other)
    with pytest.raises(EnvironmentFailure, match="private half"):
        rotate_key("owner", folder, None)


@pytest.mark.parametrize("fault", ["open folder", "open key", "linked key", "empty passphrase"])
def test_a_careless_place_is_refused_and_nothing_changes(folder, fault):
    private, _ = create_key("owner", folder, None)
    keyid = load_public(folder / "owner.pub").keyid
    if fault == "open folder":
        folder.chmod(0o755)
    elif fault == "open key":
        private.chmod(0o644)
    elif fault == "linked key":
        private.rename(folder / "elsewhere.pem")
        private.symlink_to("elsewhere.pem")
    with pytest.raises((EnvironmentFailure, UsageError)):
        rotate_key("owner", folder, b"" if fault == "empty passphrase" else None)
    assert load_public(folder / "owner.pub").keyid == keyid


def test_what_lies_in_the_place_of_the_kept_pair_is_not_overwritten(folder):
    create_key("owner", folder, None)
    keyid = load_public(folder / "owner.pub").keyid
    other = folder / f"owner.{keyid[:8]}.pem"
    other.write_bytes(b"mine")
    with pytest.raises(UsageError, match="another file"):
        rotate_key("owner", folder, None)
    assert other.read_bytes() == b"mine"
    assert load_public(folder / "owner.pub").keyid == keyid


def test_faults_are_states_when_keys_are_described(folder):
    assert describe("owner", folder).state == "missing"
    private, public = create_key("owner", folder, None)
    assert describe("owner", folder).state == "ready"
    private.chmod(0o644)
    row = describe("owner", folder)
    assert row.state == "refused"
    assert "others may read" in row.reason
    private.chmod(0o600)
    public.write_bytes(b"no key")
    assert describe("owner", folder).state == "refused"


def test_recorders_are_those_in_use_replaced_and_trusted(folder, tmp_path):
    create_key("recorder", folder, None)
    create_key("owner", folder, None)
    done = rotate_key("recorder", folder, None)
    rotate_key("owner", folder, None)
    create_key("recorder", tmp_path / "ci", None)
    trusted = tmp_path / "root/trust/recorders"
    trusted.mkdir(parents=True)
    (trusted / "ci.pub").write_bytes((tmp_path / "ci/recorder.pub").read_bytes())
    ci = load_public(trusted / "ci.pub")
    assert set(load_recorders(tmp_path / "root", folder)) == {done.old, done.new, ci}
    done.retired[1].unlink()
    assert set(load_recorders(tmp_path / "root", folder)) == {done.new, ci}
    assert key_files("recorder", folder)[1].exists()
