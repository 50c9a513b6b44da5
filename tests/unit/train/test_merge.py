"""Merges: what the arithmetic gives, what is refused before it, and equal bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mergekit")
torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from forebear.errors import FormatError  # noqa: E402
from forebear.train.merge import (  # noqa: E402
    Branch,
    MergeParams,
    Method,
    merge_checkpoints,
    relative_distance,
    run_merge_stage,
)
from tests.unit.train.tiny import tree, write_checkpoint  # noqa: E402


@pytest.fixture
def family(tmp_path: Path) -> dict[str, Path]:
    """A base and two branches that differ from it a little."""
    base = write_checkpoint(tmp_path / "base")
    folders = {"base": base}
    for number, name in enumerate(("distill", "prefer")):
        folders[name] = tmp_path / name
        shutil.copytree(base, folders[name])
        _nudge(folders[name], seed=number)
    return folders


def _nudge(folder: Path, *, seed: int) -> None:
    torch.manual_seed(seed)
    file = folder / "model.safetensors"
    tensors = {k: v + 0.01 * torch.randn_like(v) for k, v in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def _merge(
    family: dict[str, Path],
    method: Method,
    out: Path,
    *,
    dtype: str = "float32",
    density: float = 0.5,
) -> dict[str, torch.Tensor]:
    merge_checkpoints(
        method,
        base=family["base"],
        branches=[Branch(family[name], 0.5, density) for name in ("distill", "prefer")],
        out=out,
        scratch=out.parent / "scratch",
        seed=7,
        dtype=dtype,
    )
    tensors: dict[str, torch.Tensor] = load_file(out / "model.safetensors")
    return tensors


def test_linear_merge_of_two_is_their_mean(family: dict[str, Path], tmp_path: Path) -> None:
    merged = _merge(family, "linear", tmp_path / "out")
    left, right = (load_file(family[n] / "model.safetensors") for n in ("distill", "prefer"))
    assert merged.keys() == left.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (left[name] + right[name]) / 2)


@pytest.mark.parametrize("method", ["ties", "dare_ties", "linear", "slerp"])
def test_branches_equal_to_the_base_merge_to_the_base(
    method: Method, family: dict[str, Path], tmp_path: Path
) -> None:
    same = dict.fromkeys(("base", "distill", "prefer"), family["base"])
    same["prefer"] = tmp_path / "copy"
    shutil.copytree(family["base"], same["prefer"])
    merged = _merge(same, method, tmp_path / "out")
    for name, tensor in load_file(family["base"] / "model.safetensors").items():
        torch.testing.assert_close(merged[name], tensor)


def test_ties_follows_the_branch_where_the_other_did_not_move(
    family: dict[str, Path], tmp_path: Path
) -> None:
    shutil.rmtree(family["prefer"])
    shutil.copytree(family["base"], family["prefer"])
    merged = _merge(family, "ties", tmp_path / "out", density=1.0)
    base, moved = (load_file(family[n] / "model.safetensors") for n in ("base", "distill"))
    name = "model.norm.weight"
    assert not torch.equal(merged[name], base[name])
    grown = moved[name] > base[name]
    assert bool((merged[name][grown] > base[name][grown]).all())


_CLONE = """
import sys
from pathlib import Path
from forebear.train.merge import Branch, merge_checkpoints
root = Path(sys.argv[1])
for method in sys.argv[2:]:
    merge_checkpoints(
        method,
        base=root / "base",
        branches=[Branch(root / name, 0.5, 0.5) for name in ("distill", "prefer")],
        out=root / method,
        scratch=root / "scratch",
        seed=7,
    )
"""


def test_another_process_and_folder_give_the_same_bytes(
    family: dict[str, Path], tmp_path: Path
) -> None:
    methods: tuple[Method, ...] = ("ties", "dare_ties", "slerp")
    clone = tmp_path / "clone+1@home"
    for name, folder in family.items():
        shutil.copytree(folder, clone / name)
    subprocess.run(
        [sys.executable, "-c", _CLONE, str(clone), *methods],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parents[3],
    )
    for method in methods:
        _merge(family, method, tmp_path / method, dtype="bfloat16")
        assert tree(clone / method) == tree(tmp_path / method)


def test_out_holds_weights_configuration_and_tokenizer_only(
    family: dict[str, Path], tmp_path: Path
) -> None:
    _merge(family, "ties", tmp_path / "out", dtype="bfloat16")
    files = tree(tmp_path / "out")
    assert files.keys() == tree(family["base"]).keys()
    assert json.loads(files["config.json"])["dtype"] == "bfloat16"
    assert all(str(tmp_path).encode() not in content for content in files.values())


def test_stage_writes_figures_twice_alike(family: dict[str, Path], tmp_path: Path) -> None:
    params = MergeParams.model_validate(
        {
            "seed": 1,
            "weights": {"distill": 0.5, "prefer": 0.5},
            "densities": {"distill": 0.6, "prefer": 0.6},
        }
    )
    for number in ("1", "2"):
        out = tmp_path / number
        run_merge_stage(params, **family, out=out / "checkpoint", metrics=out / "metrics.json")
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    metrics = json.loads((tmp_path / "1" / "metrics.json").read_bytes())
    assert 0 < metrics["relative_distance"]["distill"] < 0.2
    assert metrics["relative_distance"]["base"] == pytest.approx(
        relative_distance(tmp_path / "1" / "checkpoint", family["base"])
    )


def test_another_width_is_refused_with_the_tensor_named(
    family: dict[str, Path], tmp_path: Path
) -> None:
    shutil.rmtree(family["prefer"])
    write_checkpoint(family["prefer"], hidden=64)
    with pytest.raises(FormatError) as caught:
        _merge(family, "ties", tmp_path / "out")
    assert "model.embed_tokens.weight" in caught.value.what
    assert caught.value.where == str(family["prefer"])
    assert not (tmp_path / "out").exists()


def test_a_missing_tensor_is_refused_by_name(family: dict[str, Path], tmp_path: Path) -> None:
    file = family["distill"] / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(FormatError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        _merge(family, "ties", tmp_path / "out")


def test_another_token_is_refused_by_name(family: dict[str, Path], tmp_path: Path) -> None:
    file = family["prefer"] / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    vocabulary = json.loads(text)
    vocabulary["model"]["vocab"]["ZZ"] = vocabulary["model"]["vocab"].pop("!")
    file.write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(FormatError, match="token 3 is 'ZZ', the base's is '!'"):
        _merge(family, "ties", tmp_path / "out")
