"""The facts table holds, agrees with the architectures, and takes a user's own rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.planning.facts import ModelFacts, by_repo, load_facts, parse_facts, shown
from forebear.planning.shape import Architecture
from tests.unit.planning.rows import OWN, own

FAMILIES = ("Qwen3", "Mistral-Small-4", "Llama-4-Maverick", "Phi-4", "DeepSeek-V3")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_training_page_is_in_the_table(family: str) -> None:
    assert [name for name in load_facts() if name.startswith(family)]


@pytest.mark.parametrize("facts", load_facts().values(), ids=lambda facts: facts.name)
def test_stated_sizes_agree_with_the_architecture(facts: ModelFacts) -> None:
    shape = facts.architecture
    assert shape is not None
    assert shape.total() == pytest.approx(facts.total, rel=0.02)
    assert shape.active() == pytest.approx(facts.active, rel=0.12)
    assert facts.as_of, "a row without the day it was looked at is worth nothing"


def test_the_architectures_are_those_of_the_libraries_own_configurations() -> None:
    from transformers import DeepseekV3Config, Mistral4Config

    table = load_facts()
    for name, config in (
        ("DeepSeek-V3-Base", DeepseekV3Config()),
        ("Mistral-Small-4-119B", Mistral4Config()),
    ):
        shape = table[name].architecture
        assert shape is not None
        assert shape.experts is not None
        assert shape.latent is not None
        assert (
            shape.layers, shape.hidden, shape.heads, shape.vocabulary, shape.dense_layers,
            shape.experts.routed, shape.experts.active, shape.experts.width, shape.experts.shared,
            shape.latent.q_rank, shape.latent.kv_rank, shape.latent.value_width,
        ) == (
            config.num_hidden_layers, config.hidden_size, config.num_attention_heads,
            config.vocab_size, config.first_k_dense_replace, config.n_routed_experts,
            config.num_experts_per_tok, config.moe_intermediate_size, config.n_shared_experts,
            config.q_lora_rank, config.kv_lora_rank, config.v_head_dim,
        )  # fmt: skip


def test_parameters_are_counted_as_the_library_builds_them() -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

    dense = Qwen3Config(
        vocab_size=640, hidden_size=64, intermediate_size=160, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
    )  # fmt: skip
    sparse = Qwen3MoeConfig(
        vocab_size=640, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=False, num_experts=8,
        num_experts_per_tok=2, moe_intermediate_size=48, decoder_sparse_step=1,
    )  # fmt: skip
    common: dict[str, Any] = {
        "layers": 3, "hidden": 64, "heads": 4, "kv_heads": 2, "head_width": 16, "vocabulary": 640
    }  # fmt: skip
    experts = {"layers": 3, "width": 48, "routed": 8, "active": 2, "shared": 0}
    for config, shape in (
        (dense, Architecture(**common, mlp_width=160, tied=True)),
        (sparse, Architecture.model_validate(
            {**common, "mlp_width": 0, "tied": False, "experts": experts})),
    ):  # fmt: skip
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        matrices = sum(p.numel() for p in model.parameters() if p.dim() > 1)
        assert shape.total() == matrices


def test_a_users_row_is_added_and_replaces_one_of_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "facts.yaml"
    file.write_bytes(own())
    table = load_facts(file)
    assert table["Own-1B"].parameters == 1000000000
    assert table["Own-1B"].at_work is None
    file.write_bytes(own(name="Phi-4"))
    assert load_facts(file)["Phi-4"].repo == "us/own-1b"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"total": 0}, "models.0.total"),
        ({"total": "about 7"}, "models.0.total"),
        ({"colour": "blue"}, "models.0.colour"),
        ({"posture": "fine"}, "models.0.posture"),
        ({"licence": "unknown"}, "licence is unknown"),
        ({"as_of": "yesterday"}, "models.0.as_of"),
        ({"languages": "klingon"}, "models.0.languages"),
    ],
)
def test_a_row_that_does_not_hold_is_refused_with_its_place(
    changes: dict[str, Any], said: str
) -> None:
    parse_facts(own(), where="own.yaml")
    with pytest.raises(ConfigError) as error:
        parse_facts(own(**changes), where="own.yaml")
    assert error.value.where == "own.yaml"
    assert said in error.value.what


def test_two_rows_of_one_name_and_another_schema_are_refused() -> None:
    twice = {**OWN, "models": OWN["models"] * 2}
    for values in (twice, {**OWN, "schema": "forebear.models/v9"}):
        with pytest.raises(ConfigError):
            parse_facts(yaml.safe_dump(values).encode(), where="own.yaml")


def test_a_missing_file_is_the_environments_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure):
        load_facts(tmp_path / "none.yaml")


def test_repositories_are_found_whatever_the_case() -> None:
    found = by_repo(load_facts(), "Microsoft/Phi-4")
    assert found is not None
    assert found.tuned
    assert by_repo(load_facts(), "nobody/nothing") is None


@pytest.mark.parametrize(
    ("count", "text"), [(119000000000, "119B"), (600000000, "600M"), (12, "12"), (None, "unknown")]
)
def test_counts_are_shown_as_people_write_them(count: int | None, text: str) -> None:
    assert shown(count) == text
