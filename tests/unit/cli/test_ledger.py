"""``forebear ledger``: the answers, the files, and the exit codes."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forebear.cli.main import _run
from forebear.ledger.prove import read_root
from tests.support.full_release import LEDGER, build_full_release
from tests.support.release import Simulated
from tests.unit.ledger.folder import DOCUMENTS, PLAIN_ROOT, SALT, SALTED_ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    built = build_full_release(tmp_path_factory.mktemp("ledger"))
    (built.repo / ".dvc").mkdir(exist_ok=True)
    return built


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The vectors of the provenance page, section 9, as JSON lines."""
    file = tmp_path / "corpus.jsonl"
    rows = [
        {"text": data.decode(), "source": source, "license": licence}
        for data, (source, licence) in DOCUMENTS.items()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = _run(["ledger", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out + out.err


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code, text = run(capsys, *words, "--json")
    return code, json.loads(text)


def document_of(built: Simulated) -> bytes:
    line = (built.repo / "data/curate/corpus/domain.jsonl").read_bytes().splitlines()[0]
    return str(json.loads(line)["text"]).encode()


def test_build_gives_the_roots_of_the_vectors(corpus: Path, capsys) -> None:
    code, body = as_json(capsys, "build", corpus, corpus.with_name("plain"))
    assert code == 0
    assert body["ledger"]["kept"]["root"] == PLAIN_ROOT
    salt = corpus.with_name("salt")
    salt.write_text(SALT.hex())
    assert run(capsys, "build", corpus, corpus.with_name("s"), "--salt-file", salt)[0] == 0
    assert read_root(corpus.with_name("s")).root("kept") == SALTED_ROOT
    assert run(capsys, "build", corpus, corpus.with_name("plain"))[0] == 2
    code, text = run(capsys, "root", corpus.with_name("plain"))
    assert code == 0
    assert PLAIN_ROOT in text
    assert "computed from the rows" in text


def test_prove_and_check_a_kept_and_an_absent_document(corpus: Path, capsys) -> None:
    folder, proof = corpus.with_name("ledger"), corpus.with_name("proof.json")
    run(capsys, "build", corpus, folder)
    for name, text, said in (("a", b"alpha\n", "kept"), ("z", b"zeta\n", "never seen")):
        document = corpus.with_name(name)
        document.write_bytes(text)
        code, out = run(capsys, "prove", document, folder, "--out", proof)
        assert (code, out.startswith(said)) == (0, True)
        against = ("--root", folder / "root.json", "--document", document)
        code, body = as_json(capsys, "check", proof, *against)
        assert (code, body["verdict"]) == (0, said)
        intake = read_root(folder).root("intake")
        roots = ("--root", PLAIN_ROOT, "--root", intake)
        assert run(capsys, "check", proof, *roots)[0] == 0
        assert run(capsys, "check", proof, *roots, "--leaves", 7, "--leaves", 7)[0] == 0
        assert run(capsys, "check", proof, *roots, "--leaves", 8, "--leaves", 7)[0] == 1
        assert run(capsys, "check", proof, "--root", PLAIN_ROOT)[0] == 3
        assert run(capsys, "check", proof, "--root", "0" * 64)[0] == 1
        assert run(capsys, "check", proof, *against[:2], "--document", corpus)[0] == 1
    proof.write_bytes(proof.read_bytes().replace(b"never", b"ever")[:-20])
    assert run(capsys, "check", proof, "--root", PLAIN_ROOT)[0] == 1


def test_a_document_may_be_a_digest_or_come_by_standard_input(
    corpus: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus.with_name("ledger")
    run(capsys, "build", corpus, folder)
    alpha = "b6a98d9ce9a2d9149288fa3df42d377c3e42737afdcdaf714e33c0a100b51060"
    assert run(capsys, "prove", f"sha256:{alpha}", folder)[1].startswith("kept")
    assert run(capsys, "prove", alpha[::-1], folder)[1].startswith("never seen")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"alpha")))
    code, text = run(capsys, "prove", "-", folder)
    assert code == 0
    assert "never seen" in text
    assert "hint, no proof: the same text with a line end more" in text


@pytest.mark.parametrize(
    "words",
    [
        ("check", "P"),
        ("check", "P", "--root", "x", "--release", "R", "--trust", "T"),
        ("check", "P", "--release", "R"),
        ("build", "P"),
        ("prove", "sha256:" + "0" * 64, "NOTHING"),
        ("check", "P", "--root", "0" * 64, "--leaves", "1"),
        ("frob",),
    ],
)
def test_a_wrong_call_is_a_usage_error(capsys, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "NOTHING").mkdir()
    (tmp_path / "P").write_text("{}")
    assert run(capsys, *words)[0] == 2


def test_a_proof_from_a_release_is_checked_against_it_without_its_rows(
    built: Simulated, tmp_path: Path, capsys
) -> None:
    document, proof = tmp_path / "doc", tmp_path / "proof.json"
    document.write_bytes(document_of(built))
    assert run(capsys, "prove", document, built.packed, "--out", proof)[1].startswith("kept")
    against = ("--release", built.packed, "--trust", built.owner_pub, "--document", document)
    code, text = run(capsys, "check", proof, *against)
    assert code == 0, text
    assert f"{LEDGER}/root.json, which stage 'curate' produced" in text
    value = json.loads(proof.read_bytes())
    value["ledger"]["kept"]["copies"] += 1
    proof.write_text(json.dumps(value))
    assert run(capsys, "check", proof, *against)[0] == 1


def test_a_release_that_does_not_verify_proves_nothing(
    built: Simulated, tmp_path: Path, capsys
) -> None:
    proof, release = tmp_path / "proof.json", tmp_path / "release"
    run(capsys, "prove", "sha256:" + "0" * 64, built.packed, "--out", proof)
    shutil.copytree(built.packed, release)
    words = ("check", proof, "--release", release, "--trust", built.owner_pub)
    assert run(capsys, *words)[0] == 0
    with (release / LEDGER / "kept.jsonl").open("ab") as stream:
        stream.write(b"\n")
    assert run(capsys, *words)[0] == 1
    inside = ("--release", release, "--trust", release / "owner.pub")
    assert run(capsys, "check", proof, *inside)[0] == 2


def test_broken_rows_prove_nothing(built: Simulated, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(built.packed / LEDGER, folder)
    assert run(capsys, "root", folder)[0] == 0
    rows = (folder / "kept.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "kept.jsonl").write_bytes(b"".join(rows[1:]))
    assert run(capsys, "root", folder)[0] == 1
    assert run(capsys, "prove", "sha256:" + "0" * 64, folder)[0] == 1


def test_impact_in_a_repository_and_in_a_release(built: Simulated, tmp_path: Path, capsys) -> None:
    document = tmp_path / "doc"
    document.write_bytes(document_of(built))
    for place in (built.repo, built.packed):
        code, body = as_json(capsys, "impact", document, place)
        assert code == 0
        assert body["ledgers"][0]["stage"] == "curate"
        assert {"sft", "prefer", "merge"} <= set(body["retrain"])
        assert any(one["path"] == "data/merge/checkpoint" for one in body["checkpoints"])
    code, text = run(capsys, "impact", "sha256:" + "0" * 64, built.repo)
    assert code == 0
    assert "never seen" in text
    assert "no checkpoint saw it" in text
