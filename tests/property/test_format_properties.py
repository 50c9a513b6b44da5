"""Laws of the formats: what is written is read back, and no bytes whatever escape as a crash."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebear.errors import FormatError, PathError
from forebear.formats import merkle, strictjson
from forebear.formats.dsse import Envelope, parse_envelope, render_envelope
from forebear.formats.link import Link, parse_link, render_link
from forebear.hashing.paths import check_relative_path
from forebear.ledger import parse_intake, parse_kept
from forebear.signing.keys import parse_public

LIMIT = 2**53 - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-LIMIT, LIMIT) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
HEXES = st.binary(min_size=32, max_size=32).map(bytes.hex)
PARSERS = [
    lambda data: strictjson.parse(data, where="x"),
    lambda data: strictjson.parse_canonical(data, where="x"),
    lambda data: parse_envelope(data, where="x"),
    lambda data: parse_link(data, where="x"),
    lambda data: parse_kept(data, where="x"),
    lambda data: parse_intake(data, where="x"),
    lambda data: parse_public(data, where="x"),
]
LINK = Link("cpt", ("python",), {"data/a": "0" * 64, "cmd:cpt": "1" * 64}, {}, {"return-value": 0})
SEEDS = [
    render_link(LINK),
    render_envelope(Envelope(render_link(LINK), "a/b", "ab" * 32, b"sig")),
    strictjson.dumps({"key": "0" * 64, "bytes": 1, "license": "MIT", "source": "s", "split": "t"}),
    strictjson.dumps({"key": "0" * 64, "bytes": 1, "fate": "dropped:x", "source": "s"}),
]


def refusal(call):
    """The FormatError of ``call``, or None; anything else raised fails the test."""
    try:
        call()
    except FormatError as error:
        return error
    return None


@given(VALUES)
def test_what_is_written_is_read_back(value):
    """ "What we write is RFC 8785 bytes plus a newline" - and both parsers read it."""
    text = strictjson.dumps(value)
    assert strictjson.parse_canonical(text, where="x") == value
    # A double such as 3.2710032726596788e16 is written without a point: plain JSON parsers read
    # an integer there, which need not be equal to the double.
    assert strictjson.parse(text, where="x") == json.loads(text)


@given(VALUES)
def test_one_value_has_one_form(value):
    """The form does not depend on how the value was written before."""
    loose = json.dumps(value, indent=2).encode()
    parsed = strictjson.parse_canonical(strictjson.dumps(value), where="x")
    assert strictjson.canonical(parsed) == strictjson.canonical(value)
    if loose != strictjson.dumps(value):
        with pytest.raises(FormatError):
            strictjson.parse_canonical(loose, where="x")


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e21)
@example(1e-7)
@example(5e-324)
@example(2.0**53)
def test_doubles_survive(number):
    """RFC 8785, 3.2.2.3: the shortest text that gives the same double."""
    text = strictjson.canonical(number).decode()
    assert float(text) == number
    mantissa = text.partition("e")[0]
    assert "." not in mantissa or not mantissa.endswith("0")
    assert math.copysign(1, float(text)) == math.copysign(1, number) or number == 0


@pytest.mark.parametrize("parser", PARSERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_format_error(parser, data):
    """ "Any bytes whatever given to a parser end in a value or a FormatError" (style page)."""
    refused = refusal(lambda: parser(data))
    assert refused is None or refused.where.startswith("x")


@pytest.mark.parametrize("parser", PARSERS)
@given(value=VALUES)
def test_any_json_gives_a_value_or_a_format_error(parser, value):
    refused = refusal(lambda: parser(strictjson.dumps(value)))
    assert refused is None or refused.where.startswith("x")


@pytest.mark.parametrize("parser", PARSERS)
@given(data=st.data())
@settings(max_examples=300)
def test_mutated_files_give_a_value_or_a_format_error(parser, data):
    seed = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(seed) - 1))
        piece = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"[", b"1", b"null"])
        )
        seed[place : place + data.draw(st.integers(0, 3))] = piece
        if not seed:
            break
    refused = refusal(lambda: parser(bytes(seed)))
    assert refused is None or refused.where.startswith("x")


@pytest.mark.parametrize(
    "field", ["_type", "name", "command", "materials", "products", "byproducts"]
)
@given(value=VALUES)
def test_any_value_in_a_link_field_gives_a_link_or_a_format_error(field, value):
    payload = strictjson.dumps(json.loads(SEEDS[0]) | {field: value})
    refused = refusal(lambda: parse_link(payload, where="x"))
    if refused is None:
        assert render_link(parse_link(payload, where="x")) == payload
    else:
        assert refused.where.startswith("x")


@given(st.binary(max_size=100), HEXES, st.binary(min_size=1, max_size=80))
def test_envelopes_are_read_back(payload, keyid, sig):
    envelope = Envelope(payload, "application/vnd.in-toto+json", keyid, sig)
    text = render_envelope(envelope)
    assert parse_envelope(text, where="x") == envelope


@given(st.text(max_size=30))
def test_a_path_passes_unchanged_or_is_refused(text):
    """ "relative, /-separated, no empty, . or .. segment" """
    try:
        path = check_relative_path(text)
    except PathError:
        return
    assert str(path) == text
    assert not path.is_absolute()
    assert ".." not in path.parts


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=70), st.data())
def test_every_leaf_is_provable_and_no_altered_one_is(documents, data):
    leaves = [merkle.leaf_hash(document) for document in documents]
    root = merkle.root(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = list(merkle.inclusion_proof(leaves, index))
    assert merkle.verify_inclusion(leaves[index], index, len(leaves), proof, root)

    other = data.draw(st.binary(max_size=5).filter(lambda each: each not in documents))
    assert not merkle.verify_inclusion(merkle.leaf_hash(other), index, len(leaves), proof, root)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        bit = data.draw(st.integers(0, 255))
        flipped = bytearray(proof[place])
        flipped[bit // 8] ^= 1 << bit % 8
        proof[place] = bytes(flipped)
        assert not merkle.verify_inclusion(leaves[index], index, len(leaves), proof, root)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_a_proof_for_another_size_is_refused_or_ends_elsewhere(documents, data):
    leaves = [merkle.leaf_hash(document) for document in documents]
    size = data.draw(st.integers(1, 80).filter(lambda each: each != len(leaves)))
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(leaves, index)
    grown = [*leaves, *[merkle.leaf_hash(b"more")] * 80][:size]
    assert not merkle.verify_inclusion(leaves[index], index, size, proof, merkle.root(grown)) or (
        merkle.root(grown) == merkle.root(leaves)
    )
