"""The arithmetic of a fit: by hand on small numbers, and each option moves what it should."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebear.errors import ConfigError, UsageError
from forebear.planning.block import Options, parse_options
from forebear.planning.compute import Rates
from forebear.planning.facts import load_facts
from forebear.planning.fit import DOES_NOT_FIT, FITS, UNKNOWN, FitReport, StageFit, fit
from forebear.planning.hardware import GIB, load_devices, parse_cluster
from forebear.planning.recipe import parse_recipe

RATES = Rates(training_share=0.5, sampling_share=0.1, price=2.0)
STATED = 8200000000  # Qwen3-8B-Base, as its publisher rounds it: more than the 8190427136 counted
GATHERED = "layers gathered, one ahead, and tables"
PARAMS: dict[str, Any] = {
    "seed": 1,
    "base": {"repo": "Qwen/Qwen3-8B-Base", "source": {"hub": {"repo": "x", "revision": "a" * 40}}},
    "tokenize": {"length_tokens": 1024, "replay_share": 0.2, "domain_tokens": 800},
    "cpt": {"epochs": 2, "batch_sequences": 8},
    "sft": {"method": "full", "epochs": 1, "max_rows": 10, "batch_rows": 4, "grad_accumulation": 2},
    "distill": {
        "teacher": {"kind": "checkpoint"}, "max_prompts": 10, "samples_per_prompt": 2,
        "max_new_tokens": 24, "batch_rows": 4,
        "student": {"epochs": 1, "max_rows": 5, "batch_rows": 1},
    },
    "prefer": {
        "epochs": 1, "batch_pairs": 1, "batch_rows": 4, "max_pairs": 4, "held_out_pairs": 1,
        "samples_per_prompt": 1, "max_new_tokens": 24,
    },
}  # fmt: skip


def report(hardware: str = "8xH100-80GB", nodes: int = 1, **changes: dict[str, Any]) -> FitReport:
    values = copy.deepcopy(PARAMS)
    for name, section in changes.items():
        values[name] |= section
    work = parse_recipe(yaml.safe_dump(values).encode(), where="params.yaml")
    return fit(work, load_facts(), parse_cluster(hardware, nodes=nodes), RATES)


def stage(found: FitReport, name: str) -> StageFit:
    return next(one for one in found.stages if one.stage == name)


def size(one: StageFit, term: str) -> int:
    return next(found.size_bytes for found in one.terms if found.name == term)


def sharded(processes: int) -> dict[str, Any]:
    return {"launch": {"kind": "torchrun", "processes": processes, "sharding": "fsdp2"}}


def test_full_training_holds_sixteen_bytes_a_parameter() -> None:
    cpt = stage(report(), "cpt")
    assert size(cpt, "weights") == size(cpt, "gradients") == 4 * STATED
    assert size(cpt, "AdamW moments") == 8 * STATED
    assert cpt.verdict == DOES_NOT_FIT


def test_activations_and_logits_are_counted_for_each_token() -> None:
    # 6 h + q, k, v and out + 4 MLP widths, of 36 layers; float32
    width = 6 * 4096 + 2 * 128 * (32 + 8) + 4 * 12288
    cpt = stage(report(), "cpt")
    assert size(cpt, "activations") == 4 * 8 * 1024 * 36 * width
    assert size(cpt, "logits") == 4 * 4 * 8 * 1024 * 151936
    less = stage(report(cpt={"activation_checkpointing": True}), "cpt")
    assert size(less, "activations") == 4 * 8 * 1024 * (36 * 4096 + width)


def test_bf16_halves_activations_and_adds_the_cast_weights() -> None:
    full, half = stage(report(), "cpt"), stage(report(cpt={"precision": "bf16"}), "cpt")
    assert 2 * size(half, "activations") == size(full, "activations")
    assert size(half, "weights cast for the arithmetic") == 2 * STATED


def test_sharding_spreads_the_state_and_gathers_layers_one_ahead() -> None:
    cpt = stage(report(cpt={**sharded(8), "precision": "bf16"}), "cpt")
    assert size(cpt, "weights") == 4 * STATED // 8
    # float32: two layers and one layer's gradients; both tables and their gradients
    layer = 4096 * (2 * 4096 + 2 * 1024 + 3 * 12288)
    assert size(cpt, GATHERED) == 12 * layer + 8 * 2 * 151936 * 4096
    assert cpt.host_bytes == 8 * 4 * STATED
    assert size(cpt, "activations") == size(
        stage(report(cpt={"batch_sequences": 1, "precision": "bf16"}), "cpt"), "activations"
    )
    assert cpt.verdict == FITS
    copies = {"launch": {"kind": "torchrun", "processes": 8}}
    assert size(stage(report(cpt=copies), "cpt"), "weights") == 4 * STATED


def test_more_processes_than_devices_do_not_fit() -> None:
    assert stage(report(cpt=sharded(16)), "cpt").verdict == DOES_NOT_FIT
    assert stage(report(nodes=2, cpt={**sharded(16), "batch_sequences": 16}), "cpt").verdict == FITS


def test_an_expert_layer_is_gathered_whole_by_fsdp_and_never_by_megatron() -> None:
    base = {"repo": "deepseek-ai/DeepSeek-V3-Base"}
    common: dict[str, Any] = {"precision": "bf16", "activation_checkpointing": True}
    split = {"tensor": 2, "pipeline": 8, "expert": 32}
    gathered = stage(
        report(nodes=32, base=base, cpt={**common, **sharded(256), "batch_sequences": 256}), "cpt"
    )
    apart = stage(
        report(
            nodes=32,
            base=base,
            cpt={
                **common, "launch": {"kind": "slurm", "processes": 256}, "megatron": split,
                "batch_sequences": 16,
            },
        ),
        "cpt",
    )  # fmt: skip
    assert size(gathered, GATHERED) > 12 * 256 * 3 * 7168 * 2048
    assert gathered.verdict == DOES_NOT_FIT
    assert apart.verdict == FITS
    assert apart.host_bytes is None
    routed = 58 * 256 * 3 * 7168 * 2048
    total = 671025397760
    held = (total - routed) // 16 + routed // (8 * 32)
    assert size(apart, "weights, bf16") == 2 * held
    assert size(apart, "float32 weights and AdamW moments") == -(-12 * total // 256)


def test_lora_trains_the_adapter_alone() -> None:
    full = stage(report(), "sft")
    lora = stage(report(sft={"method": "lora", "lora_rank": 16}), "sft")
    per_layer = 16 * (
        (4096 + 4096) * 2  # q and out
        + (4096 + 1024) * 2  # k and v
        + (4096 + 12288) * 3
    )
    assert size(lora, "gradients") == 4 * 36 * per_layer
    assert size(lora, "frozen weights") == 4 * STATED
    assert lora.flop * 6 == full.flop * 4
    assert lora.peak_bytes < full.peak_bytes


@pytest.mark.parametrize(("method", "copies"), [("dpo", 1), ("kto", 1), ("simpo", 0), ("orpo", 0)])
def test_a_reference_stands_beside_the_policy_where_the_method_has_one(
    method: str, copies: int
) -> None:
    found = stage(report(prefer={"method": method}), f"prefer, {method}")
    assert [term.name for term in found.terms].count("reference copy") == copies


def test_accumulation_makes_rows_of_one_pass_fewer() -> None:
    once = stage(report(sft={"grad_accumulation": 1}), "sft")
    twice = stage(report(sft={"grad_accumulation": 2}), "sft")
    assert size(once, "activations") == 2 * size(twice, "activations")
    assert once.flop == twice.flop


def test_somebody_elses_machine_samples_for_nothing_here() -> None:
    names = [one.stage for one in report(distill={"teacher": {"kind": "endpoint"}}).stages]
    assert "distill, sampling" not in names
    sampling = stage(report(), "distill, sampling")
    assert sampling.tokens == 20 * (1024 + 24)
    assert size(sampling, "cache of keys and values") == 4 * 4 * (1024 + 24) * 36 * 2 * 8 * 128
    assert "prefer, sampling" not in [
        s.stage for s in report(prefer={"data": {"kind": "pairs"}}).stages
    ]


def test_flop_hours_and_cost_are_the_products_that_they_say() -> None:
    cpt = stage(report(cpt={**sharded(8), "precision": "bf16"}), "cpt")
    assert cpt.tokens == 2 * 1000
    assert cpt.flop == 6 * STATED * 2000
    assert cpt.device_hours == pytest.approx(cpt.flop / (989e12 * 0.5) / 3600)
    assert cpt.wall_hours == pytest.approx((cpt.device_hours or 0) / 8)
    assert cpt.cost == pytest.approx(2.0 * (cpt.device_hours or 0))
    sft = stage(report(), "sft")
    assert sft.device_hours == pytest.approx(sft.flop / (67e12 * 0.5) / 3600)


def test_a_mixture_counts_experts_at_work_for_flop_and_all_for_memory() -> None:
    cpt = stage(report(base={"repo": "Qwen/Qwen3-30B-A3B-Base"}), "cpt")
    assert cpt.flop == 6 * 3352821760 * cpt.tokens
    assert size(cpt, "weights") == 4 * 30531911680


def test_hardware_without_a_stated_speed_gives_memory_alone() -> None:
    cpt = stage(report("8x96GiB"), "cpt")
    assert cpt.budget_bytes == 96 * GIB * 9 // 10
    assert cpt.device_hours is cpt.wall_hours is cpt.cost is None


def test_an_unknown_model_or_architecture_gives_no_verdict(tmp_path: Path) -> None:
    from tests.unit.planning.rows import own

    assert report(base={"repo": "nobody/nothing"}).verdict == UNKNOWN
    file = tmp_path / "facts.yaml"
    file.write_bytes(own())
    values = {**PARAMS, "base": {**PARAMS["base"], "repo": "us/own-1b"}}
    work = parse_recipe(yaml.safe_dump(values).encode(), where="x")
    found = fit(work, load_facts(file), parse_cluster("CPU-8GiB", nodes=1), RATES)
    assert (found.verdict, found.stages) == (UNKNOWN, ())


def test_a_branch_is_noted() -> None:
    source = {"source": {"hub": {"repo": "x", "revision": "main"}}}
    assert any("pin the revision" in note for note in report(base=source).notes)
    assert not any("pin the revision" in note for note in report().notes)


@pytest.mark.parametrize("text", ["8xNO-SUCH", "", "0xH100-80GB", "8x H100"])
def test_hardware_that_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_cluster(text, nodes=1)
    assert parse_cluster("8xH100-80GB", nodes=2).devices == 16


def test_every_named_device_can_be_asked_for() -> None:
    for name, device in load_devices().items():
        assert parse_cluster(name, nodes=1).device == device


def test_all_faults_of_a_recipe_are_told_at_once() -> None:
    values = copy.deepcopy(PARAMS)
    del values["cpt"]["epochs"]
    values["sft"]["max_rows"] = "many"
    with pytest.raises(ConfigError) as error:
        parse_recipe(yaml.safe_dump(values).encode(), where="x.yaml")
    assert "cpt.epochs" in error.value.what
    assert "sft.max_rows" in error.value.what


def test_the_options_of_a_block_come_back_from_their_words() -> None:
    options = Options(hardware="8xH100-80GB", nodes=4, mfu=0.25, price=2.5)
    text = f"# >>> forebear fit: {options.words()}\n"
    assert parse_options(text, where="x") == options
    assert parse_options("seed: 1\n", where="x") == Options()
    for wrong in ("speed=3", "mfu=2", "nodes=none"):
        with pytest.raises(ConfigError):
            parse_options(f"# >>> forebear fit: {wrong}\n", where="x")
