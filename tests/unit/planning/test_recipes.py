"""The recipes: every section holds, what can be tried without a cluster is, no figure drifts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from forebear.documents.strictyaml import parse_mapping
from forebear.errors import ConfigError
from forebear.planning.block import BEGIN, END, parse_options, render_block, replace_block
from forebear.planning.facts import by_repo, load_facts
from forebear.planning.fit import FITS, FitReport, fit
from forebear.planning.recipe import parse_recipe
from forebear.train.base import BaseParams, require_base_only, tuned_names
from forebear.train.cpt_params import CptParams
from forebear.train.distill.settings import DistillParams
from forebear.train.launch.__main__ import write_files
from forebear.train.launch.commands import launcher_words
from forebear.train.preference.settings import PreferParams
from forebear.train.sft_settings import SftParams
from forebear.train.stage import StageParams, validate_section
from stages.__main__ import faults, stage_models

FOLDER = Path(__file__).parents[3] / "recipes"
RECIPES = sorted(file for file in FOLDER.glob("*.yaml") if file.name != "smoke.yaml")
FAMILIES = ("qwen3", "mistral-small-4", "llama-4-maverick", "phi-4", "deepseek-v3")
DOMAINS = ("legal", "clinical-coding", "smiles", "tamil", "thai")

each = pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)


def values_of(recipe: Path) -> Mapping[str, Any]:
    """As a stage reads it."""
    values = YAML(typ="safe").load(recipe.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def section(recipe: Path, model: type[StageParams], name: str) -> Any:
    return validate_section(model, name, values_of(recipe))


def report_of(recipe: Path) -> FitReport:
    options = parse_options(recipe.read_text(encoding="utf-8"), where=recipe.name)
    work = parse_recipe(recipe.read_bytes(), where=recipe.name, row_tokens=options.row_tokens)
    return fit(work, load_facts(), options.cluster(), options.rates)


def test_every_family_and_every_domain_has_a_recipe() -> None:
    names = [file.stem for file in RECIPES]
    for wanted in (*FAMILIES, *DOMAINS):
        assert [name for name in names if wanted in name], wanted


@each
def test_every_section_holds(recipe: Path) -> None:
    assert faults(values_of(recipe), stage_models()) == []


@each
def test_a_misspelt_key_would_be_noticed(recipe: Path) -> None:
    values = {**values_of(recipe), "cptt": {}}
    values["sft"] = {**values["sft"], "learning_rate": 1}
    assert faults(values, stage_models()) == [
        "cptt: no stage reads this section", "sft.learning_rate: unknown key"
    ]  # fmt: skip


@each
def test_what_stages_refuse_beyond_single_values_is_accepted(recipe: Path) -> None:
    section(recipe, SftParams, "sft").rates()
    section(recipe, DistillParams, "distill").require()
    section(recipe, PreferParams, "prefer").require()


@each
def test_the_base_is_pinned_known_and_a_base_or_says_why_not(recipe: Path) -> None:
    params = section(recipe, BaseParams, "base")
    known = by_repo(load_facts(), params.source.hub.repo)
    assert known is not None
    assert params.licence == known.licence
    found = tuned_names(params)
    require_base_only(params, found)
    assert bool(found) == bool(known.tuned) == params.allows("base-only")
    if found:
        bare = params.model_copy(update={"allow": ()})
        with pytest.raises(ConfigError):
            require_base_only(bare, found)


@each
def test_every_source_that_files_must_be_put_at_lies_below_one_folder(recipe: Path) -> None:
    sources = values_of(recipe)["curate"]["sources"]
    assert {source["role"] for source in sources} >= {"domain", "replay", "instruction", "eval"}
    for source in sources:
        path = source.get("path", "data/sources/")
        assert path.startswith("data/sources/") or (FOLDER.parent / path).is_file()


@each
def test_licences_of_the_sources_pass_the_recipes_own_filter(recipe: Path) -> None:
    curate = values_of(recipe)["curate"]
    assert {source["licence"] for source in curate["sources"]} <= {*curate["licences"]["allow"]}


@each
def test_the_launch_files_are_written_and_hold(recipe: Path, tmp_path: Path) -> None:
    params = section(recipe, CptParams, "cpt")
    if params.launch.kind == "torchrun" and params.engine == "hf":
        words = launcher_words(params.launch, tmp_path / "job.json")
        assert f"--nproc-per-node={params.launch.processes_per_node}" in words
        return
    shards = tmp_path / "shards"
    length = 8
    shards.mkdir()
    meta = {"length_tokens": length, "dtype": "uint32", "eos_id": 0}
    (shards / "meta.json").write_text(json.dumps(meta))
    for name, rows in (("train", 100000), ("validation_domain", 1), ("validation_replay", 1)):
        (shards / f"{name}.bin").write_bytes(bytes(4 * length * rows))
    written = write_files(
        params, tmp_path / "out", base=tmp_path, shards=shards, checkpoint=tmp_path / "end"
    )
    scripts = {"1-import.sh", "2-train.sh", "3-export.sh"}
    wanted = scripts if params.engine == "megatron" else {"cpt.sbatch"}
    assert {file.name for file in written} == wanted


@each
def test_the_arithmetic_in_the_head_is_what_fit_computes_today(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    options = parse_options(text, where=recipe.name)
    block = render_block(report_of(recipe), options)
    assert replace_block(text, block, where=recipe.name) == text, (
        "run `forebear fit RECIPE --write`"
    )
    for shown in ("FLOP", "cost", "cluster", "verdict"):
        assert [line for line in block if shown in line]


@each
def test_pre_training_fits_the_cluster_that_the_recipe_names(recipe: Path) -> None:
    report = report_of(recipe)
    cpt = next(one for one in report.stages if one.stage == "cpt")
    assert cpt.verdict == FITS
    assert cpt.devices == report.cluster.devices


def test_one_recipe_fits_from_end_to_end() -> None:
    assert [file.stem for file in RECIPES if report_of(file).verdict == FITS] == ["qwen3-4b-tamil"]


def test_a_recipe_without_its_block_is_refused() -> None:
    with pytest.raises(ConfigError):
        replace_block("seed: 1\n", ["x"], where="x")
    assert replace_block(f"{BEGIN}\n{END}\n", ["x"], where="x") == "x\n"


@each
def test_both_readers_of_yaml_see_the_same_numbers(recipe: Path) -> None:
    strict, plain = parse_mapping(recipe.read_bytes(), where=recipe.name), values_of(recipe)
    for name in ("domain_tokens", "length_tokens"):
        assert strict["tokenize"][name] == plain["tokenize"][name]
    assert float(strict["tokenize"]["replay_share"]) == plain["tokenize"]["replay_share"]
