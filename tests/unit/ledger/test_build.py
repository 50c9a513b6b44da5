from __future__ import annotations

import bisect
import hashlib

import pytest

from forebear.errors import FormatError
from forebear.formats import merkle, strictjson
from forebear.ledger import (
    IntakeRow,
    LedgerRow,
    descriptor,
    document_key,
    inclusion_proof,
    leaf_data,
    merge_copies,
    parse_intake,
    parse_kept,
    render_rows,
    root,
    verify_inclusion,
)
from forebear.ledger.build import _meta_bytes, row_meta

# Vectors of the provenance page, section 9.
DOCUMENTS = {
    "alpha": ("s1", "CC0-1.0"),
    "beta": ("s1", "CC0-1.0"),
    "gamma": ("s2", "MIT"),
    "delta": ("s2", "MIT"),
    "epsilon": ("s2", "MIT"),
}
PLAIN_ROOT = "eeb01db3006982e811d3fb69587c9720e091ad3eaf3007046042832f671f9ff0"
SALTED_ROOT = "68bed32ea5cd315a4c4d18a8f20524171ec1ace587b99111b22053888bba34bc"
SALT = bytes(range(32))


def rows_of(salt=None):
    rows = [
        LedgerRow(
            document_key(f"{name}\n".encode(), salt), len(name) + 1, license_, source, "train"
        )
        for name, (source, license_) in DOCUMENTS.items()
    ]
    return merge_copies(rows)


def order_of(salt=None):
    names = {document_key(f"{name}\n".encode(), salt): name for name in DOCUMENTS}
    return [names[row.key] for row in rows_of(salt)]


def test_meta_hash_of_alpha():
    row = LedgerRow(document_key(b"alpha\n"), 6, "CC0-1.0", "s1", "train")
    assert strictjson.canonical(row_meta(row)) == (
        b'{"bytes":6,"license":"CC0-1.0","source":"s1","split":"train"}'
    )
    assert leaf_data(row)[-32:].hex() == (
        "17dd3af4bc127e42d4db16961e20c5eb3382c6118cef71245a3b4aeb4cdf83c9"
    )


def test_plain_order_and_root():
    assert order_of() == ["delta", "gamma", "alpha", "epsilon", "beta"]
    assert root(rows_of()) == PLAIN_ROOT


def test_salted_order_and_root():
    assert order_of(SALT) == ["gamma", "beta", "delta", "alpha", "epsilon"]
    assert root(rows_of(SALT)) == SALTED_ROOT


def test_leaf_1_is_delta_and_its_proof():
    rows = rows_of()
    assert merkle.leaf_hash(leaf_data(rows[0])).hex() == (
        "c09d9123c4f34aa1070fbde8013e1bb1d6b69dac0447f142abe23524c1da49b1"
    )
    proof = inclusion_proof(rows, document_key(b"delta\n"))
    assert (proof.index, proof.size) == (1, 7)
    assert proof.hashes == (
        "43ad63a69ab48601c7ac7b8669578fdf690f0f179bd30e9c1b7af11a270e210a",
        "79f210e039f2da6c8b74d41c938dc69cce77e2e27bcb6a1856f76b70f3578b5d",
        "bb31d75ec41488e5ce6a25e0b434be53a9f2f3f21599dd61601f4d3fcb1fda00",
    )
    assert verify_inclusion(rows[0], proof, PLAIN_ROOT)
    assert not verify_inclusion(rows[1], proof, PLAIN_ROOT)
    assert not verify_inclusion(rows[0], proof, SALTED_ROOT)


def test_zeta_is_absent_between_leaves_0_and_1():
    key = document_key(b"zeta\n")
    assert key.startswith("2088d0c4")
    assert key.endswith("da4c")
    # Leaf 0 is the fixed first one, so place 0 among the rows lies between leaves 0 and 1.
    assert bisect.bisect_left([row.key for row in rows_of()], key) == 0
    with pytest.raises(FormatError):
        inclusion_proof(rows_of(), key)


def test_empty_ledger_has_the_two_fixed_leaves():
    first = merkle.leaf_hash(b"forebear-ledger-v1\x01" + b"\x00" * 64)
    last = merkle.leaf_hash(b"forebear-ledger-v1\x02" + b"\xff" * 64)
    assert root([]) == merkle.node_hash(first, last).hex()


def test_copies_stand_in_the_metadata_only_when_there_are_several():
    row = rows_of()[0]
    merged = merge_copies([row, row, row])
    assert [each.copies for each in merged] == [3]
    assert row_meta(merged[0])["copies"] == 3
    assert "copies" not in row_meta(row)
    assert root(merged) != root([row])


def test_one_kept_document_with_two_licences_is_refused():
    row = rows_of()[0]
    other = LedgerRow(row.key, row.bytes, "GPL-3.0-only", row.source, row.split)
    with pytest.raises(FormatError):
        merge_copies([row, other])


def test_an_intake_document_kept_once_counts_as_kept():
    dropped = IntakeRow("a" * 64, 5, "dropped:exact-copy", "s1")
    kept = IntakeRow("a" * 64, 5, "kept:" + "b" * 64, "s2")
    assert merge_copies([dropped, kept]) == [
        IntakeRow("a" * 64, 5, "kept:" + "b" * 64, "s2", copies=2)
    ]
    assert merge_copies([kept, dropped])[0].fate == kept.fate
    assert merge_copies([dropped, dropped])[0].fate == dropped.fate


def test_rows_are_read_back():
    rows = [*rows_of()[:-1], LedgerRow("f" * 64, 1, "MIT", "s\u00e9\n", "train", copies=2)]
    assert parse_kept(render_rows(rows), where="kept.jsonl") == rows
    intake = [IntakeRow("a" * 64, 5, "dropped:short", "s1")]
    assert parse_intake(render_rows(intake), where="intake.jsonl") == intake
    assert parse_kept(b"", where="kept.jsonl") == []


def test_hand_made_metadata_is_the_canonical_one():
    for row in (
        *rows_of(),
        LedgerRow("f" * 64, 1, "MIT", 's"\\\u00e9\n\x01', "train", copies=2),
        IntakeRow("a" * 64, 5, "dropped:\u20ac", "s1", copies=7),
    ):
        assert _meta_bytes(row) == strictjson.canonical(row_meta(row))


def lines():
    return render_rows(rows_of()).splitlines(keepends=True)


@pytest.mark.parametrize(
    "data",
    [
        b"".join(reversed(lines())),
        lines()[0] + lines()[0],
        lines()[0].rstrip(b"\n"),
        lines()[0].replace(b'"key"', b'"kei"'),
        lines()[0].replace(b'{"bytes":6', b'{"bytes":6,"copies":1'),
        lines()[0].replace(b'{"bytes":6', b'{"bytes":6,"copies":0'),
        lines()[0].replace(b'"bytes":6', b'"bytes":-6'),
        lines()[0].replace(b'"bytes":6', b'"bytes":true'),
        lines()[0].replace(b'"bytes":6', b'"bytes":"6"'),
        lines()[0].replace(b'"MIT"', b'""'),
        lines()[0].replace(b'"MIT"', b"7"),
        b"[]\n",
        b"\n",
    ],
)
def test_other_rows_are_refused(data):
    with pytest.raises(FormatError) as refused:
        parse_kept(data, where="kept.jsonl")
    assert refused.value.where.startswith("kept.jsonl: line ")


@pytest.mark.parametrize(
    "rows",
    [
        list(reversed(rows_of())),
        [rows_of()[0], rows_of()[0]],
        [LedgerRow("A" * 64, 1, "MIT", "s", "train")],
        [LedgerRow("a" * 64, 1.0, "MIT", "s", "train")],
        [LedgerRow("a" * 64, 1, None, "s", "train")],
        [LedgerRow("a" * 64, 1, "MIT", "\ud800", "train")],
        [IntakeRow("a" * 64, 1, "lost", "s")],
        [IntakeRow("a" * 64, 1, "kept:abc", "s")],
    ],
)
def test_malformed_rows_have_no_root(rows):
    with pytest.raises(FormatError):
        root(rows)


def test_a_short_salt_is_refused():
    with pytest.raises(FormatError):
        document_key(b"x", b"salt")
    assert document_key(b"x") == hashlib.sha256(b"x").hexdigest()


def test_descriptor_names_both_roots():
    intake = [IntakeRow("a" * 64, 5, "dropped:short", "s1")]
    value = descriptor(rows_of(), intake)
    assert value["kept"] == {"copies": 5, "documents": 5, "leaves": 7, "root": PLAIN_ROOT}
    assert value["intake"]["root"] == root(intake)
    strictjson.dumps(value)
