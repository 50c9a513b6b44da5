from __future__ import annotations

from dataclasses import replace

import pytest
from in_toto.exceptions import SignatureVerificationError
from in_toto.models.metadata import Metadata

from forebear.errors import FormatError, SignatureError
from forebear.formats.dsse import parse_envelope
from forebear.formats.link import PAYLOAD_TYPE, Link, parse_link, render_link
from forebear.signing.keys import create_key, load_signer
from forebear.signing.signer import sign_envelope, verify_envelope

LINK = Link("cpt", ("python", "é"), {"a": "0" * 64}, {"tree:b": "1" * 64}, {"return-value": 0})


@pytest.fixture(params=["recorder", "owner"])
def signer(request, tmp_path):
    return load_signer(create_key(request.param, tmp_path / "keys", None)[0])


def test_a_signed_envelope_verifies(signer):
    envelope = parse_envelope(sign_envelope(signer, b"payload", "a/b"), where="x")
    verify_envelope(envelope, signer.public)


@pytest.mark.parametrize(
    "change",
    [{"payload": b"payloaD"}, {"payload_type": "a/c"}, {"keyid": "0" * 64}, {"sig": b"\x00" * 64}],
)
def test_a_changed_envelope_does_not(signer, change):
    envelope = parse_envelope(sign_envelope(signer, b"payload", "a/b"), where="x")
    with pytest.raises(SignatureError):
        verify_envelope(replace(envelope, **change), signer.public)


def test_another_key_under_this_key_id_does_not_verify(signer, tmp_path):
    role = signer.public.role
    other = load_signer(create_key(role, tmp_path / "other", None)[0])
    envelope = parse_envelope(sign_envelope(other, b"payload", "a/b"), where="x")
    with pytest.raises(SignatureError):
        verify_envelope(envelope, signer.public)
    with pytest.raises(SignatureError):
        verify_envelope(replace(envelope, keyid=signer.keyid), signer.public)


def test_a_payload_type_that_is_none_is_not_signed(signer):
    with pytest.raises(FormatError):
        sign_envelope(signer, b"payload", "no media type")


def test_stock_in_toto_reads_and_verifies_our_link(signer, tmp_path):
    file = tmp_path / f"cpt.{signer.keyid:.8}.link"
    file.write_bytes(sign_envelope(signer, render_link(LINK), PAYLOAD_TYPE))
    metadata = Metadata.load(str(file))
    key = signer.public.to_securesystemslib()
    metadata.verify_signature({"keyid": key.keyid, **key.to_dict()})
    stock = metadata.get_payload()
    assert stock.name == "cpt"
    assert stock.materials == {"a": {"sha256": "0" * 64}}
    assert parse_link(metadata.payload, where="x") == LINK


def test_stock_in_toto_refuses_a_changed_link(signer, tmp_path):
    file = tmp_path / "cpt.link"
    file.write_bytes(sign_envelope(signer, render_link(LINK), PAYLOAD_TYPE))
    metadata = Metadata.load(str(file))
    metadata.payload = metadata.payload.replace(b"cpt", b"sft")
    key = signer.public.to_securesystemslib()
    with pytest.raises(SignatureVerificationError):
        metadata.verify_signature({"keyid": key.keyid, **key.to_dict()})
