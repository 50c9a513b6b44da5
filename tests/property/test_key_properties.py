"""Whatever bytes are given as a key, and whatever text names one, end in a key or in our error."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME

from forebear.errors import ForebearError
from forebear.signing.keys import create_key, is_encrypted, load_public, load_signer
from forebear.signing.passphrase import read_passphrase
from forebear.signing.token import SCHEMES, fetch_public, open_key

LIMITS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _pem(key, passphrase=None) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def _public(key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


KEYS = [
    ed25519.Ed25519PrivateKey.generate(),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP521R1()),
    ed448.Ed448PrivateKey.generate(),
    x25519.X25519PrivateKey.generate(),
    rsa.generate_private_key(65537, 1024),  # noqa: S505  # weak on purpose: it must be refused
    dsa.generate_private_key(1024),  # noqa: S505  # as above
]
PEMS = [*map(_pem, KEYS), *map(_public, KEYS), _pem(KEYS[1], b"secret")]


@st.composite
def key_bytes(draw) -> bytes:
    """Anything, a PEM frame around anything, or a real key with a changed stretch."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    pem = draw(st.sampled_from(PEMS))
    if draw(st.booleans()):
        first, _, rest = pem.partition(b"\n")
        return first + b"\n" + draw(st.binary(max_size=120)) + rest[-40:]
    place = draw(st.integers(0, len(pem)))
    width = draw(st.integers(0, 12))
    return pem[:place] + draw(st.binary(max_size=12)) + pem[place + width :]


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "key"
    file.touch(mode=0o600)
    return file


@given(data=key_bytes(), passphrase=st.none() | st.binary(max_size=8))
@LIMITS
def test_any_bytes_as_a_private_key_end_in_a_key_or_our_error(file, data, passphrase):
    file.write_bytes(data)
    try:
        is_encrypted(file)
        signer = load_signer(file, passphrase)
    except ForebearError:
        return
    signer.public.verify(signer.sign(b"x"), b"x")


@given(data=key_bytes())
@LIMITS
def test_any_bytes_as_a_public_key_end_in_a_key_or_our_error(file, data):
    file.write_bytes(data)
    try:
        key = load_public(file)
    except ForebearError:
        return
    assert len(key.keyid) == 64


@given(data=st.binary(max_size=64))
@LIMITS
def test_any_bytes_as_a_passphrase_end_in_one_line_or_our_error(file, data):
    file.write_bytes(data)
    try:
        found = read_passphrase(file)
    except ForebearError:
        return
    assert found
    assert b"\n" not in found


class Odd:
    """A driver that fails in its own way, whatever is asked."""

    @staticmethod
    def from_priv_key_uri(*args):
        raise LookupError(args)

    import_ = from_priv_key_uri


@given(
    scheme=st.sampled_from([*SCHEMES, "gnupg", "pkcs11", "", "http", "FILE"]),
    rest=st.text(max_size=40),
    public=key_bytes(),
)
@LIMITS
def test_any_text_as_a_key_ends_in_a_key_or_our_error(
    tmp_path, file, monkeypatch, scheme, rest, public
):
    for name in ("awskms", "gcpkms", "azurekms", "hv"):  # no driver may open a connection
        monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, name, Odd)
    monkeypatch.delenv("PYKCS11LIB", raising=False)
    monkeypatch.chdir(tmp_path)
    file.write_bytes(public)
    reference = f"{scheme}:{rest}" if scheme else rest
    for call in (
        lambda: open_key(reference, public=file, secret=lambda _: b"secret").sign(b"x"),
        lambda: fetch_public(reference, secret=lambda _: b"secret"),
    ):
        with pytest.raises(ForebearError):
            call()


def test_a_real_key_passes_where_the_odd_ones_fail(tmp_path):
    private, public = create_key("owner", tmp_path / "keys", None)
    signer = open_key(str(private), public=public, secret=lambda _: b"")
    load_public(public).verify(signer.sign(b"x"), b"x")
