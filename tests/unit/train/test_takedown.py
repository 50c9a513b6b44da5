"""The takedown list: what is listed is used for nothing, and the ledger shows it as dropped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.formats import strictjson
from forebear.ledger import document_key, parse_intake, parse_kept
from forebear.ledger.check import Anchor, check_proof
from forebear.ledger.derived import derived_keys
from forebear.ledger.prove import open_ledger, prove, read_root
from forebear.train.curate.takedown import read_salt, read_takedown
from forebear.train.curate.work import build_corpus
from tests.unit.train.test_curate import ICD, OUTS, PYDOC, own, params, rows

TAKEN = "A letter that was asked back."
NFD, NFC = "Cafe\u0301 owners wrote this.", "Caf\u00e9 owners wrote this."
TEXTS = [TAKEN, "A clinical note on coding.", TAKEN, NFD, NFC]
SALT = bytes(range(32))


def build(
    folder: Path, given: Path, entries: list[str], salt: bytes | None = None, **filters: object
) -> Path:
    folder.mkdir(exist_ok=True)
    listed = folder / "takedown.txt"
    listed.write_text("# asked 2026-01-02\n\n" + "".join(f"{one}  # by them\n" for one in entries))
    build_corpus(
        params([ICD, PYDOC, own(given)], max_categories=12, max_documents=60,
               instruction_rows=40, golden={"n": 4}, **filters),
        metrics=folder / "metrics.json",
        takedown=read_takedown(listed, salt=salt),
        **{name: folder / name for name in OUTS},
    )  # fmt: skip
    return folder


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fates(folder: Path) -> dict[str, str]:
    data = (folder / "ledger" / "intake.jsonl").read_bytes()
    return {row.key: row.fate for row in parse_intake(data, where="")}


def corpus(folder: Path) -> str:
    return "\n".join(
        json.dumps(row, ensure_ascii=False)
        for file in sorted((folder / "corpus").glob("*.jsonl"))
        for row in rows(file)
    )


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("given") / "given.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, given: Path) -> Path:
    return build(tmp_path_factory.mktemp("before"), given, [])


def code_of(before: Path) -> dict[str, Any]:
    """An instruction row whose code's record was kept, so that much was made from it."""
    golden = {row["code"] for row in rows(before / "golden" / "mc4_far.jsonl")}
    return next(
        row for row in rows(before / "corpus" / "instruction.jsonl") if row["code"] not in golden
    )


def record_key(before: Path, row: dict[str, Any]) -> str:
    """Key of the record that an instruction row was made from, as derived.jsonl says."""
    for line in (before / "ledger" / "derived.jsonl").read_bytes().splitlines():
        value = json.loads(line)
        if value["key"] == row["id"].rpartition(":")[2]:
            (found,) = value["from"]
            return str(found)
    raise AssertionError("nothing tells what the row was made from")


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory, given: Path, before: Path) -> Path:
    entries = [f"sha256:{sha256(TAKEN)}", sha256(NFD), record_key(before, code_of(before)),
               "sha256:" + "0" * 64]  # fmt: skip
    return build(tmp_path_factory.mktemp("after"), given, entries)


def test_before_the_takedown_the_documents_are_kept(before: Path) -> None:
    kept = {row.key for row in parse_kept((before / "ledger/kept.jsonl").read_bytes(), where="")}
    assert {sha256(TAKEN), sha256(NFC)} <= kept
    assert fates(before)[sha256(TAKEN)] == f"kept:{sha256(TAKEN)}"
    metrics = strictjson.parse((before / "metrics.json").read_bytes(), where="")
    assert metrics["takedown"]["entries"] == metrics["takedown"]["documents"] == 0
    assert metrics["dropped"]["takedown"] == {}


def test_after_it_they_are_provably_absent_from_kept_and_dropped_in_intake(after: Path) -> None:
    anchor = Anchor.of(read_root(after / "ledger"))
    with open_ledger(after / "ledger") as ledger:
        for text in (TAKEN, NFD, NFC):
            proof = prove(ledger, text.encode())
            assert proof.claims[1].kind == "absent"
            report = check_proof(strictjson.dumps(proof.to_json()), anchor, document=text.encode())
            assert report.holds
            assert report.verdict == "dropped"
            assert "'takedown'" in report.claims[0].says
        assert prove(ledger, TEXTS[1].encode()).claims[1].kind == "included"
    assert not any(text in corpus(after) for text in (TAKEN, NFC))
    assert TEXTS[1] in corpus(after)


def test_what_was_made_from_a_record_goes_with_it(before: Path, after: Path) -> None:
    row, key = code_of(before), record_key(before, code_of(before))
    assert len(list(derived_keys(before / "ledger", {key}))) > 1  # its list and its questions
    assert f'"{row["code"]}"' in corpus(before)
    for text in (row["code"], row["title"]):
        assert f'"{text}"' not in corpus(after)
        assert f"{text}: " not in corpus(after)
        assert f": {text}" not in corpus(after)
    assert fates(after)[key] == "dropped:takedown"
    assert list(derived_keys(after / "ledger", {key})) == []


def test_the_figures_count_entries_and_documents(after: Path) -> None:
    metrics = strictjson.parse((after / "metrics.json").read_bytes(), where="")
    digest = hashlib.sha256((after / "takedown.txt").read_bytes()).hexdigest()
    counted = {"entries": 4, "matched": 3, "documents": 5}
    assert metrics["takedown"] == {**counted, "list_sha256": digest}
    assert metrics["dropped"]["takedown"] == {"listed": 5}
    assert TAKEN not in "".join(file.read_text() for file in (after / "dropped").iterdir())


def test_other_outs_are_those_of_a_run_without_the_documents(
    after: Path, before: Path, tmp_path: Path
) -> None:
    """Without what was listed there are the same rows, in the same order."""
    kept = [row["id"] for row in rows(before / "corpus" / "replay.jsonl")]
    assert [row["id"] for row in rows(after / "corpus" / "replay.jsonl")] == kept
    texts = [row["text"] for row in rows(before / "corpus" / "domain.jsonl")]
    left = [row["text"] for row in rows(after / "corpus" / "domain.jsonl")]
    assert [text for text in left if text in texts] == [text for text in texts if text in left]


def test_two_runs_with_a_list_give_the_same_bytes(after: Path, given: Path, tmp_path: Path) -> None:
    entries = [
        line.partition("#")[0].strip() for line in (after / "takedown.txt").read_text().splitlines()
    ]
    again = build(tmp_path, given, [entry for entry in entries if entry])
    for file in sorted(path for path in after.rglob("*") if path.is_file()):
        assert file.read_bytes() == (again / file.relative_to(after)).read_bytes(), file.name


def test_a_salted_key_takes_down_under_the_salt(given: Path, tmp_path: Path) -> None:
    key = document_key(TAKEN.encode(), SALT)
    folder = build(tmp_path / "salted", given, [f"salted:{key}"], salt=SALT)
    assert fates(folder)[key] == "dropped:takedown"
    assert read_root(folder / "ledger").salted
    with open_ledger(folder / "ledger") as ledger:
        assert prove(ledger, TAKEN.encode(), SALT).claims[1].kind == "absent"
        assert prove(ledger, TEXTS[1].encode(), SALT).claims[1].kind == "included"


def test_a_document_listed_in_the_form_that_was_kept_of_it_is_taken_down(tmp_path: Path) -> None:
    """Removing personal data changed it, so its bytes as read are another document."""
    read, kept = "Ask her at jane@mail.example again.", "Ask her at <EMAIL> again."
    given = tmp_path / "given.jsonl"
    given.write_text(json.dumps({"text": read}) + "\n" + json.dumps({"text": TEXTS[1]}) + "\n")
    folder = build(tmp_path / "kept", given, [], pii={})
    assert kept in corpus(folder)
    assert fates(folder)[sha256(read)] == f"kept:{sha256(kept)}"
    folder = build(tmp_path / "taken", given, [sha256(kept)], pii={})
    assert kept not in corpus(folder)
    assert TEXTS[1] in corpus(folder)
    assert fates(folder)[sha256(read)] == "dropped:takedown"
    metrics = strictjson.parse((folder / "metrics.json").read_bytes(), where="")
    assert metrics["dropped"]["takedown"] == {"listed": 1}
    assert metrics["pii"]["email"] == 0


@pytest.mark.parametrize("line", ["sha256:abc", "md5:" + "0" * 64, "0" * 64 + " x", "A" * 64])
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(f"# fine\n{'0' * 64}\n{line}\n")
    with pytest.raises(ConfigError) as refused:
        read_takedown(tmp_path / "list")
    assert "3" in refused.value.what
    (tmp_path / "list").write_text(f"# fine\n{'0' * 64}\n# {line}\n")
    assert len(read_takedown(tmp_path / "list")) == 1


def test_a_salted_key_without_a_salt_and_a_list_that_is_not_there_are_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "list").write_text(f"salted:{'0' * 64}\n")
    with pytest.raises(ConfigError):
        read_takedown(tmp_path / "list")
    assert len(read_takedown(tmp_path / "list", salt=SALT)) == 1
    with pytest.raises(EnvironmentFailure):
        read_takedown(tmp_path / "none")


def test_a_stages_salt_is_64_hex_digits_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "salt"
    file.write_text(SALT.hex() + "\n")
    assert read_salt(file) == SALT
    file.write_text("")
    assert read_salt(file) is None
    for text in ("zz", SALT.hex()[2:]):
        file.write_text(text)
        with pytest.raises(ConfigError):
            read_salt(file)


def test_the_repositorys_own_list_is_well_formed(repository: Path) -> None:
    read_takedown(repository / "data" / "takedown.txt")
