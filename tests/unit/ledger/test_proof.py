"""Proofs: what they say, that they hold, and that nothing changed in them passes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import RecordError, UsageError
from forebear.formats import merkle, strictjson
from forebear.ledger import IntakeRow, LedgerRow, document_key
from forebear.ledger.check import Anchor, Report, check_proof
from forebear.ledger.proof import Proof
from forebear.ledger.prove import hints, open_ledger, prove, read_root
from forebear.ledger.words import answer, verdict
from forebear.ledger.writer import LedgerWriter
from tests.unit.ledger.folder import DOCUMENTS, PLAIN_ROOT, SALT, SALTED_ROOT, write_ledger

DROPPED = b"too short"
ABSENT = b"zeta\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ledger(tmp_path_factory.mktemp("proof") / "ledger", dropped=[DROPPED])


def made(folder: Path, document: bytes, salt: bytes | None = None) -> Proof:
    with open_ledger(folder) as ledger:
        return prove(ledger, document, salt)


def as_bytes(proof: Proof) -> bytes:
    return strictjson.dumps(proof.to_json())


def anchor(folder: Path) -> Anchor:
    return Anchor.of(read_root(folder))


def check(folder: Path, about: bytes, **more: Any) -> Report:
    return check_proof(as_bytes(made(folder, about)), anchor(folder), **more)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_kept_document_is_proved_kept(folder: Path, document: bytes) -> None:
    report = check(folder, document, document=document)
    assert report.holds
    assert report.verdict == "kept"


def test_a_dropped_document_is_proved_dropped_and_by_which_filter(folder: Path) -> None:
    report = check(folder, DROPPED, document=DROPPED)
    assert report.holds
    assert report.verdict == "dropped"
    assert "'quality'" in report.claims[0].says


@pytest.mark.parametrize("document", [ABSENT, b"", b"alpha", b"eta\n", b"theta\n"])
def test_an_absent_document_is_proved_never_seen(folder: Path, document: bytes) -> None:
    report = check(folder, document, document=document)
    assert report.holds
    assert report.verdict == "never seen"


def test_zeta_lies_between_leaves_0_and_1(folder: Path) -> None:
    """Vector of the provenance page, section 9."""
    claim = made(folder, ABSENT).claims[1]
    assert claim.key.startswith("2088d0c4")
    assert [leaf.index for leaf in claim.leaves] == [0, 1]
    assert claim.leaves[0].row is None
    assert claim.leaves[1].hashes == (
        "43ad63a69ab48601c7ac7b8669578fdf690f0f179bd30e9c1b7af11a270e210a",
        "79f210e039f2da6c8b74d41c938dc69cce77e2e27bcb6a1856f76b70f3578b5d",
        "bb31d75ec41488e5ce6a25e0b434be53a9f2f3f21599dd61601f4d3fcb1fda00",
    )


def test_a_document_kept_in_another_form_is_followed_to_it(tmp_path: Path) -> None:
    source, kept = b"Caf\xc3\xa9 \n", b"Caf\xc3\xa9"
    key = document_key(kept)
    with LedgerWriter(tmp_path / "ledger") as writer:
        writer.add("kept", LedgerRow(key, len(kept), "MIT", "s", "domain"))
        writer.add("intake", IntakeRow(document_key(source), len(source), f"kept:{key}", "s"))
        writer.finish()
    proof = made(tmp_path / "ledger", source)
    assert verdict(proof) == "kept"
    assert len(proof.claims) == 3
    assert f"kept as {key}" in answer(proof)[0]
    report = check_proof(as_bytes(proof), anchor(tmp_path / "ledger"), document=source)
    assert report.holds
    with open_ledger(tmp_path / "ledger") as ledger:
        assert any(key in hint for hint in hints(ledger, kept + b"\n"))
        assert hints(ledger, b"something else") == []


def test_salted_keys_need_the_salt_and_plain_ones_refuse_it(tmp_path: Path, folder: Path) -> None:
    salted = write_ledger(tmp_path / "salted", salt=SALT)
    proof = made(salted, b"alpha\n", SALT)
    assert proof.descriptor.root("kept") == SALTED_ROOT
    report = check_proof(as_bytes(proof), anchor(salted), document=b"alpha\n", salt=SALT)
    assert report.holds
    other = check_proof(as_bytes(proof), anchor(salted), document=b"alpha\n", salt=bytes(32))
    assert other.failed
    without = check_proof(as_bytes(proof), anchor(salted), document=b"alpha\n")
    assert not without.failed
    assert not without.holds
    with pytest.raises(UsageError):
        made(salted, b"alpha\n")
    with pytest.raises(UsageError):
        made(folder, b"alpha\n", SALT)


def test_a_proof_is_about_its_own_document(folder: Path) -> None:
    assert check(folder, b"alpha\n", document=b"beta\n").failed
    assert check(folder, ABSENT, document=b"beta\n").failed


def test_another_ledgers_root_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write_ledger(tmp_path / "other", n=1)
    for document in (b"alpha\n", ABSENT, DROPPED):
        assert check_proof(as_bytes(made(folder, document)), anchor(other)).failed
        assert check_proof(as_bytes(made(folder, document)), Anchor({"0" * 64: 7})).failed


def test_bare_roots_are_enough_and_a_root_that_was_not_given_stays_unchecked(
    folder: Path,
) -> None:
    intake = read_root(folder).root("intake")
    for document in (b"alpha\n", DROPPED, ABSENT):
        proof = as_bytes(made(folder, document))
        assert check_proof(proof, Anchor({PLAIN_ROOT: None, intake: None})).holds
        assert check_proof(proof, Anchor({PLAIN_ROOT: 7, intake: 8})).holds
        one = check_proof(proof, Anchor({PLAIN_ROOT: 7}))
        assert [claim.status for claim in one.claims] == ["unchecked", "proved"]
        assert one.verdict == "unproved"


def test_row_72_a_proof_for_another_tree_size_is_refused(folder: Path) -> None:
    roots = read_root(folder)
    sizes = {PLAIN_ROOT: 7, roots.root("intake"): 8}
    for document, size in itertools.product((b"alpha\n", ABSENT), range(1, 20)):
        value = made(folder, document).to_json()
        value["claims"][1]["size"] = size
        report = check_proof(strictjson.dumps(value), anchor(folder))
        assert report.holds == (size == 7)
        assert check_proof(strictjson.dumps(value), Anchor(sizes)).holds == (size == 7)
        grown = check_proof(as_bytes(made(folder, document)), Anchor({**sizes, PLAIN_ROOT: size}))
        assert grown.holds == (size == 7)


@pytest.mark.parametrize("n", range(2, 17))
def test_no_size_whatever_makes_neighbours_of_leaves_that_lie_apart(n: int) -> None:
    """So a bare root is enough for *absent*: every pair, every false place, every false size."""
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(n)]
    top = merkle.root(leaves)
    fits = {
        true: {
            (index, size)
            for size in range(2, 40)
            for index in range(size)
            if merkle.verify_inclusion(
                leaves[true], index, size, merkle.inclusion_proof(leaves, true), top
            )
        }
        for true in range(n)
    }
    assert any(len(places) > 1 for places in fits.values())  # the size itself is not bound
    for left, right in itertools.combinations(range(n), 2):
        passes = any((index + 1, size) in fits[right] for index, size in fits[left])
        assert passes == (right == left + 1)
    assert not any(index == 0 for true in range(1, n) for index, _ in fits[true])
    assert not any(index == size - 1 for true in range(n - 1) for index, size in fits[true])


Change = Callable[[dict[str, Any]], None]


def claim(number: int, **fields: Any) -> Change:
    return lambda value: value["claims"][number].update(fields)


def leaf(number: int, at: int, **fields: Any) -> Change:
    return lambda value: value["claims"][number]["leaves"][at].update(fields)


def row(number: int, **fields: Any) -> Change:
    return lambda value: value["claims"][number]["leaves"][0]["row"].update(fields)


LIES: dict[str, tuple[bytes, Change]] = {
    "other licence": (b"alpha\n", row(1, license="MIT")),
    "other source": (b"alpha\n", row(0, source="s2")),
    "other split": (b"alpha\n", row(1, split="validation")),
    "more copies": (b"alpha\n", row(1, copies=2)),
    "dropped, not kept": (b"alpha\n", row(0, fate="dropped:quality")),
    "kept, not dropped": (DROPPED, row(0, fate="kept:" + "0" * 64)),
    "another filter": (DROPPED, row(0, fate="dropped:licence")),
    "other place": (b"alpha\n", leaf(1, 0, index=4)),
    "place beyond the tree": (b"alpha\n", leaf(1, 0, index=7)),
    "negative place": (b"alpha\n", leaf(1, 0, index=-1)),
    "no hashes": (b"alpha\n", leaf(1, 0, hashes=[])),
    "the fixed leaf as a document": (b"alpha\n", leaf(1, 0, row=None)),
    "absent though included": (b"alpha\n", claim(1, kind="absent")),
    "included though absent": (ABSENT, claim(1, kind="included")),
    "other key": (ABSENT, lambda value: value.update(key="3" * 64)),
    "other key in a claim": (ABSENT, claim(1, key="3" * 64)),
    "trees exchanged": (DROPPED, claim(0, tree="kept")),
    "a claim less": (DROPPED, lambda value: value["claims"].pop()),
    "no claim": (DROPPED, lambda value: value["claims"].clear()),
    "a claim more": (DROPPED, lambda value: value["claims"].append(value["claims"][0])),
    "claims exchanged": (DROPPED, lambda value: value["claims"].reverse()),
    "another root": (b"alpha\n", lambda value: value["ledger"]["kept"].update(root="0" * 64)),
    "another count": (b"alpha\n", lambda value: value["ledger"]["kept"].update(copies=6)),
    "another version": (b"alpha\n", lambda value: value["ledger"].update(version="v2")),
    "said to be salted": (b"alpha\n", lambda value: value["ledger"].update(salted=True)),
    "one more field": (b"alpha\n", lambda value: value.update(note="trust me")),
    "one neighbour": (ABSENT, lambda value: value["claims"][1]["leaves"].pop()),
    "the same neighbour twice": (
        ABSENT,
        lambda value: value["claims"][1]["leaves"].__setitem__(1, value["claims"][1]["leaves"][0]),
    ),
    "neighbours exchanged": (ABSENT, lambda value: value["claims"][1]["leaves"].reverse()),
    "a leaf that is no object": (ABSENT, claim(1, leaves=[1, 2])),
    "a size that is no number": (ABSENT, claim(1, size=True)),
}


@pytest.mark.parametrize(("document", "change"), LIES.values(), ids=LIES.keys())
def test_a_changed_proof_is_refused_and_the_unchanged_one_holds(
    folder: Path, document: bytes, change: Change
) -> None:
    value = json.loads(as_bytes(made(folder, document)))
    assert check_proof(strictjson.dumps(value), anchor(folder)).holds
    change(value)
    report = check_proof(strictjson.dumps(value), anchor(folder))
    assert report.failed
    assert report.verdict == "unproved"


def test_kept_text_that_is_not_in_kept_is_no_story(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger") as writer:
        row = IntakeRow(document_key(b"x"), 1, "kept:" + "a" * 64, "s")
        writer.add("intake", row)
        writer.finish()
    with pytest.raises(RecordError, match="not in kept"):
        made(tmp_path / "ledger", b"x")
    with open_ledger(tmp_path / "ledger") as ledger:
        claims = tuple(ledger.claim(tree, document_key(b"x")) for tree in ("intake", "kept"))
        proof = Proof(document_key(b"x"), ledger.descriptor, claims)
    assert check_proof(as_bytes(proof), anchor(tmp_path / "ledger")).failed


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"schema":"x"}', b"[" * 99999])
def test_what_is_no_proof_fails_in_words(folder: Path, data: bytes) -> None:
    report = check_proof(data, anchor(folder))
    assert report.failed
    assert report.claims[0].why
