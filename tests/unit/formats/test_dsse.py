from __future__ import annotations

import base64
import json

import pytest

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.formats.dsse import Envelope, pae, parse_envelope, render_envelope

ENVELOPE = Envelope(b"hello world", "http://example.com/HelloWorld", "ab" * 32, b"\x01\x02")


def altered(**changes):
    value = json.loads(render_envelope(ENVELOPE)) | changes
    return strictjson.dumps(value)


def test_pae_is_that_of_the_specification():
    # Source: DSSE v1, protocol.md, "Test Vectors".
    assert pae(ENVELOPE.payload_type, ENVELOPE.payload) == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_envelope_is_read_back():
    assert parse_envelope(render_envelope(ENVELOPE), where="x.link") == ENVELOPE


def test_unchanged_rebuild_passes():
    assert parse_envelope(altered(), where="x.link") == ENVELOPE


SIGNATURE = {"keyid": "ab" * 32, "sig": "AQI="}


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"signatures": []},
        {"signatures": [SIGNATURE, SIGNATURE]},
        {"signatures": {}},
        {"signatures": [1]},
        {"signatures": [SIGNATURE | {"cert": ""}]},
        {"signatures": [{"sig": "AQI="}]},
        {"signatures": [SIGNATURE | {"sig": ""}]},
        {"signatures": [SIGNATURE | {"sig": 5}]},
        {"signatures": [SIGNATURE | {"keyid": "AB" * 32}]},
        {"signatures": [SIGNATURE | {"keyid": 5}]},
        {"signatures": [SIGNATURE | {"keyid": "ab" * 32 + "\n"}]},
        {"payloadType": ""},
        {"payloadType": "a b"},
        {"payloadType": None},
        {"payload": None},
        {"payload": "aGVsbG8gd29ybGQ"},
        {"payload": "aGVsbG8gd29ybGR="},
        {"payload": " aGVsbG8gd29ybGQ="},
        {"payload": "aGVs\nbG8gd29ybGQ="},
        {"payload": "aGVsbG8gd29ybGQ=="},
        {"payload": "aGVsbG8gd29ybGQ=junk"},
        {"payload": "aGVsbG8gd29y-_Q="},
        {"payload": "é"},
    ],
)
def test_malformed_envelopes_are_refused(changes):
    with pytest.raises(FormatError) as refused:
        parse_envelope(altered(**changes), where="x.link")
    assert refused.value.where.startswith("x.link")


@pytest.mark.parametrize("text", [b"[]\n", b"null\n", b'{"payload":"","payloadType":"x"}\n'])
def test_other_values_are_refused(text):
    with pytest.raises(FormatError):
        parse_envelope(text, where="x.link")


def test_a_reserialised_envelope_is_refused():
    value = json.loads(render_envelope(ENVELOPE))
    with pytest.raises(FormatError, match="canonical"):
        parse_envelope(json.dumps(value, indent=1).encode(), where="x.link")


def test_a_duplicate_key_is_refused():
    twice = render_envelope(ENVELOPE).replace(
        b'{"payload":', b'{"payload":"%b","payload":' % base64.b64encode(b"x"), 1
    )
    with pytest.raises(FormatError, match="twice"):
        parse_envelope(twice, where="x.link")


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(b"", "", "ab" * 32, b"s"),
        Envelope(b"", "a/b", "ab", b"s"),
        Envelope(b"", "a/b", "ab" * 32, b""),
    ],
)
def test_malformed_envelopes_are_not_written(envelope):
    with pytest.raises(FormatError):
        render_envelope(envelope)
