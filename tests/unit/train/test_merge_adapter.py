"""Adapters as branches of a merge: added to their own base, refused where they do not belong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mergekit")
torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from forebear.errors import FormatError  # noqa: E402
from forebear.train.adapter import add_adapter  # noqa: E402
from forebear.train.merge import Branch, MergeParams, merge_checkpoints, run_merge_stage  # noqa: E402
from tests.support.family import adapt, nudge  # noqa: E402
from tests.unit.train.tiny import tree, write_checkpoint  # noqa: E402


@pytest.fixture
def family(tmp_path: Path) -> dict[str, Path]:
    """A base, a tuned sibling, an adapter of the base, and the checkpoint PEFT makes of it."""
    names = ("base", "distill", "adapter", "whole")
    folders = {name: tmp_path / name for name in names}
    write_checkpoint(folders["base"])
    shutil.copytree(folders["base"], folders["distill"])
    nudge(folders["distill"], seed=1)
    adapt(folders["base"], folders["whole"], folders["adapter"])
    return folders


def _configure(adapter: Path, **changes: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _merge(family: dict[str, Path], prefer: Branch, out: Path) -> dict[str, bytes]:
    merge_checkpoints(
        "ties",
        base=family["base"],
        branches=[Branch(family["distill"], 0.5, 0.5), prefer],
        out=out,
        scratch=out.parent / "scratch",
        seed=7,
    )
    return tree(out)


def test_an_adapter_merges_to_the_bytes_of_the_checkpoint_that_peft_makes_of_it(
    family: dict[str, Path], tmp_path: Path
) -> None:
    whole = _merge(family, Branch(family["whole"], 0.5, 0.5), tmp_path / "out" / "whole")
    adapter = _merge(family, Branch(family["adapter"], 0.5, 0.5), tmp_path / "out" / "adapter")
    assert adapter == whole
    base = _merge(family, Branch(family["base"], 0.5, 0.5), tmp_path / "out" / "base")
    assert adapter != base


@pytest.mark.parametrize(
    "changes", [{"use_rslora": True}, {"lora_alpha": 3}, {"alpha_pattern": {"q_proj": 64}}]
)
def test_the_scale_of_an_adapter_is_heeded(
    family: dict[str, Path], tmp_path: Path, changes: dict[str, object]
) -> None:
    _configure(family["adapter"], **changes)
    add_adapter(family["base"], family["adapter"], tmp_path / "scaled")
    from peft import PeftModel

    from forebear.train.checkpoint import load_model

    tuned = PeftModel.from_pretrained(load_model(family["base"]), str(family["adapter"]))
    expected = tuned.merge_and_unload().state_dict()
    found = load_file(tmp_path / "scaled" / "model.safetensors")
    plain = load_file(family["whole"] / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.weight"
    assert not torch.equal(found[name], plain[name])
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=0)


def test_an_update_is_not_rounded_to_the_type_of_its_base(
    family: dict[str, Path], tmp_path: Path
) -> None:
    file = family["base"] / "model.safetensors"
    half = {name: one.to(torch.bfloat16) for name, one in load_file(file).items()}
    save_file(half, file, metadata={"format": "pt"})
    add_adapter(family["base"], family["adapter"], tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    kinds = {name: one.dtype for name, one in found.items()}
    assert kinds["model.layers.0.mlp.up_proj.weight"] == torch.float32
    assert kinds["model.norm.weight"] == torch.bfloat16


def test_an_adapter_of_another_checkpoint_wants_that_checkpoint(
    family: dict[str, Path], tmp_path: Path
) -> None:
    """The usual trap: the adapter fits by its shapes, so it would be added to the wrong weights."""
    cpt = tmp_path / "cpt"
    shutil.copytree(family["base"], cpt)
    nudge(cpt, seed=5)
    _configure(family["adapter"], base_model_name_or_path="data/cpt/checkpoint")
    with pytest.raises(FormatError, match="belongs to the checkpoint 'data/cpt/checkpoint'"):
        _merge(family, Branch(family["adapter"], 0.5, 0.5), tmp_path / "out" / "wrong")
    named = Branch(family["adapter"], 0.5, 0.5, adapter_base=cpt)
    right = _merge(family, named, tmp_path / "out" / "right")
    add_adapter(cpt, family["adapter"], tmp_path / "whole-cpt")
    assert right == _merge(family, Branch(tmp_path / "whole-cpt", 0.5, 0.5), tmp_path / "out" / "w")


def test_a_base_for_what_is_no_adapter_is_refused(family: dict[str, Path], tmp_path: Path) -> None:
    branch = Branch(family["whole"], 0.5, 0.5, adapter_base=family["base"])
    with pytest.raises(FormatError, match="is no adapter"):
        _merge(family, branch, tmp_path / "out")


@pytest.mark.parametrize(
    "changes",
    [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]},
     {"init_lora_weights": "pissa"}],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_cannot_be_added_tensor_by_tensor_is_refused_by_name(
    family: dict[str, Path], tmp_path: Path, changes: dict[str, object]
) -> None:
    _configure(family["adapter"], **changes)
    with pytest.raises(FormatError, match=next(iter(changes))) as caught:
        add_adapter(family["base"], family["adapter"], tmp_path / "out")
    assert caught.value.where == str(family["adapter"] / "adapter_config.json")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_width_is_refused_with_the_tensor_named(
    family: dict[str, Path], tmp_path: Path
) -> None:
    wide = write_checkpoint(tmp_path / "wide", hidden=64)
    with pytest.raises(FormatError, match=r"q_proj|down_proj") as caught:
        add_adapter(wide, family["adapter"], tmp_path / "out")
    assert caught.value.where.endswith("adapter_model.safetensors")


def test_an_adapter_that_lacks_a_factor_or_is_cut_short_is_refused(
    family: dict[str, Path], tmp_path: Path
) -> None:
    file = family["adapter"] / "adapter_model.safetensors"
    content, tensors = file.read_bytes(), load_file(file)
    gone = min(tensors)
    save_file({name: one for name, one in tensors.items() if name != gone}, file)
    with pytest.raises(FormatError, match="is missing") as caught:
        add_adapter(family["base"], family["adapter"], tmp_path / "out")
    assert gone in caught.value.what
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match="damaged or cut short"):
        add_adapter(family["base"], family["adapter"], tmp_path / "out")


def test_the_stage_tells_which_branch_was_an_adapter_and_of_what(
    family: dict[str, Path], tmp_path: Path
) -> None:
    from forebear.hashing.digest import hash_tree

    params = MergeParams.model_validate(
        {
            "seed": 1,
            "weights": {"distill": 0.5, "prefer": 0.5},
            "densities": {"distill": 0.6, "prefer": 0.6},
        }
    )
    run_merge_stage(
        params,
        base=family["base"],
        distill=family["distill"],
        prefer=family["adapter"],
        prefer_base=family["base"],
        out=tmp_path / "out",
        metrics=tmp_path / "metrics.json",
    )
    metrics = json.loads((tmp_path / "metrics.json").read_bytes())
    assert metrics["adapters"] == ["prefer"]
    assert metrics["inputs"]["prefer"] == hash_tree(family["adapter"]).digest
    assert metrics["inputs"]["prefer_base"] == metrics["inputs"]["base"]
    assert 0 < metrics["relative_distance"]["prefer"] < 1
