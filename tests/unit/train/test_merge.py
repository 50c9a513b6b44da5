"""Merges: what the arithmetic gives, what is refused before it, and equal bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    **changes: Any,
) -> dict[str, torch.Tensor]:
    merge_checkpoints(
        method,
        base=family["base"],
        branches=[Branch(family[name], 0.5, density) for name in ("distill", "prefer")],
        out=out,
        scratch=out.parent / "scratch",
        dtype=dtype,
        **{"seed": 7, **changes},
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


MATRIX = "model.layers.0.mlp.up_proj.weight"


def _updates(
    family: dict[str, Path], merged: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How far one matrix of the merge, of ``distill`` and of ``prefer`` is from the base's."""
    base, left, right = (
        load_file(family[name] / "model.safetensors")[MATRIX]
        for name in ("base", "distill", "prefer")
    )
    return merged[MATRIX] - base, left - base, right - base


def test_ties_keeps_the_largest_changes_and_the_sign_that_outweighs(
    family: dict[str, Path], tmp_path: Path
) -> None:
    merged, left, right = _updates(family, _merge(family, "ties", tmp_path / "w", density=1.0))
    total = left + right
    clear = total.abs() > 1e-4
    assert torch.equal(merged.sign()[clear], total.sign()[clear])
    kept, left, right = _updates(family, _merge(family, "ties", tmp_path / "few", density=0.2))
    largest = torch.maximum(left.abs(), right.abs())
    changed = kept.abs() > 1e-6
    assert 0.2 <= float(changed.float().mean()) <= 0.4
    assert float(largest[changed].min()) > 0.8 * float(largest[~changed].max())


def test_dare_drops_changes_at_random_and_scales_up_the_rest(
    family: dict[str, Path], tmp_path: Path
) -> None:
    shutil.rmtree(family["prefer"])
    shutil.copytree(family["base"], family["prefer"])
    drawn = {seed: _merge(family, "dare_ties", tmp_path / f"{seed}", seed=seed) for seed in (7, 8)}
    merged, moved, _ = _updates(family, drawn[7])
    changed = merged.abs() > 1e-6
    assert 0.4 < float(changed.float().mean()) < 0.6
    ratio = (merged / moved)[changed & (moved.abs() > 1e-3)]
    assert float(ratio.std()) < 0.01 * float(ratio.mean())
    other, _, _ = _updates(family, drawn[8])
    assert not torch.equal(changed, other.abs() > 1e-6)


@pytest.mark.parametrize(("t", "name"), [(0.0, "distill"), (1.0, "prefer")])
def test_slerp_goes_from_one_checkpoint_to_the_other(
    family: dict[str, Path], tmp_path: Path, t: float, name: str
) -> None:
    merged = _merge(family, "slerp", tmp_path / "out", t=t)
    for key, tensor in load_file(family[name] / "model.safetensors").items():
        torch.testing.assert_close(merged[key], tensor, atol=1e-6, rtol=1e-5)


def test_slerp_keeps_the_length_that_a_mean_loses(family: dict[str, Path], tmp_path: Path) -> None:
    shutil.rmtree(family["prefer"])
    write_checkpoint(family["prefer"], seed=5)  # unrelated, so nearly at a right angle
    lengths = [
        float(_merge(family, method, tmp_path / method, t=0.5)[MATRIX].norm())
        for method in ("slerp", "linear")
    ]
    whole = float(load_file(family["prefer"] / "model.safetensors")[MATRIX].norm())
    assert lengths[0] == pytest.approx(whole, rel=0.1)
    assert lengths[1] < 0.8 * whole


def test_weights_lean_to_their_branch(family: dict[str, Path], tmp_path: Path) -> None:
    branches = [Branch(family["distill"], 0.9, 1.0), Branch(family["prefer"], 0.1, 1.0)]
    out = tmp_path / "out"
    merge_checkpoints(
        "linear", base=family["base"], branches=branches, out=out, scratch=tmp_path / "s", seed=1
    )
    assert relative_distance(out, family["distill"]) < relative_distance(out, family["prefer"]) / 3


def test_no_weight_at_all_is_refused() -> None:
    section = {"densities": {"distill": 0.5, "prefer": 0.5}, "seed": 1}
    with pytest.raises(ValueError, match="one of the weights must be above zero"):
        MergeParams.model_validate({**section, "weights": {"distill": 0.0, "prefer": 0.0}})
    MergeParams.model_validate({**section, "weights": {"distill": 0.0, "prefer": 0.5}})


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


def test_another_architecture_is_refused_with_the_tensor_named(
    family: dict[str, Path], tmp_path: Path
) -> None:
    shutil.rmtree(family["prefer"])
    write_checkpoint(family["prefer"], hidden=64)
    _configure(family["prefer"], architectures=["OtherForCausalLM"])
    with pytest.raises(FormatError, match=r"OtherForCausalLM.*model\.embed_tokens\.weight"):
        _merge(family, "ties", tmp_path / "out")


def _configure(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_equal_tensors_that_are_computed_with_otherwise_are_refused(
    family: dict[str, Path], tmp_path: Path
) -> None:
    _configure(family["prefer"], use_cache=False, pad_token_id=1)
    _merge(family, "linear", tmp_path / "out")  # these change no number
    _configure(family["prefer"], rms_norm_eps=0.1)
    with pytest.raises(FormatError, match=r"rms_norm_eps is 0\.1, the base's is 1e-06"):
        _merge(family, "linear", tmp_path / "out")


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
