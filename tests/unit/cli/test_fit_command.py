"""``forebear fit``: what it says, the block that it writes, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from forebear.cli.main import _run

RECIPES = Path(__file__).parents[3] / "recipes"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = _run(["fit", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out + out.err


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code, text = run(capsys, *words, "--json")
    return code, json.loads(text)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return Path(shutil.copy(RECIPES / "qwen3-4b-tamil.yaml", tmp_path / "params.yaml"))


def test_a_recipe_that_fits_ends_in_0_and_shows_each_stage(recipe: Path, capsys) -> None:
    code, text = run(capsys, recipe)
    assert code == 0
    for shown in ("cpt", "sft", "prefer, simpo", "8 x H200-141GB", "verdict  fits", "assumed:"):
        assert shown in text


def test_one_that_does_not_fit_ends_in_1(recipe: Path, capsys) -> None:
    code, body = as_json(capsys, recipe, "--hardware", "8xL4-24GB")
    assert code == 1
    assert body["verdict"] == "does not fit"
    cpt, sft = body["stages"][:2]
    assert sft["peak_bytes"] > sft["budget_bytes"]
    assert cpt["peak_bytes"] == sum(term["size_bytes"] for term in cpt["terms"])


def test_an_unknown_model_ends_in_3_and_a_users_row_helps(
    recipe: Path, tmp_path: Path, capsys
) -> None:
    recipe.write_text(recipe.read_text().replace("Qwen/Qwen3-4B-Base", "us/own-4b"))
    code, body = as_json(capsys, recipe)
    assert (code, body["verdict"]) == (3, "unknown")
    assert "us/own-4b" in body["reason"]
    facts = tmp_path / "facts.yaml"
    packaged = (RECIPES.parent / "forebear/data/models.yaml").read_text()
    facts.write_text(packaged.replace("Qwen/Qwen3-4B-Base", "us/own-4b"))
    assert run(capsys, recipe, "--facts", facts)[0] == 0


def test_options_of_the_call_go_before_those_of_the_recipe(recipe: Path, capsys) -> None:
    _, cheap = as_json(capsys, recipe)
    _, dear = as_json(capsys, recipe, "--price", 6)
    assert dear["stages"][0]["cost"] == pytest.approx(2 * cheap["stages"][0]["cost"])
    _, short = as_json(capsys, recipe, "--row-tokens", 512)
    assert 2 * short["stages"][1]["tokens"] == cheap["stages"][1]["tokens"]


def test_write_puts_the_arithmetic_into_the_recipe_and_changes_nothing_else(
    recipe: Path, capsys
) -> None:
    before = recipe.read_text()
    assert run(capsys, recipe, "--write")[0] == 0
    assert recipe.read_text() == before
    assert run(capsys, recipe, "--write", "--hardware", "8xMI300X-192GB")[0] == 0
    after = recipe.read_text()
    assert "8 x MI300X-192GB" in after
    assert after[after.index("seed:") :] == before[before.index("seed:") :]


def test_verbose_shows_every_formula(recipe: Path, capsys) -> None:
    _, text = run(capsys, recipe, "--verbose")
    assert "AdamW moments: 8 B x 4022272000 / 8 devices" in text


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--hardware", "8xNOTHING"], 2),
        (["--nodes", "0"], 2),
        (["--mfu", "1.5"], 2),
        (["--facts", "no-such-file"], 4),
    ],
)
def test_wrong_options_are_refused(recipe: Path, words: list[str], code: int, capsys) -> None:
    assert run(capsys, recipe, *words)[0] == code


def test_a_recipe_without_hardware_asks_for_it(recipe: Path, capsys) -> None:
    text = recipe.read_text()
    recipe.write_text(text[text.index("seed:") :])
    code, said = run(capsys, recipe)
    assert code == 2
    assert "--hardware" in said
    assert run(capsys, recipe, "--hardware", "8xH200-141GB", "--row-tokens", 1024)[0] == 0


def test_a_missing_recipe_and_one_that_is_no_yaml(tmp_path: Path, capsys) -> None:
    assert run(capsys, tmp_path / "none.yaml")[0] == 4
    broken = tmp_path / "broken.yaml"
    broken.write_text("seed: [")
    assert run(capsys, broken)[0] == 2
