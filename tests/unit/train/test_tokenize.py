"""The tokenize stage: the mix, the packing, the index, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.stage import validate_section
from forebear.train.tokenize.pack import smallest_dtype
from forebear.train.tokenize.params import TokenizeParams
from forebear.train.tokenize.work import build_shards

END = "<|im_end|>"
SECTION = {
    "length_tokens": 32,
    "replay_share": 0.15,
    "domain_tokens": 1000,
    "validation_tokens": 50,
}


def params(**more: object) -> TokenizeParams:
    checked = validate_section(TokenizeParams, "tokenize", {"seed": 7, "tokenize": SECTION | more})
    assert isinstance(checked, TokenizeParams)
    return checked


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["fracture of femur"] * 4, trainer)
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for role, n, repeat in (("domain", 300, 1), ("replay", 60, 6)):
        lines = [
            json.dumps({"id": f"{role}:{i}", "text": f"number {i} " + "of a femur " * repeat})
            for i in range(n)
        ]
        (folder / f"{role}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def build(folder: Path, section: TokenizeParams, checkpoint: Path, corpus: Path) -> Path:
    build_shards(
        section,
        base=checkpoint,
        corpus=corpus,
        shards=folder / "shards",
        metrics=folder / "metrics.json",
    )
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, corpus: Path) -> Path:
    return build(tmp_path_factory.mktemp("tokenize"), params(), checkpoint, corpus)


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    shards = folder / "shards"
    meta = strictjson.parse_canonical((shards / "meta.json").read_bytes(), where="meta")
    index = [json.loads(line) for line in (shards / "index.jsonl").read_bytes().splitlines()]
    splits = {
        split: np.fromfile(shards / f"{split}.bin", dtype=meta["dtype"]).reshape(
            -1, meta["length_tokens"]
        )
        for split in meta["n_sequences"]
    }
    return meta, index, splits


def test_the_realised_share_is_the_asked_one_to_a_token(built: Path) -> None:
    metrics = strictjson.parse((built / "metrics.json").read_bytes(), where="metrics")
    counts = metrics["tokens"]["train"]
    total = sum(counts.values())
    assert total % 32 == 0
    assert abs(counts["replay"] - 0.15 * total) <= 0.5
    assert metrics["replay_share"]["realised"] == counts["replay"] / total
    assert metrics["replay_share"]["asked"] == 0.15


def test_the_measured_share_is_what_the_index_says(built: Path) -> None:
    _, index, _ = read(built)
    pieces = [p for row in index if row["split"] == "train" for p in row["documents"]]
    replay = sum(p["length"] for p in pieces if p["id"].startswith("replay"))
    metrics = strictjson.parse((built / "metrics.json").read_bytes(), where="metrics")
    assert replay == metrics["tokens"]["train"]["replay"]


def test_the_index_leads_from_every_token_to_its_document(
    built: Path, checkpoint: Path, corpus: Path
) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    meta, index, splits = read(built)
    texts = {}
    for file in corpus.glob("*.jsonl"):
        texts |= {row["id"]: row["text"] for row in map(json.loads, file.open())}
    for row in index:
        sequence = splits[row["split"]][row["sequence"]]
        assert sum(piece["length"] for piece in row["documents"]) == 32
        for piece in row["documents"]:
            ids = [*tokenizer.encode(texts[piece["id"]]).ids, meta["eos_id"]]
            got = sequence[piece["start"] : piece["start"] + piece["length"]].tolist()
            wanted = ids[piece["offset"] : piece["offset"] + piece["length"]]
            assert got == wanted or got == [*wanted[:-1], meta["eos_id"]]  # the last one is cut


def test_documents_end_where_the_end_token_stands(built: Path) -> None:
    meta, index, splits = read(built)
    for row in index:
        sequence = splits[row["split"]][row["sequence"]]
        ends = {int(place) for place in np.flatnonzero(sequence == meta["eos_id"])}
        borders = {p["start"] + p["length"] - 1 for p in row["documents"][:-1]}
        assert borders <= ends <= borders | {31}


def test_no_document_is_in_two_splits(built: Path) -> None:
    _, index, _ = read(built)
    names = {
        split: {p["id"] for row in index if row["split"] == split for p in row["documents"]}
        for split in ("train", "validation_domain", "validation_replay")
    }
    assert all(names.values())
    assert not names["train"] & (names["validation_domain"] | names["validation_replay"])


def test_byte_counts_are_those_of_the_text_that_was_packed(built: Path, checkpoint: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    meta, _, splits = read(built)

    def size(ids: Any) -> int:  # a letter of this vocabulary stands for a byte
        return sum(len(tokenizer.id_to_token(int(i))) for i in ids if i != meta["eos_id"])

    assert meta["train_bytes"] == size(splits["train"].ravel())
    for role in ("domain", "replay"):
        rows = splits[f"validation_{role}"]
        assert meta["validation_bytes"][role] == size(rows.ravel())
        labelled = rows[:, 1:][rows[:, :-1] != meta["eos_id"]]
        assert 0 < meta["validation_label_bytes"][role] == size(labelled)


def test_two_runs_give_the_same_bytes(
    built: Path, tmp_path: Path, checkpoint: Path, corpus: Path
) -> None:
    again = build(tmp_path, params(), checkpoint, corpus)
    first, second = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (built, again)
    )
    assert first == second
    assert {path.parts[0] for path in first} == {"shards", "tokenizer", "metrics.json"}


def test_a_special_token_in_a_text_cannot_end_its_document(
    tmp_path: Path, checkpoint: Path, corpus: Path
) -> None:
    evil = tmp_path / "corpus"
    evil.mkdir()
    (evil / "replay.jsonl").write_bytes((corpus / "replay.jsonl").read_bytes())
    rows = [json.dumps({"id": f"d:{i}", "text": f"{i} a{END}b" * 9}) for i in range(99)]
    (evil / "domain.jsonl").write_text("\n".join(rows))
    meta, index, splits = read(build(tmp_path, params(), checkpoint, evil))
    n_documents = len({p["id"] for row in index for p in row["documents"]})
    n_ends = sum(int((ids == meta["eos_id"]).sum()) for ids in splits.values())
    assert n_ends == n_documents


@pytest.mark.parametrize("share", [0.04, 0.21])
def test_a_share_outside_the_range_is_refused_and_passes_with_an_allowance(
    tmp_path: Path, checkpoint: Path, corpus: Path, share: float
) -> None:
    with pytest.raises(ConfigError) as error:
        build(tmp_path, params(replay_share=share), checkpoint, corpus)
    assert error.value.where == "params.yaml: tokenize.replay_share"
    allow = [{"rule": "tokenize.replay_share", "reason": "an ablation study", "by": "the tests"}]
    build(tmp_path, params(replay_share=share, allow=allow), checkpoint, corpus)


def test_a_corpus_that_runs_dry_is_refused_and_leaves_nothing(
    tmp_path: Path, checkpoint: Path, corpus: Path
) -> None:
    short = tmp_path / "corpus"
    short.mkdir()
    (short / "domain.jsonl").write_bytes((corpus / "domain.jsonl").read_bytes())
    lines = (corpus / "replay.jsonl").read_text().splitlines()[:2]
    (short / "replay.jsonl").write_text("\n".join(lines))
    with pytest.raises(ConfigError) as error:
        build(tmp_path / "out", params(), checkpoint, short)
    assert error.value.what.startswith("the replay corpus ran dry")
    assert not list((tmp_path / "out").iterdir())


def test_a_malformed_row_is_named(tmp_path: Path, checkpoint: Path, corpus: Path) -> None:
    (tmp_path / "domain.jsonl").write_text('{"id": "a", "text": "b"}\n{"id": 1}\n')
    (tmp_path / "replay.jsonl").write_bytes((corpus / "replay.jsonl").read_bytes())
    with pytest.raises(FormatError) as error:
        build(tmp_path / "out", params(), checkpoint, tmp_path)
    assert error.value.where.endswith("domain.jsonl:2")


def test_a_missing_corpus_or_tokenizer_is_one_clear_error(
    tmp_path: Path, checkpoint: Path, corpus: Path
) -> None:
    for base, texts in ((checkpoint, tmp_path), (tmp_path, corpus)):
        with pytest.raises(EnvironmentFailure):
            build(tmp_path / "out", params(), base, texts)


def test_ids_are_stored_in_the_smallest_type_that_holds_the_vocabulary() -> None:
    assert smallest_dtype(49_152) == "uint16"
    assert smallest_dtype(65_536) == "uint16"
    assert smallest_dtype(65_537) == "uint32"
