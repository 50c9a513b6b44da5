"""Impact, held against the index and the training order of a real, tiny run.

curate, tokenize and cpt are the pipeline's own; what comes after is a few bytes. Links are made
from the files on disk, as the recorder would.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forebear.formats import strictjson
from forebear.formats.link import Link
from forebear.ledger import document_key
from forebear.ledger.derived import derived_keys
from forebear.ledger.found import Impact
from forebear.ledger.impact import impact
from forebear.release.sources import hash_artifacts
from forebear.train.cpt import CptParams, train_cpt
from forebear.train.tokenize.params import TokenizeParams
from forebear.train.tokenize.work import build_shards
from tests.unit.train.test_curate import ICD, OUTS, PYDOC, own, params
from tests.unit.train.tiny import write_checkpoint

LENGTH, PER_STEP = 64, 2
GIVEN = [f"Note {number}: pain of kind {number} was coded twice that day." for number in range(40)]
DROPPED = "word"
STAGES: Mapping[str, tuple[list[str], list[str]]] = {
    "base": ([], ["data/base/checkpoint"]),
    "curate": ([], [f"data/curate/{name}" for name in OUTS]),
    "tokenize": (["data/base/checkpoint", "data/curate/corpus"], ["data/tokenize/shards"]),
    "cpt": (
        ["data/base/checkpoint", "data/tokenize/shards"],
        ["data/cpt/checkpoint", "data/cpt/intermediate", "data/cpt/log.jsonl"],
    ),
    "sft": (
        ["data/cpt/checkpoint", "data/curate/corpus/instruction.jsonl", "data/tokenize/shards"],
        ["data/sft/checkpoint"],
    ),
    "prefer": (
        ["data/sft/checkpoint", "data/curate/corpus/instruction.jsonl"],
        ["data/prefer/checkpoint", "data/prefer/pairs.jsonl"],
    ),
    "merge": (["data/sft/checkpoint", "data/prefer/checkpoint"], ["data/merge/checkpoint"]),
    "distill": (
        ["data/base/checkpoint", "data/curate/corpus/instruction.jsonl"],
        ["data/distill/checkpoint", "data/distill/trajectories"],
    ),
    "other": (["data/base/checkpoint"], ["data/other/checkpoint"]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("impact")
    given = root / "given.jsonl"
    given.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*GIVEN, DROPPED]))
    build_curated(root, given)
    base = write_checkpoint(root / "data/base/checkpoint")
    build_shards(
        TokenizeParams(seed=7, length_tokens=LENGTH, replay_share=0.2, domain_tokens=2400,
                       validation_tokens=200),
        base=base, corpus=root / "data/curate/corpus", shards=root / "data/tokenize/shards",
        metrics=root / "tokenize.json",
    )  # fmt: skip
    cpt = root / "data/cpt"
    cpt.mkdir(parents=True)
    train_cpt(
        CptParams(seed=7, lr=1e-3, epochs=1, batch_sequences=PER_STEP, grad_accumulation=1,
                  warmup_ratio=0.1, max_grad_norm=1.0, checkpoint_every_tokens=14 * LENGTH,
                  max_forgetting=9.0),
        base=base, shards=root / "data/tokenize/shards", out=cpt / "checkpoint",
        intermediate=cpt / "intermediate", log=cpt / "log.jsonl", metrics=root / "cpt.json",
        curves=root / "cpt.csv",
    )  # fmt: skip
    for name in ("sft", "prefer", "merge", "distill", "other"):
        folder = root / "data" / name / "checkpoint"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(name)
    pairs = [
        {"id": row["id"], "split": split}
        for row, split in zip(corpus_rows(root, "instruction"), ("held_out", "train"), strict=False)
    ]
    write_lines(root / "data/prefer/pairs.jsonl", pairs)
    judged = root / "data/distill/trajectories"
    judged.mkdir()
    for row, verdict in zip(corpus_rows(root, "instruction"), ("kept", "rejected"), strict=False):
        write_lines(judged / f"{verdict}.jsonl", [{"id": row["id"], "verdict": verdict}])
    return root


def build_curated(root: Path, given: Path) -> None:
    from forebear.train.curate.work import build_corpus

    folder = root / "data/curate"
    folder.mkdir(parents=True)
    build_corpus(
        params([ICD, PYDOC, own(given)], max_categories=12, max_documents=60,
               instruction_rows=20, golden={"n": 4}),
        metrics=root / "curate.json",
        **{name: folder / name for name in OUTS},
    )  # fmt: skip


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_bytes(b"".join(strictjson.dumps(row) for row in rows))


def corpus_rows(root: Path, role: str) -> list[dict[str, Any]]:
    lines = (root / f"data/curate/corpus/{role}.jsonl").read_bytes().split(b"\n")
    return [json.loads(line) for line in lines if line]


def links_of(root: Path) -> dict[str, Link]:
    section = {"cpt": {"batch_sequences": PER_STEP, "grad_accumulation": 1}}
    return {
        name: Link(
            name, ("python",), hash_artifacts(root, deps), hash_artifacts(root, outs),
            {"return-value": 0, "forebear": {"params": section if name == "cpt" else {}}},
        )
        for name, (deps, outs) in STAGES.items()
    }  # fmt: skip


def ask(root: Path, document: bytes, **more: Any) -> Impact:
    return impact(hashlib.sha256(document).digest(), links_of(root), root, **more)


def how(found: Impact) -> dict[str, str]:
    return {met.stage: met.how for met in found.met}


def splits_of(root: Path) -> dict[str, dict[str, set[int]]]:
    """Sequences of each document by split, from the index alone."""
    found: dict[str, dict[str, set[int]]] = {}
    for line in (root / "data/tokenize/shards/index.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        for piece in row["documents"]:
            found.setdefault(piece["id"], {}).setdefault(row["split"], set()).add(row["sequence"])
    return found


def log_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "data/cpt/log.jsonl").read_bytes().splitlines()]


def seen_by(root: Path, sequences: set[int]) -> list[str]:
    """Trees of the checkpoints that had seen one of the sequences, by the training order."""
    trees, seen = [], False
    for entry in log_of(root):
        seen = seen or bool(sequences & set(entry["sequences"]))
        trees += [entry["tree"]] if seen else []
    return trees


def test_each_packed_document_names_the_checkpoints_that_the_order_names(run: Path) -> None:
    texts = {row["id"]: row["text"] for role in ("domain", "replay") for row in
             corpus_rows(run, role)}  # fmt: skip
    links, entries = links_of(run), log_of(run)
    assert len(entries) >= 3
    counts = set()
    for name, splits in splits_of(run).items():
        expected = seen_by(run, splits.get("train", set()))
        digest = hashlib.sha256(texts[name].encode()).digest()
        found = impact(digest, links, run)
        mine = [one for one in found.checkpoints if one.stage == "cpt"]
        assert [one.tree for one in mine if one.how == "saw"] == expected, name
        before = [entry["tree"] for entry in entries if entry["tree"] not in expected]
        if expected:
            assert [one.tree for one in mine if one.how == "untouched"] == before
            later = {stage: one for stage, one in how(found).items() if stage != "cpt"}
            assert later.items() >= {("sft", "inherits"), ("merge", "inherits")}
            assert later["prefer"] in {"inherits", "saw"}  # saw: a row made from the document
        else:
            assert not [one for one in found.checkpoints if one.how in {"saw", "inherits"}]
        assert "other" not in how(found)
        counts.add(len(expected))
    assert {1, len(entries)} <= counts  # some came late, some at once


def test_the_first_step_is_told(run: Path) -> None:
    order = [number for entry in log_of(run) for number in entry["sequences"]]
    texts = {row["id"]: row["text"] for row in corpus_rows(run, "domain")}
    name, splits = next(
        (name, one) for name, one in splits_of(run).items() if name in texts and "train" in one
    )
    place = 1 + min(order.index(number) for number in splits["train"] if number in order)
    found = ask(run, texts[name].encode())
    why = next(met.why for met in found.met if met.stage == "cpt")
    assert f"sequence {place} of {len(order)}, in step {-(-place // PER_STEP)}" in why
    folders = [one.path for one in found.checkpoints if one.stage == "cpt"]
    assert folders[-1] == "data/cpt/checkpoint"
    assert all((run / path).is_dir() for path in folders)


def test_a_document_held_out_for_validation_was_only_measured(run: Path) -> None:
    texts = {row["id"]: row["text"] for row in corpus_rows(run, "replay")}
    name = next(
        name for name, one in splits_of(run).items() if name in texts and "train" not in one
    )
    found = ask(run, texts[name].encode())
    assert how(found)["cpt"] == "measured"
    assert found.retrain == []


def test_a_document_that_was_not_packed_touches_nothing(run: Path) -> None:
    packed = splits_of(run)
    text = next(row["text"] for row in corpus_rows(run, "replay") if row["id"] not in packed)
    found = ask(run, text.encode())
    assert found.ledgers[0].texts
    assert how(found)["tokenize"] == "untouched"
    assert found.retrain == []
    assert found.checkpoints == []


def test_a_dropped_or_unknown_document_touches_nothing(run: Path) -> None:
    dropped, never = ask(run, DROPPED.encode()), ask(run, b"never written")
    assert dropped.ledgers[0].says == "read, dropped:quality"
    assert never.ledgers[0].says == "never seen"
    for found in (dropped, never):
        assert found.met == found.checkpoints == found.unknown == []


def test_a_row_that_a_list_names_was_seen_and_one_that_was_held_out_was_not(run: Path) -> None:
    held_out, trained, unnamed = corpus_rows(run, "instruction")[:3]

    def asked(row: dict[str, Any]) -> Impact:
        return ask(run, f"{row['prompt']}\n{row['answer']}".encode())

    assert how(asked(trained))["prefer"] == "saw"
    assert how(asked(held_out))["distill"] == "may"  # its answer was kept, perhaps not trained on
    assert how(asked(trained))["distill"] == "measured"  # its answer was rejected
    assert how(asked(unnamed))["distill"] == "untouched"
    for row in (held_out, unnamed):
        # sft keeps no list of its rows, so what comes after it may have inherited the text
        assert how(asked(row))["sft"] == how(asked(row))["prefer"] == "may"
    assert "cpt" not in how(asked(trained))


def test_the_record_of_a_code_leads_to_all_that_was_made_from_it(run: Path) -> None:
    ledger = run / "data/curate/ledger"
    first = json.loads((ledger / "derived.jsonl").read_bytes().splitlines()[0])
    digest = bytes.fromhex(first["from"][0])
    found = impact(digest, links_of(run), run)
    made = set(derived_keys(ledger, {first["from"][0]}))
    assert made <= set(found.ledgers[0].texts)
    assert first["key"] in made


def trained_text(root: Path) -> bytes:
    """A text that the training order reaches."""
    drawn = {number for entry in log_of(root) for number in entry["sequences"]}
    packed = splits_of(root)
    return next(
        row["text"].encode()
        for row in corpus_rows(root, "domain")
        if packed.get(row["id"], {}).get("train", set()) & drawn
    )


@pytest.mark.parametrize(
    ("gone", "stage", "answer"),
    [
        ("data/curate/corpus", "cpt", "saw"),  # the index names the text as well
        ("data/tokenize/shards", "tokenize", "may"),
        ("data/cpt/log.jsonl", "cpt", "may"),
    ],
)
def test_an_out_that_is_not_here_makes_a_may_never_a_no(
    run: Path, tmp_path: Path, gone: str, stage: str, answer: str
) -> None:
    digest, links = hashlib.sha256(trained_text(run)).digest(), links_of(run)
    assert how(impact(digest, links, run))["cpt"] == "saw"
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / gone).rename(tmp_path / "gone")
    found = impact(digest, links, copy)
    assert how(found)[stage] == answer
    assert how(found)["merge"] == ("inherits" if answer == "saw" else "may")


def test_without_the_ledger_nothing_is_known_and_that_is_said(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "none")
    shutil.rmtree(tmp_path / "none/data/curate/ledger")
    found = impact(hashlib.sha256(trained_text(run)).digest(), links_of(run), tmp_path / "none")
    assert found.unknown
    assert found.ledgers[0].says.startswith("unknown")


def test_edited_evidence_is_not_evidence(run: Path, tmp_path: Path) -> None:
    """An index that the link does not name is as good as none."""
    document, links = trained_text(run), links_of(run)
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    index = copy / "data/tokenize/shards/index.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"id":"', b'"id":"x'))
    found = impact(hashlib.sha256(document).digest(), links, copy)
    assert how(found)["tokenize"] == "may"
    assert document_key(document) in found.ledgers[0].texts
