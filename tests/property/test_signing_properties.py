"""The law of signatures: no byte of an envelope can be changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.errors import FormatError, SignatureError
from forebear.formats.dsse import parse_envelope
from forebear.formats.link import PAYLOAD_TYPE, Link, render_link
from forebear.signing.keys import create_key, load_signer
from forebear.signing.signer import sign_envelope, verify_envelope

LINK = Link("cpt", ("python",), {"data/a": "0" * 64}, {}, {"return-value": 0})


@pytest.fixture(scope="module", params=["recorder", "owner"])
def signed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys") / request.param
    signer = load_signer(create_key(request.param, folder, None)[0])
    return sign_envelope(signer, render_link(LINK), PAYLOAD_TYPE), signer.public


def test_the_unchanged_envelope_verifies(signed):
    data, key = signed
    verify_envelope(parse_envelope(data, where="x"), key)


@pytest.mark.parametrize("bit", [0, 5])
def test_no_flip_of_one_bit_verifies(signed, bit):
    """ "A random byte flip must never pass" (style page): here every byte in turn.

    Bit 0 gives a neighbour, bit 5 the other case of a letter.
    """
    data, key = signed
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        with pytest.raises((FormatError, SignatureError)):
            verify_envelope(parse_envelope(bytes(changed), where="x"), key)


@given(data=st.data())
@settings(max_examples=300)
def test_no_mutation_verifies(signed, data):
    original, key = signed
    place = data.draw(st.integers(0, len(original)))
    width = data.draw(st.integers(0, 8))
    changed = original[:place] + data.draw(st.binary(max_size=8)) + original[place + width :]
    try:
        verify_envelope(parse_envelope(changed, where="x"), key)
    except (FormatError, SignatureError):
        return
    assert changed == original
