"""Statements and bundles: one serialisation, nothing unknown."""

from __future__ import annotations

import pytest

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.formats.dsse import Envelope
from forebear.formats.statement import (
    PAYLOAD_TYPE,
    Bundle,
    Statement,
    key_hint,
    parse_bundle,
    parse_statement,
    render_bundle,
    render_statement,
)

STATEMENT = Statement(
    (("tree:a", "0" * 64), ("a/b", "1" * 64)), "https://example.org/p/v1", {"n": 1}
)
BUNDLE = Bundle(Envelope(render_statement(STATEMENT), PAYLOAD_TYPE, "a" * 64, b"sig"), "b" * 64)


def test_statement_comes_back():
    assert parse_statement(render_statement(STATEMENT), where="s") == STATEMENT


def test_bundle_comes_back():
    assert parse_bundle(render_bundle(BUNDLE), where="b") == BUNDLE


def test_hint_is_the_digest_of_the_pem():
    assert key_hint(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "statement",
    [
        Statement((), "t", {}),
        Statement((("a", "0" * 64), ("a", "1" * 64)), "t", {}),
        Statement((("a", "0" * 63),), "t", {}),
    ],
)
def test_a_malformed_statement_is_not_written(statement):
    with pytest.raises(FormatError):
        render_statement(statement)


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": {}},
        {"subject": [{"name": "a", "digest": {"sha512": "0"}}]},
        {"subject": [{"name": 1, "digest": {"sha256": "0" * 64}}]},
        {"predicate": []},
        {"predicateType": 1},
        {"extra": 1},
    ],
)
def test_a_malformed_statement_is_refused(change):
    value = strictjson.parse(render_statement(STATEMENT), where="s")
    with pytest.raises(FormatError):
        parse_statement(strictjson.dumps({**value, **change}), where="s")


@pytest.mark.parametrize(
    "change",
    [
        {"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"},
        {"verificationMaterial": {"publicKey": {"hint": "b" * 64}, "tlogEntries": [{}]}},
        {"verificationMaterial": {"publicKey": {"hint": "short"}, "tlogEntries": []}},
        {"verificationMaterial": {"certificate": {}}},
        {"dsseEnvelope": {}},
        {"extra": 1},
    ],
)
def test_a_malformed_bundle_is_refused(change):
    value = strictjson.parse(render_bundle(BUNDLE), where="b")
    with pytest.raises(FormatError):
        parse_bundle(strictjson.dumps({**value, **change}), where="b")
