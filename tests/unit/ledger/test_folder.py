"""Ledger folders: written in bounded memory, read back as written, refused when changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from forebear.errors import EnvironmentFailure, FormatError, RecordError, UsageError
from forebear.formats import strictjson
from forebear.formats.merkle import BLOCK
from forebear.ledger import (
    IntakeRow,
    LedgerRow,
    descriptor,
    document_key,
    parse_intake,
    parse_kept,
    render_rows,
    root,
)
from forebear.ledger.documents import Labels, read_documents
from forebear.ledger.prove import open_ledger, read_salt
from forebear.ledger.rowfile import Index, RowFile, scan
from forebear.ledger.writer import LedgerWriter
from tests.unit.ledger.folder import (
    DOCUMENTS,
    PLAIN_ROOT,
    SALT,
    SALTED_ROOT,
    numbered,
    write_ledger,
)

LABELS = Labels("CC0-1.0", "s1", "train")


def test_the_vectors_come_out_of_the_writer(tmp_path: Path) -> None:
    plain = json.loads((write_ledger(tmp_path / "plain") / "root.json").read_bytes())
    assert plain["kept"] == {"copies": 5, "documents": 5, "leaves": 7, "root": PLAIN_ROOT}
    assert "salted" not in plain
    salted = json.loads((write_ledger(tmp_path / "s", salt=SALT) / "root.json").read_bytes())
    assert salted["kept"]["root"] == SALTED_ROOT
    assert salted["salted"] is True


@pytest.mark.parametrize("n", [0, 1, 90, BLOCK - 7, BLOCK - 6, BLOCK - 5, 2 * BLOCK - 6, 1700])
def test_streamed_files_are_those_of_the_library(tmp_path: Path, n: int) -> None:
    folder = write_ledger(tmp_path / "ledger", dropped=[b"x", b"y"], n=n)
    kept = parse_kept((folder / "kept.jsonl").read_bytes(), where="kept")
    intake = parse_intake((folder / "intake.jsonl").read_bytes(), where="intake")
    assert len(kept) == 5 + n
    assert len(intake) == 7 + n
    assert render_rows(kept) == (folder / "kept.jsonl").read_bytes()
    written = strictjson.parse_canonical((folder / "root.json").read_bytes(), where="root")
    assert written == descriptor(kept, intake)
    assert scan(folder / "kept.jsonl", "kept").root == root(kept)
    again = Index.from_bytes((folder / "kept.index").read_bytes(), where="index")
    fresh = scan(folder / "kept.jsonl", "kept")
    assert again.describe() == fresh.describe()
    assert again.offsets == fresh.offsets
    assert not list(tmp_path.glob(".ledger-*"))


def test_two_writers_give_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    names = ("kept.jsonl", "intake.jsonl", "kept.index", "intake.index", "root.json")
    one = write_ledger(tmp_path / "one", n=250)
    with LedgerWriter(tmp_path / "two", run_rows=7) as writer:
        for row in reversed(parse_kept((one / "kept.jsonl").read_bytes(), where="")):
            writer.add("kept", row)
        for read in parse_intake((one / "intake.jsonl").read_bytes(), where=""):
            writer.add("intake", read)
        writer.finish()
    for name in names:
        assert (one / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_copies_are_added_up_across_runs_and_two_labels_refused(tmp_path: Path) -> None:
    row = LedgerRow("a" * 64, 1, "MIT", "s", "train")
    others = [LedgerRow(document_key(numbered(i)), 1, "MIT", "s", "train") for i in range(9)]
    with LedgerWriter(tmp_path / "copies", run_rows=4) as writer:
        for one in (row, *others, row, row):
            writer.add("kept", one)
        assert writer.finish()["kept"]["copies"] == 12
    kept = parse_kept((tmp_path / "copies" / "kept.jsonl").read_bytes(), where="")
    assert next(one.copies for one in kept if one.key == row.key) == 3
    with LedgerWriter(tmp_path / "labels") as writer:
        writer.add("kept", row)
        writer.add("kept", LedgerRow(row.key, 1, "GPL-3.0-only", "s", "train"))
        with pytest.raises(FormatError, match="stands twice"):
            writer.finish()
    assert not (tmp_path / "labels").exists()
    assert not list(tmp_path.glob(".ledger-*"))


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UsageError):
        LedgerWriter(tmp_path)
    (tmp_path / "empty").mkdir()
    write_ledger(tmp_path / "empty")


def test_every_document_is_found_with_the_proof_of_the_library(tmp_path: Path) -> None:
    from forebear.ledger import inclusion_proof

    folder = write_ledger(tmp_path / "ledger", n=BLOCK + 40)
    kept = parse_kept((folder / "kept.jsonl").read_bytes(), where="")
    rows = RowFile(folder / "kept.jsonl", "kept", scan(folder / "kept.jsonl", "kept"))
    for place, row in enumerate(kept, 1):
        assert rows.find(row.key) == (place, True)
    for row in kept[:: BLOCK // 4]:
        leaf = rows.leaf(rows.find(row.key)[0])
        assert leaf.row == row
        assert leaf.hashes == inclusion_proof(kept, row.key).hashes
    assert rows.find("0" * 64) == (1, False)
    assert rows.find("f" * 64) == (len(kept) + 1, False)
    rows.close()


def lines(folder: Path) -> list[bytes]:
    return (folder / "kept.jsonl").read_bytes().splitlines(keepends=True)


CHANGES = {
    "reordered": lambda found: [found[1], found[0], *found[2:]],
    "doubled": lambda found: [found[0], *found],
    "removed": lambda found: found[1:],
    "relicensed": lambda found: [found[0].replace(b"MIT", b"BSD"), *found[1:]],
    "cut": lambda found: [*found[:-1], found[-1][:-1]],
    "spaced": lambda found: [found[0].replace(b":", b": "), *found[1:]],
    "empty text": lambda found: [found[0].replace(b'"MIT"', b'""'), *found[1:]],
    "escaped": lambda found: [found[0].replace(b'"MIT"', b'"\\u004dIT"'), *found[1:]],
    "twice": lambda found: [found[0].replace(b'"split"', b'"source":"x","split"'), *found[1:]],
    "not UTF-8": lambda found: [found[0].replace(b"MIT", b"\xff"), *found[1:]],
    "large": lambda found: [found[0].replace(b":6,", b":9999999999999999,"), *found[1:]],
    "leading zero": lambda found: [found[0].replace(b":6,", b":06,"), *found[1:]],
    "one copy": lambda found: [found[0].replace(b":6,", b':6,"copies":1,'), *found[1:]],
    "blank": lambda found: [*found, b"\n"],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("index", [True, False], ids=["indexed", "whole"])
def test_changed_rows_are_refused_and_the_same_rows_again_are_not(
    tmp_path: Path, change, index: bool
) -> None:
    folder = write_ledger(tmp_path / "ledger")
    before = lines(folder)
    (folder / "kept.jsonl").write_bytes(b"".join(change(before)))
    assert lines(folder) != before
    if not index:
        (folder / "kept.index").unlink()
    with pytest.raises((FormatError, RecordError)):
        read_all(folder, before)
    (folder / "kept.jsonl").write_bytes(b"".join(before))
    read_all(folder, before)


def read_all(folder: Path, rows: list[bytes]) -> None:
    """Asks for every row, then reads the file: an index vouches for nothing but its own root."""
    with open_ledger(folder) as ledger:
        for row in rows:
            ledger.claim("kept", strictjson.parse(row, where="")["key"])
    index = scan(folder / "kept.jsonl", "kept")
    if index.describe() != ledger.descriptor.value["kept"]:
        raise RecordError("the rows have another root")


def test_an_index_of_other_rows_is_refused(tmp_path: Path) -> None:
    folder = write_ledger(tmp_path / "ledger", n=30)
    other = write_ledger(tmp_path / "other", n=31)
    (folder / "kept.index").write_bytes((other / "kept.index").read_bytes())
    with pytest.raises(RecordError):
        open_ledger(folder)
    for data in (b"", b"{}\n", (other / "kept.index").read_bytes()[:-1]):
        (folder / "kept.index").write_bytes(data)
        with pytest.raises(FormatError):
            open_ledger(folder)
    (folder / "kept.index").unlink()
    open_ledger(folder).__exit__(None, None, None)


def test_special_files_are_refused_without_a_hang(tmp_path: Path) -> None:
    folder = write_ledger(tmp_path / "ledger")
    for name in ("kept.jsonl", "root.json"):
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        (folder / "kept.index").unlink(missing_ok=True)
        with pytest.raises(EnvironmentFailure):
            open_ledger(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(data)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "x").symlink_to(folder / "root.json")
    with pytest.raises(EnvironmentFailure):
        list(read_documents(tmp_path / "docs", LABELS))


def test_documents_come_from_folders_and_from_rows_with_labels_of_their_own(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"one\r\n")
    (folder / "sub" / "b").write_bytes(b"\xff\x00")
    assert [one.data for one in read_documents(folder, LABELS)] == [b"one\r\n", b"\xff\x00"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"text": "caf\\u00e9"}\n{"text": "b", "licence": "MIT", "role": "replay"}\n',
    )
    first, second = read_documents(rows, LABELS)
    assert first.data == "café".encode()
    assert first.labels == LABELS
    assert second.labels == Labels("MIT", "s1", "replay")


@pytest.mark.parametrize(
    ("text", "where"),
    [('{"body": "x"}', "line 1"), ('{"text": "x"}\n{"text": 7}', "line 2"), ("[]", "line 1"),
     ('{"text": "x", "license": 3}', "line 1"), ("{", "line 1")],
)  # fmt: skip
def test_a_row_without_a_document_is_named(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(FormatError) as refused:
        list(read_documents(tmp_path / "rows.jsonl", LABELS))
    assert refused.value.where.endswith(where)


def test_a_salt_is_32_bytes_raw_or_in_hex(tmp_path: Path) -> None:
    file = tmp_path / "salt"
    for data in (SALT, SALT.hex().encode(), SALT.hex().encode() + b"\n"):
        file.write_bytes(data)
        assert read_salt(file) == SALT
    for data in (b"", b"salt", SALT[:-1], SALT.hex().encode()[:-2]):
        file.write_bytes(data)
        with pytest.raises(FormatError):
            read_salt(file)


def test_malformed_rows_never_reach_a_file(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger") as writer:
        for row in (
            LedgerRow("x", 1, "MIT", "s", "train"),
            IntakeRow("a" * 64, 1, "lost", "s"),
        ):
            with pytest.raises(FormatError):
                writer.add("kept", row)
    assert len(DOCUMENTS) == 5
