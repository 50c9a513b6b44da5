"""Laws of the ledger: every document provable, no absent one, nothing changed passes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.errors import ForebearError
from forebear.formats import strictjson
from forebear.ledger import IntakeRow, LedgerRow, document_key
from forebear.ledger.check import Anchor, check_proof
from forebear.ledger.proof import parse_proof
from forebear.ledger.prove import open_ledger, prove, read_root
from forebear.ledger.words import verdict
from forebear.ledger.writer import LedgerWriter

DOCUMENTS = st.dictionaries(st.binary(max_size=3), st.booleans(), max_size=40)
SALTS = st.none() | st.just(bytes(range(32)))


def write(folder: Path, documents: dict[bytes, bool], salt: bytes | None) -> Path:
    with LedgerWriter(folder / "ledger", salted=salt is not None, run_rows=8) as writer:
        for data, is_kept in documents.items():
            key = document_key(data, salt)
            if is_kept:
                writer.add("kept", LedgerRow(key, len(data), "MIT", "s", "train"))
            fate = f"kept:{key}" if is_kept else "dropped:quality"
            writer.add("intake", IntakeRow(key, len(data), fate, "s"))
        writer.finish()
    return folder / "ledger"


@given(DOCUMENTS, st.binary(max_size=3), SALTS)
@settings(max_examples=40, deadline=None)
def test_every_document_is_provable_and_no_absent_one(documents, other, salt):
    """ "never seen", "seen and dropped by filter X" or "kept as K" """
    with tempfile.TemporaryDirectory() as scratch:
        folder = write(Path(scratch), documents, salt)
        anchor = Anchor.of(read_root(folder))
        with open_ledger(folder) as ledger:
            for document in {*documents, other}:
                proof = prove(ledger, document, salt)
                said = {True: "kept", False: "dropped", None: "never seen"}[documents.get(document)]
                assert verdict(proof) == said
                report = check_proof(
                    strictjson.dumps(proof.to_json()), anchor, document=document, salt=salt
                )
                assert report.holds
                assert report.verdict == said


@given(DOCUMENTS.filter(bool), st.binary(max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_any_changed_bit_is_refused(documents, other, data):
    """One bit of a proof's hashes, keys, roots or numbers: refused, or the same proof as before."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = write(Path(scratch), documents, None)
        anchor = Anchor.of(read_root(folder))
        asked = data.draw(st.sampled_from([*documents, other]))
        with open_ledger(folder) as ledger:
            proof = prove(ledger, asked)
        text = bytearray(strictjson.dumps(proof.to_json()))
        text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        report = check_proof(bytes(text), anchor)
        assert not report.holds or parse_proof(bytes(text), where="") == proof


@given(DOCUMENTS.filter(bool), st.data())
@settings(max_examples=60, deadline=None)
def test_any_changed_bit_of_rows_root_or_index_is_refused_or_answers_as_before(documents, data):
    with tempfile.TemporaryDirectory() as scratch:
        folder = write(Path(scratch), documents, None)
        anchor = Anchor.of(read_root(folder))
        file = folder / data.draw(
            st.sampled_from(["kept.jsonl", "intake.jsonl", "root.json", "kept.index"])
        )
        text = bytearray(file.read_bytes())
        if not text:
            return
        text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(text)
        asked = data.draw(st.sampled_from(list(documents)))
        truth = "kept" if documents[asked] else "dropped"
        try:
            with open_ledger(folder) as ledger:
                proof = prove(ledger, asked)
        except ForebearError:
            return
        report = check_proof(strictjson.dumps(proof.to_json()), anchor, document=asked)
        assert not report.holds or report.verdict == truth


@given(st.binary(max_size=300))
def test_any_bytes_given_as_a_proof_end_in_a_report(data):
    """ "Any bytes whatever given to a parser end in a value or a FormatError" (style page)."""
    assert check_proof(data, Anchor({"0" * 64: None})).failed
