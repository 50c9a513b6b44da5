from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import FormatError, RecordError
from forebear.formats import strictjson
from forebear.hashing.digest import hash_tree
from forebear.train.cpt import CptParams, Shards, boundary_inputs, train_cpt
from forebear.train.resume import epochs_in_order
from tests.unit.train.tiny import tree, write_checkpoint

LENGTH = 32
PARAMS = {
    "seed": 3,
    "lr": 5e-3,
    "epochs": 2,
    "batch_sequences": 2,
    "grad_accumulation": 2,
    "warmup_ratio": 0.1,
    "max_grad_norm": 1.0,
    "checkpoint_every_tokens": 8 * LENGTH,
    "max_forgetting": 5.0,
}


def write_shards(folder: Path, *, n: int = 12) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name, rows in (("train", n), ("validation_domain", 2), ("validation_replay", 2)):
        ids = rng.integers(3, 40, size=(rows, LENGTH)).astype("<u2")
        ids[:, 10] = 2
        (folder / f"{name}.bin").write_bytes(ids.tobytes())
    meta = {"dtype": "<u2", "length_tokens": LENGTH, "eos_id": 2}
    (folder / "meta.json").write_bytes(strictjson.dumps(meta))
    return folder


def run(base: Path, shards: Path, out: Path, **changed: object) -> None:
    train_cpt(
        CptParams(**{**PARAMS, **changed}),  # type: ignore[arg-type]  # plain values
        base=base,
        shards=shards,
        out=out / "checkpoint",
        intermediate=out / "intermediate",
        log=out / "log.jsonl",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cpt")
    return write_checkpoint(folder / "base"), write_shards(folder / "shards")


def test_loss_falls_and_the_log_chains_base_to_out(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    base, shards = inputs
    run(base, shards, tmp_path)
    figures = json.loads((tmp_path / "metrics.json").read_bytes())
    assert figures["loss_last"] < figures["loss_first"]
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_bytes().splitlines()]
    assert entries[0]["parent"] == hash_tree(base).digest
    assert entries[-1]["tree"] == hash_tree(tmp_path / "checkpoint").digest
    for before, after in itertools.pairwise(entries):
        assert after["parent"] == before["tree"]
    kept = sorted(path.name for path in (tmp_path / "intermediate").iterdir())
    assert len(kept) == len(entries) - 1
    assert sorted(s for entry in entries for s in entry["sequences"]) == sorted([*range(12)] * 2)


def test_two_runs_give_the_same_bytes(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(*inputs, tmp_path / name)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_rise_of_the_replay_loss_stops_the_run(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="max_forgetting"):
        run(*inputs, tmp_path, lr=3.0, max_forgetting=0.01)
    assert not (tmp_path / "checkpoint").exists()


def test_a_cut_shard_is_refused_by_name(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "cut")
    data = (shards / "train.bin").read_bytes()
    (shards / "train.bin").write_bytes(data[:-3])
    with pytest.raises(FormatError) as caught:
        Shards(shards)
    assert "train.bin" in caught.value.where


def test_positions_restart_after_each_document_and_its_first_token_has_no_label() -> None:
    inputs = boundary_inputs(np.array([[5, 6, 2, 7, 8]], dtype="<u2"), 2)
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert inputs["labels"].tolist() == [[-100, 6, 2, -100, 8]]


def test_packed_documents_do_not_see_each_other(inputs: tuple[Path, Path]) -> None:
    import torch

    from forebear.train.checkpoint import load_model

    model = load_model(inputs[0])
    both = boundary_inputs(np.array([[5, 6, 2, 7, 8, 9]], dtype="<u2"), 2)
    alone = boundary_inputs(np.array([[7, 8, 9]], dtype="<u2"), 2)
    with torch.no_grad():
        packed = model(**both, use_cache=False).logits[0, 3:]
        single = model(**alone, use_cache=False).logits[0]
    assert torch.allclose(packed, single, atol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 3, 8, 21])
def test_every_batch_is_full_and_no_epoch_repeats_the_order(n_rows: int) -> None:
    order = epochs_in_order(list(range(n_rows)), epochs=3, batch_rows=4, seed=5)
    per_epoch = max(n_rows // 4, 1) * 4
    assert len(order) == 3 * per_epoch
    first, second = order[:per_epoch], order[per_epoch : 2 * per_epoch]
    assert order == epochs_in_order(list(range(n_rows)), epochs=3, batch_rows=4, seed=5)
    if n_rows > 20:
        assert len(set(first)) == per_epoch
        assert first != second
