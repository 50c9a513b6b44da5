"""Merges of more weights than memory should hold: read part by part, written in shards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mergekit")
torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from forebear.errors import FormatError  # noqa: E402
from forebear.train.checkpoint import load_model  # noqa: E402
from forebear.train.merge import Branch, MergeParams, merge_checkpoints, run_merge_stage  # noqa: E402
from tests.support.family import nudge  # noqa: E402
from tests.unit.train.tiny import tree, write_checkpoint  # noqa: E402

REPOSITORY = Path(__file__).parents[3]
# the peak of memory of its own, from the system, sampled while the merge runs
_MEASURED = """
import json, sys, threading
from pathlib import Path
from forebear.train.merge import Branch, merge_checkpoints

def own_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

root, peak, done = Path(sys.argv[1]), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, own_bytes())

def merge(base, left, right, out):
    merge_checkpoints(
        "ties", base=base, branches=[Branch(left, 0.5, 0.5), Branch(right, 0.5, 0.5)],
        out=out, scratch=root / "scratch", seed=7, max_shard_mb=4,
    )

small = root / "small"
merge(*(small / name for name in ("base", "left", "right", "out")))  # libraries and their caches
before = own_bytes()
thread = threading.Thread(target=watch)
thread.start()
merge(*(root / name for name in ("base", "left", "right", "out")))
done.set()
thread.join()
print(json.dumps({"peak_bytes": peak - before}))
"""


def _family(folder: Path, hidden: int, layers: int = 2) -> dict[str, Path]:
    from transformers import AutoConfig, LlamaForCausalLM

    folders = {"base": write_checkpoint(folder / "base", hidden=hidden)}
    config = AutoConfig.from_pretrained(folders["base"])
    config.num_hidden_layers = layers
    LlamaForCausalLM(config).save_pretrained(folders["base"])
    for number, name in enumerate(("left", "right")):
        folders[name] = folder / name
        shutil.copytree(folders["base"], folders[name])
        nudge(folders[name], seed=number)
    return folders


def test_a_merge_holds_a_small_part_of_its_inputs_in_memory(tmp_path: Path) -> None:
    folders = _family(tmp_path, 256, layers=12)
    _family(tmp_path / "small", 32)
    inputs = sum((folder / "model.safetensors").stat().st_size for folder in folders.values())
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak = json.loads(done.stdout.splitlines()[-1])["peak_bytes"]
    assert 0 < peak < 0.3 * inputs, f"{peak} bytes for inputs of {inputs}"
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 4


def test_shards_load_to_the_weights_of_one_file(tmp_path: Path) -> None:
    folders = _family(tmp_path, 256)

    def merge(name: str, **shard: int) -> Path:
        merge_checkpoints(
            "dare_ties",
            base=folders["base"],
            branches=[Branch(folders[one], 0.5, 0.5) for one in ("left", "right")],
            out=tmp_path / name,
            scratch=tmp_path / "scratch",
            seed=7,
            dtype="float32",
            **shard,
        )
        return tmp_path / name

    one, many = merge("one"), merge("many", max_shard_mb=1)
    files = sorted(many.glob("*.safetensors"))
    assert len(files) > 2
    largest = max(one.stat().st_size for one in files)
    assert largest < 2e6
    left, right = load_model(one).state_dict(), load_model(many).state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_weights_too_large_to_load_are_examined_where_they_lie(tmp_path: Path) -> None:
    folders = _family(tmp_path, 32)
    section = {
        "seed": 1,
        "method": "linear",
        "weights": {"distill": 0.5, "prefer": 0.5},
        "densities": {"distill": 0.6, "prefer": 0.6},
    }

    def run(**changes: object) -> dict[str, object]:
        run_merge_stage(
            MergeParams.model_validate({**section, **changes}),
            base=folders["base"],
            distill=folders["left"],
            prefer=folders["right"],
            out=tmp_path / "out",
            metrics=tmp_path / "metrics.json",
        )
        found: dict[str, object] = json.loads((tmp_path / "metrics.json").read_bytes())
        return found

    loaded, weights = run(), tree(tmp_path / "out")
    examined = run(load_up_to_gb=0)
    assert tree(tmp_path / "out") == weights
    assert loaded.pop("logits_last_sha256")
    assert examined.pop("logits_last_sha256") is None
    assert examined == loaded
    file = folders["left"] / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(FormatError, match=r"model\.norm\.weight holds a value that is not finite"):
        run(load_up_to_gb=0)
