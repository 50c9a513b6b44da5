from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, RecordError
from forebear.formats import strictjson
from forebear.hashing.digest import hash_tree
from forebear.train.cpt import CptParams, Shards, boundary_inputs, train_cpt
from forebear.train.resume import epochs_in_order
from forebear.train.stage import validate_section
from tests.unit.train.processes import curves
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


def write_shards(folder: Path, *, n: int = 12, **more: object) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name, rows in (("train", n), ("validation_domain", 2), ("validation_replay", 2)):
        ids = rng.integers(3, 40, size=(rows, LENGTH)).astype("<u2")
        ids[:, 10] = 2
        (folder / f"{name}.bin").write_bytes(ids.tobytes())
    meta = {"dtype": "<u2", "length_tokens": LENGTH, "eos_id": 2, **more}
    (folder / "meta.json").write_bytes(strictjson.dumps(meta))
    return folder


def run(
    base: Path, shards: Path, out: Path, *, tokenizer: Path | None = None, **changed: object
) -> None:
    train_cpt(
        CptParams(**{**PARAMS, **changed}),  # type: ignore[arg-type]  # plain values
        base=base,
        shards=shards,
        out=out / "checkpoint",
        intermediate=out / "intermediate",
        log=out / "log.jsonl",
        metrics=out / "metrics.json",
        curves=out / "curves.csv",
        tokenizer=tokenizer,
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
        line = strictjson.dumps(before)
        assert after["previous"] == hashlib.sha256(line).hexdigest()
    losses = {row["step"]: row["loss"] for row in curves(tmp_path)}
    assert [entry["loss"] for entry in entries] == [losses[entry["step"]] for entry in entries]
    assert [entry["tokens"] for entry in entries] == [256, 512, 768]
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


def test_a_run_past_its_bound_is_refused_again_from_its_own_scratch(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "work"))
    for _ in range(2):
        with pytest.raises(RecordError, match="last good checkpoint is the base"):
            run(*inputs, tmp_path / "out", lr=3.0, max_forgetting=0.01)


def test_the_last_good_checkpoint_is_named_and_its_weights_are_there(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBEAR_SCRATCH", str(tmp_path / "work"))
    shards = write_shards(tmp_path / "shards")
    unseen = np.random.default_rng(2).integers(60, 200, size=(2, LENGTH)).astype("<u2")
    unseen[:, ::3], unseen[:, 2::3] = 5, 2  # what it will learn never follows what it has seen
    (shards / "validation_replay.bin").write_bytes(unseen.tobytes())
    # the first step's rate is 0, so its checkpoint has forgotten nothing
    every = {"checkpoint_every_tokens": 4 * LENGTH, "lr": 2e-2}
    with pytest.raises(RecordError) as caught:
        run(inputs[0], shards, tmp_path / "out", **every, max_forgetting=0.2)
    assert "the last good checkpoint is the one after" in caught.value.what
    named = Path(caught.value.fix.rpartition(" lie in ")[2])
    assert (named / "model.safetensors").is_file()
    assert f"after {int(named.name)} tokens" in caught.value.what


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_outs(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    rare = {"checkpoint_every_tokens": 10**6}
    run(*inputs, tmp_path, **rare)
    before = tree(tmp_path)
    with pytest.raises(RecordError, match=r"loss is (nan|inf) at step") as caught:
        run(*inputs, tmp_path, **rare, lr=1e30, max_grad_norm=1e30)
    assert "learning rate" in caught.value.fix
    assert tree(tmp_path) == before


def test_the_rate_stays_and_falls_at_the_end_under_warmup_stable_decay(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    wsd = {"schedule": "warmup_stable_decay", "warmup_ratio": 0.25, "decay_ratio": 0.25}
    run(*inputs, tmp_path, **wsd, epochs=4)
    rates = [row["learning_rate"] for row in curves(tmp_path)]
    assert len(rates) == 12
    assert rates[3:10] == [PARAMS["lr"]] * 7
    assert rates[0] < rates[1] < rates[3]
    assert rates[9] > rates[10] > rates[11]
    rows = curves(tmp_path)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_gradients_are_scaled_down_to_the_bound(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    # the optimizer does not see a gradient's length, but for its epsilon and the decay of moments
    for name, bound in (("free", 1e9), ("held", 1e-9)):
        run(*inputs, tmp_path / name, max_grad_norm=bound, epochs=1)
    free, held = curves(tmp_path / "free"), curves(tmp_path / "held")
    assert held[0]["grad_norm"] == free[0]["grad_norm"] > 1e-9
    assert abs(held[-1]["loss"] - held[0]["loss"]) < abs(free[-1]["loss"] - free[0]["loss"])


def test_bf16_computes_otherwise_and_keeps_fp32_weights(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    for precision in ("fp32", "bf16"):
        run(*inputs, tmp_path / precision, precision=precision)
    full, half = curves(tmp_path / "fp32"), curves(tmp_path / "bf16")
    assert half[-1]["loss"] < half[0]["loss"]
    assert half[0]["loss"] != full[0]["loss"]
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.01)
    stored = load_file(tmp_path / "bf16" / "checkpoint" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in stored.values()} == {"float32"}
    said = json.loads((tmp_path / "bf16" / "metrics.json").read_bytes())["precision"]
    assert said == "bf16 autocast, fp32 weights"


def test_recomputed_activations_change_no_loss(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    run(*inputs, tmp_path / "kept")
    run(*inputs, tmp_path / "again", activation_checkpointing=True)
    assert tree(tmp_path / "kept" / "checkpoint") == tree(tmp_path / "again" / "checkpoint")


def test_losses_are_told_in_bits_per_byte_where_the_shards_count_their_bytes(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    counted = {"domain": 100, "replay": 400}
    shards = write_shards(tmp_path / "counted", validation_bytes=counted)
    run(inputs[0], shards, tmp_path / "out", epochs=1)
    found = json.loads((tmp_path / "out" / "metrics.json").read_bytes())["validation"]
    n_predicted = 2 * (LENGTH - 2)  # two sequences of two documents; neither's first token
    for role, n_bytes in counted.items():
        for when in ("before", "after"):
            bits = found[f"{role}_{when}"] / math.log(2) * n_predicted / n_bytes
            assert found[f"{role}_bits_per_byte_{when}"] == pytest.approx(bits)
    run(*inputs, tmp_path / "silent", epochs=1)
    silent = json.loads((tmp_path / "silent" / "metrics.json").read_bytes())["validation"]
    assert not [name for name in silent if "bits" in name]


def test_a_shard_with_an_id_past_the_vocabulary_is_refused(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    shards = write_shards(tmp_path / "damaged")
    data = bytearray((shards / "train.bin").read_bytes())
    data[100:102] = b"\xff\xff"
    (shards / "train.bin").write_bytes(data)
    with pytest.raises(FormatError, match="token 65535"):
        run(inputs[0], shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_handed_over_is_saved_and_another_is_refused(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    base = inputs[0]
    digest = hashlib.sha256((base / "tokenizer.json").read_bytes()).hexdigest()
    shards = write_shards(tmp_path / "shards", tokenizer_sha256=digest)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, folder / name)
    run(base, shards, tmp_path / "out", tokenizer=folder, epochs=1)
    saved = tmp_path / "out" / "checkpoint" / "tokenizer.json"
    assert json.loads(saved.read_bytes()) == json.loads((folder / "tokenizer.json").read_bytes())

    other = write_checkpoint(tmp_path / "other", extra_tokens=["ab"])
    with pytest.raises(FormatError, match="not the tokenizer that the shards were made with"):
        run(base, shards, tmp_path / "out2", tokenizer=other, epochs=1)
    assert not (tmp_path / "out2").exists()


def test_experts_that_a_token_does_not_meet_are_not_counted() -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    from forebear.train.checkpoint import count_active_parameters, count_parameters

    sizes = {
        "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4,
    }  # fmt: skip
    model = MixtralForCausalLM(MixtralConfig(**sizes, num_experts_per_tok=1))
    one_expert = 3 * 16 * 24
    assert count_parameters(model) - count_active_parameters(model) == 2 * 3 * one_expert
    model.config.num_experts_per_tok = 4
    assert count_active_parameters(model) == count_parameters(model)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"launch": {"kind": "local", "processes": 2}}, "one process"),
        ({"launch": {"kind": "torchrun", "processes": 4}}, "do not divide among 4 processes"),
        ({"launch": {"kind": "torchrun", "processes": 2, "nodes": 2}}, "need kind slurm"),
        ({"launch": {"kind": "accelerate"}}, "two processes or more"),
        ({"launch": {"kind": "slurm"}}, "go together"),
        ({"schedule": "warmup_stable_decay", "decay_ratio": 0.95}, "more than the whole run"),
        ({"engine": "megatron"}, "go together"),
        ({"launch": {"kind": "torchrun", "process": 2}}, "launch.process: unknown key"),
    ],
)
def test_what_no_launcher_can_start_is_refused_before_anything_runs(
    changed: dict[str, object], said: str
) -> None:
    section = {key: value for key, value in PARAMS.items() if key != "seed"}
    good = {"launch": {"kind": "torchrun", "processes": 2, "sharding": "fsdp2"}}
    validate_section(CptParams, "cpt", {"seed": 3, "cpt": {**section, **good}})
    with pytest.raises(ConfigError, match=said):
        validate_section(CptParams, "cpt", {"seed": 3, "cpt": {**section, **changed}})


def test_slurm_outside_an_allocation_names_the_file_to_submit(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forebear.train.launch.settings import Launch, Slurm

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    launch = Launch(kind="slurm", processes=2, nodes=2, slurm=Slurm(time="01:00:00"))
    with pytest.raises(EnvironmentFailure, match="inside an allocation") as caught:
        run(*inputs, tmp_path, launch=launch)
    assert "sbatch" in caught.value.fix


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
