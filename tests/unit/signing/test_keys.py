from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from securesystemslib.signer import CryptoSigner, SSlibKey

from forebear.errors import EnvironmentFailure, FormatError, SignatureError, UsageError
from forebear.signing.keys import (
    create_key,
    default_directory,
    is_encrypted,
    key_files,
    load_public,
    load_signer,
    parse_public,
)

ROLES = ["recorder", "owner"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "config" / "keys"


@pytest.mark.parametrize("passphrase", [None, b"open sesame"])
@pytest.mark.parametrize("role", ROLES)
def test_a_new_key_signs_and_verifies(folder, role, passphrase):
    private, public = create_key(role, folder, passphrase)
    assert (private, public) == key_files(role, folder)
    assert private.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert is_encrypted(private) == (passphrase is not None)
    signer = load_signer(private, passphrase)
    key = load_public(public)
    assert key == signer.public
    assert key.keyid == signer.keyid
    assert key.role == role
    assert public.read_bytes() == key.pem
    key.verify(signer.sign(b"data"), b"data")
    with pytest.raises(SignatureError):
        key.verify(signer.sign(b"data"), b"date")
    with pytest.raises(SignatureError):
        key.verify(b"", b"data")


def test_the_umask_does_not_widen_the_key(folder):
    old = os.umask(0)
    try:
        private, public = create_key("owner", folder, None)
    finally:
        os.umask(old)
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("role", ROLES)
def test_key_id_is_that_of_securesystemslib(folder, role):
    private, public = create_key(role, folder, None)
    raw = serialization.load_pem_private_key(private.read_bytes(), None)
    assert load_public(public).keyid == CryptoSigner(raw).public_key.keyid
    stock = SSlibKey.from_crypto(serialization.load_pem_public_key(public.read_bytes()))
    assert load_public(public).to_securesystemslib() == stock


def test_a_key_is_never_overwritten(folder):
    private, public = create_key("owner", folder, None)
    before = private.read_bytes()
    with pytest.raises(UsageError):
        create_key("owner", folder, None)
    assert private.read_bytes() == before
    private.unlink()
    with pytest.raises(UsageError):
        create_key("owner", folder, None)
    public.unlink()
    private.symlink_to("elsewhere")
    with pytest.raises(UsageError):
        create_key("owner", folder, None)
    assert not (folder / "elsewhere").exists()


def test_an_empty_passphrase_is_refused(folder):
    with pytest.raises(UsageError):
        create_key("owner", folder, b"")


def test_an_open_folder_is_refused(folder):
    folder.mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(EnvironmentFailure) as refused:
        create_key("owner", folder, None)
    assert "chmod 700" in refused.value.fix


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_readable_key_is_refused(folder, mode):
    private, _ = create_key("recorder", folder, None)
    load_signer(private)
    private.chmod(mode)
    with pytest.raises(EnvironmentFailure) as refused:
        load_signer(private)
    assert "chmod 600" in refused.value.fix
    assert refused.value.exit_code == 4


def test_a_foreign_key_is_refused(folder, monkeypatch):
    private, _ = create_key("recorder", folder, None)
    monkeypatch.setattr(os, "geteuid", lambda: private.stat().st_uid + 1)
    with pytest.raises(EnvironmentFailure):
        load_signer(private)


def test_a_linked_key_is_refused(folder):
    private, _ = create_key("recorder", folder, None)
    link = folder / "link.pem"
    link.symlink_to(private)
    with pytest.raises(EnvironmentFailure) as refused:
        load_signer(link)
    assert "symbolic link" in refused.value.what


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("load", [load_signer, load_public, is_encrypted])
def test_what_is_no_file_in_place_of_a_key_neither_hangs_nor_leaks(folder, load):
    folder.mkdir(parents=True)
    os.mkfifo(folder / "fifo", 0o600)
    (folder / "folder").mkdir(mode=0o700)
    before = _open_files()
    for name in ("fifo", "folder", "nul\0", "long" * 100):
        with pytest.raises(EnvironmentFailure):
            load(folder / name)
    assert _open_files() == before


def test_a_missing_key_is_explained(folder):
    with pytest.raises(EnvironmentFailure) as refused:
        load_signer(folder / "owner.pem")
    assert "forebear keys new" in refused.value.fix
    with pytest.raises(EnvironmentFailure):
        load_public(folder / "owner.pub")


def test_missing_and_wrong_passphrases_are_told_apart(folder):
    private, _ = create_key("owner", folder, b"open sesame")
    with pytest.raises(EnvironmentFailure, match="encrypted"):
        load_signer(private)
    with pytest.raises(EnvironmentFailure, match="does not open") as refused:
        load_signer(private, b"open barley")
    assert "barley" not in str(refused.value)


def test_a_passphrase_for_a_clear_key_is_not_needed(folder):
    private, _ = create_key("owner", folder, None)
    assert load_signer(private, b"not needed").keyid == load_signer(private).keyid


OTHER_KEYS = [
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP384R1()),
    ec.generate_private_key(ec.SECP256K1()),
]


@pytest.mark.parametrize("key", OTHER_KEYS)
def test_other_kinds_of_keys_are_refused(tmp_path, key):
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(FormatError):
        parse_public(public, where="x.pub")
    private = tmp_path / "x.pem"
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(FormatError):
        load_signer(private)


@pytest.mark.parametrize("data", [b"", b"\xff", b"-----BEGIN PUBLIC KEY-----\n", b"{}"])
def test_other_bytes_are_no_key(tmp_path, data):
    with pytest.raises(FormatError) as refused:
        parse_public(data, where="x.pub")
    assert refused.value.where == "x.pub"
    private = tmp_path / "x.pem"
    private.touch(mode=0o600)
    private.write_bytes(data)
    with pytest.raises(FormatError):
        load_signer(private)


def test_a_private_key_is_no_public_key(folder):
    private, _ = create_key("owner", folder, None)
    with pytest.raises(FormatError):
        load_public(private)


def test_nothing_printable_shows_the_private_key(folder):
    signer = load_signer(create_key("recorder", folder, None)[0])
    assert "PrivateKey" not in repr(signer)
    assert isinstance(signer._key, ed25519.Ed25519PrivateKey)


def test_default_folder_follows_xdg(monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert default_directory() == Path("/somewhere/forebear/keys")
    monkeypatch.setenv("HOME", "/home/me")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert default_directory() == Path("/home/me/.config/forebear/keys")
