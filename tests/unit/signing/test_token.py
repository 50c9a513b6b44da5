"""Keys by reference: a real token in software, and drivers that misbehave."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner

from forebear.errors import (
    EnvironmentFailure,
    ForebearError,
    FormatError,
    MissingExtra,
    SignatureError,
    UsageError,
)
from forebear.formats.dsse import parse_envelope
from forebear.formats.link import PAYLOAD_TYPE
from forebear.signing.keys import create_key, load_public, load_signer, read_private
from forebear.signing.passphrase import from_file_or_prompt
from forebear.signing.signer import sign_envelope, verify_envelope
from forebear.signing.token import (
    EXTRAS,
    fetch_public,
    is_remote,
    needs_secret,
    open_key,
    require_at_hand,
    scheme_of,
)
from tests.support.softtoken import shared_token


@pytest.fixture(scope="module")
def token():
    token = shared_token()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in token.env.items():
            patch.setenv(name, value)
        yield token


@pytest.fixture
def keys(tmp_path):
    for role in ("recorder", "owner"):
        create_key(role, tmp_path / "keys", None)
    return tmp_path / "keys"


def no_secret(name):
    raise AssertionError(f"asked for the {name}")


def test_a_token_signs_an_envelope_that_its_public_file_verifies(token):
    signer = open_key(token.uri, public=token.public, secret=from_file_or_prompt(token.pin))
    require_at_hand(signer)
    data = sign_envelope(signer, b"{}\n", PAYLOAD_TYPE)
    envelope = parse_envelope(data, where="x")
    verify_envelope(envelope, load_public(token.public))
    assert envelope.keyid == signer.keyid == load_public(token.public).keyid
    with pytest.raises(SignatureError):
        signer.public.verify(envelope.sig, b"{}\n")


def test_a_token_tells_its_public_key(token):
    key = fetch_public(token.uri, secret=from_file_or_prompt(token.pin))
    assert key == load_public(token.public)
    assert key.pem == token.public.read_bytes()


def test_a_token_with_another_key_than_the_public_file_is_refused(token, keys):
    signer = open_key(token.uri, public=keys / "owner.pub",
                      secret=from_file_or_prompt(token.pin))  # fmt: skip
    with pytest.raises(EnvironmentFailure, match="another private key"):
        signer.sign(b"data")


def test_a_wrong_pin_is_tried_once_and_not_shown(token, tmp_path):
    tried = []

    def secret(name):
        tried.append(name)
        return b"99995555"

    signer = open_key(token.uri, public=token.public, secret=secret)
    with pytest.raises(EnvironmentFailure) as refused:
        signer.sign(b"data")
    assert tried == ["PIN"]
    assert "99995555" not in str(refused.value)


@pytest.mark.parametrize("uri", ["hsm:9?label=forebear+test", "hsm:2?label=nowhere"])
def test_a_missing_key_or_token_is_explained(token, uri):
    signer = open_key(uri, public=token.public, secret=from_file_or_prompt(token.pin))
    with pytest.raises(EnvironmentFailure) as refused:
        signer.sign(b"data")
    assert refused.value.where == uri


def test_a_token_without_module_is_explained(token, monkeypatch):
    monkeypatch.delenv("PYKCS11LIB")
    signer = open_key(token.uri, public=token.public, secret=from_file_or_prompt(token.pin))
    with pytest.raises(EnvironmentFailure) as refused:
        require_at_hand(signer)
    assert "PYKCS11LIB" in refused.value.fix


def test_an_ed25519_key_is_none_of_a_token(token, keys):
    with pytest.raises(EnvironmentFailure, match="cannot be opened"):
        open_key(token.uri, public=keys / "recorder.pub", secret=no_secret)


@pytest.mark.parametrize(
    "uri", ["hsm:2?label=x&pin=4711", "hsm:2?pin-value=4711", "hsm:two", "hsm:-1", "hsm:2/3",
            "hsm:9999999999"],
)  # fmt: skip
def test_a_pin_or_nonsense_in_a_token_uri_is_refused(keys, uri):
    with pytest.raises(UsageError) as refused:
        open_key(uri, public=keys / "owner.pub", secret=no_secret)
    assert "4711" not in str(refused.value)
    with pytest.raises(UsageError):
        fetch_public(uri, secret=no_secret)


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_a_file_is_opened_by_path_and_by_uri(keys, prefix):
    file = keys / "owner.pem"
    signer = open_key(f"{prefix}{file}", public=keys / "none", secret=no_secret)
    assert signer.public == load_public(keys / "owner.pub")
    file.chmod(0o644)
    with pytest.raises(EnvironmentFailure, match="others may read"):
        open_key(f"{prefix}{file}", public=keys / "none", secret=no_secret)


def test_an_encrypted_file_asks_for_its_passphrase(tmp_path):
    private, _ = create_key("owner", tmp_path / "keys", b"open sesame")
    assert needs_secret(str(private))
    asked = []

    def secret(name):
        asked.append(name)
        return b"open sesame"

    signer = open_key(str(private), public=tmp_path, secret=secret)
    assert asked == ["passphrase"]
    assert signer.public == load_public(private.with_suffix(".pub"))


def test_which_references_need_a_secret(keys):
    assert not needs_secret(str(keys / "owner.pem"))
    assert needs_secret("hsm:2")
    assert not needs_secret("awskms:alias/x")


@pytest.mark.parametrize("text", ["gnupg:x", "file2:/x", "HSM:2", "tkey:?digest=1", "http://x/y"])
def test_other_schemes_are_refused(text):
    with pytest.raises(UsageError, match="scheme"):
        scheme_of(text)


@pytest.mark.parametrize("text", ["./a:b", "/keys/a:b", "owner.pem", "a:b", "", ":x", "ключ:x"])
def test_other_texts_are_paths(text):
    assert scheme_of(text) is None
    assert not is_remote(text)


# ── services, played by a key in this process ──────────────────────────────────────────────────


class Service:
    """A stock signer for ``awskms:`` with a key in this process; the URI says how it fails."""

    errors = (ValueError("no"), OSError(5, "no"), RuntimeError("\ud800"), KeyError("x"))

    def __init__(self, uri, key):
        self.uri, self.public_key = uri, key

    @classmethod
    def from_priv_key_uri(cls, uri, public_key, _handler):
        if uri.startswith("awskms:open/"):
            raise cls.errors[int(uri[-1])]
        if uri == "awskms:missing":
            raise UnsupportedLibraryError("boto3")
        return cls(uri, public_key)

    @classmethod
    def import_(cls, rest):
        if rest == "fail":
            raise RuntimeError
        if rest == "rsa":
            return "", CryptoSigner.generate_rsa().public_key
        if rest == "bytes":
            return "", SimpleNamespace(keyval={"public": "zz"}, keytype="ed25519")
        if rest == "none":
            return "", SimpleNamespace(keyval={}, keytype="ecdsa")
        make = CryptoSigner.generate_ed25519 if rest == "ed" else CryptoSigner.generate_ecdsa
        return "", make().public_key

    def sign(self, payload):
        if self.uri.startswith("awskms:sign/"):
            raise self.errors[int(self.uri[-1])]
        if self.uri == "awskms:nonsense":
            return SimpleNamespace(signature="zz")
        key = ec.generate_private_key(ec.SECP256R1()) if self.uri == "awskms:other" else self.key
        return CryptoSigner(key).sign(payload)


@pytest.fixture
def service(keys, monkeypatch):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "awskms", Service)
    key = load_pem_private_key(read_private(keys / "owner.pem"), None)
    monkeypatch.setattr(Service, "key", key, raising=False)
    return lambda uri: open_key(uri, public=keys / "owner.pub", secret=no_secret)


def test_a_service_signs(service, keys):
    signer = service("awskms:alias/release")
    load_public(keys / "owner.pub").verify(signer.sign(b"data"), b"data")


@pytest.mark.parametrize("when", ["open", "sign"])
@pytest.mark.parametrize("number", range(len(Service.errors)))
def test_whatever_a_driver_raises_becomes_ours(service, when, number):
    with pytest.raises(EnvironmentFailure) as refused:
        service(f"awskms:{when}/{number}").sign(b"data")
    assert refused.value.__cause__ is Service.errors[number]


@pytest.mark.parametrize("uri", ["awskms:other", "awskms:nonsense"])
def test_a_signature_of_a_service_is_verified_before_it_is_used(service, uri):
    with pytest.raises(EnvironmentFailure):
        service(uri).sign(b"data")


def test_a_missing_driver_names_its_extra(service):
    with pytest.raises(MissingExtra) as refused:
        service("awskms:missing")
    assert "forebear[awskms]" in refused.value.fix
    assert set(EXTRAS) == {"hsm", "awskms", "gcpkms", "azurekms", "hv"}


@pytest.mark.parametrize(("rest", "role"), [("ed", "recorder"), ("p256", "owner")])
def test_a_service_tells_its_public_key(service, rest, role):
    assert fetch_public(f"awskms:{rest}", secret=no_secret).role == role


@pytest.mark.parametrize("rest", ["rsa", "bytes", "none", "fail"])
def test_no_public_key_of_ours_is_refused(service, rest):
    expected = EnvironmentFailure if rest == "fail" else FormatError
    with pytest.raises(expected):
        fetch_public(f"awskms:{rest}", secret=no_secret)


@pytest.mark.parametrize("uri", ["azurekms://x", "file:/x", "/x"])
def test_what_cannot_tell_its_public_key_says_so(uri):
    with pytest.raises(UsageError, match="cannot tell"):
        fetch_public(uri, secret=no_secret)


def test_a_missing_public_file_is_explained(service, keys):
    (keys / "owner.pub").unlink()
    with pytest.raises(EnvironmentFailure):
        service("awskms:x")


def test_nothing_printable_shows_the_driver(service, keys):
    assert "Service" not in repr(service("awskms:x"))
    assert load_signer(keys / "owner.pem").public.keyid[:8] in repr(service("awskms:x"))


def test_a_secret_that_is_no_text_is_refused(monkeypatch, keys):
    class Asking(Service):
        @classmethod
        def from_priv_key_uri(cls, _uri, _public_key, handler):
            handler("pin")

    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "hv", Asking)
    with pytest.raises(ForebearError):
        open_key("hv:x/1", public=keys / "owner.pub", secret=lambda _: b"\xff")
