"""A signed release whose checkpoints are real: a parent, a tuned and an adapted child, their merge.

The pipeline is ``sft`` → ``distill``, ``prefer`` → ``merge`` → ``attest``; weights are those of a
two-layer Llama. The merge is made by the real code, so that it can be recomputed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from forebear.pipeline import Out, Pipeline, Stage
from forebear.release.attest import Terms, attest
from forebear.release.owner import KeyOwner
from forebear.signing.keys import create_key, load_signer
from tests.support.release import Simulated, commit, write
from tests.unit.train.tiny import write_checkpoint

NAMES = ("sft", "distill", "prefer", "merge")
MERGED = "data/merge/checkpoint"
ADAPTER = "data/prefer/adapter"
PARAMS: dict[str, Any] = {
    "seed": 7,
    "merge": {
        "method": "ties",
        "weights": {"distill": 0.5, "prefer": 0.5},
        "densities": {"distill": 0.5, "prefer": 0.5},
        "dtype": "bfloat16",
    },
    "attest": {"serial": 1},
}
Edit = Callable[[Path], object]


def checkpoint(name: str) -> str:
    """Path of the stage's checkpoint."""
    return f"data/{name}/checkpoint"


def family_pipeline(
    root: Path, ship: tuple[str, ...], params: Mapping[str, Any] = PARAMS, branch: str = ""
) -> Pipeline:
    """The five stages; ``branch`` is what is merged of ``prefer``, its checkpoint by default."""
    branch = branch or checkpoint("prefer")
    commands = {
        "sft": ([], ""),
        "distill": (["sft"], f"--teacher {checkpoint('sft')}"),
        "prefer": (["sft"], f"--start {checkpoint('sft')} --adapter {ADAPTER}"),
        "merge": (
            ["sft", "distill", "prefer"],
            " ".join(
                (
                    *(f"--base {checkpoint('sft')}", f"--distill {checkpoint('distill')}"),
                    *(f"--prefer {branch}", "--metrics data/merge/metrics.json"),
                )
            ),
        ),
    }
    stages = []
    for name, (parents, options) in commands.items():
        deps = [
            branch if (name, one) == ("merge", "prefer") else checkpoint(one) for one in parents
        ]
        outs = [Out(checkpoint(name), is_dir=True, kind="model")]
        outs += [Out(ADAPTER, is_dir=True)] if name == "prefer" else []
        shipped = [checkpoint(name)] * (name in ship) + [ADAPTER] * (name == "prefer" in ship)
        stages.append(
            Stage(
                name=name,
                cmd=f"forebear record {name} -- python -m stages.{name} {options} "
                f"--out {checkpoint(name)}",
                deps=tuple(sorted([*deps, f"stages/{name}.py"])),
                params={"seed": 7, **({"merge": params["merge"]} if name == "merge" else {})},
                outs=(*outs, Out(f"links/{name}.link", is_dir=False)),
                meta={"forebear": {"ship": shipped}} if shipped else {},
            )
        )
    stages.append(
        Stage(
            name="attest",
            cmd="forebear record attest -- python -m stages.attest --release release",
            deps=(*sorted(f"links/{name}.link" for name in NAMES), "stages/attest.py"),
            params={"seed": 7, "attest": params["attest"]},
            outs=(Out("links/attest.link", is_dir=False), Out("release")),
        )
    )
    return Pipeline(root=root, stages=tuple(stages))


def build_family(
    folder: Path,
    *,
    edit: Mapping[str, Edit] | None = None,
    ship: tuple[str, ...] = NAMES,
    method: str = "ties",
    branch: str = "",
) -> Simulated:
    """A repository in ``folder/repo`` and its release in ``folder/packed``.

    Args:
        folder: empty.
        edit: by stage name, what to change in the repository before the stage's link is signed.
        ship: stages whose checkpoints the release carries.
        method: of the merge.
        branch: what is merged of ``prefer``: its checkpoint when left out, or :data:`ADAPTER`.
    """
    repo = folder / "repo"
    params = {**PARAMS, "merge": {**PARAMS["merge"], "method": method}}
    private, _ = create_key("recorder", folder / "keys", None)
    owner_file, owner_pub = create_key("owner", folder / "keys", None)
    pipeline = family_pipeline(repo, ship, params, branch)
    for name in (*NAMES, "attest"):
        write(repo, f"stages/{name}.py", f"# {name}\n")
    write(repo, ".gitignore", "/data/\n/links/\n/release/\n")
    write(repo, "params.yaml", yaml.safe_dump(params))
    write(repo, "dvc.yaml", "stages: {}\n")
    write(repo, "dvc.lock", "schema: '2.0'\nstages: {}\n")
    commit(repo)
    built = Simulated(
        repo=repo,
        packed=folder / "packed",
        owner_pub=owner_pub,
        recorder=load_signer(private),
        owner=load_signer(owner_file),
        owner_file=owner_file,
        pipeline=pipeline,
    )
    for name in NAMES:
        _make(repo, name, method=method, branch=branch)
        (edit or {}).get(name, lambda _: None)(repo)
        built.record(name)
    attest(
        repo, pipeline, KeyOwner(built.owner, owner_file), recorders=[built.recorder.public],
        gate=None, documents=None, release="release", terms=Terms(documents="none"),
    )  # fmt: skip
    built.record("attest")
    built.pack()
    return built


def nudge(folder: Path, *, seed: int, by: float = 0.01) -> None:
    """Changes every tensor a little, as training does."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(seed)
    file = folder / "model.safetensors"
    tensors = {name: one + by * torch.randn_like(one) for name, one in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def adapt(
    parent: Path,
    child: Path,
    adapter: Path,
    *,
    rank: int = 4,
    dtype: str = "float32",
    seed: int = 3,
) -> None:
    """Writes a LoRA adapter of ``parent`` and the checkpoint that merging it gives, by PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    from forebear.train.checkpoint import load_model, load_tokenizer, save_checkpoint

    torch.manual_seed(seed)
    model = load_model(parent)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM",
        init_lora_weights=False,
    )  # fmt: skip
    tuned = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.mul_(0.1)
    tuned.save_pretrained(adapter)
    (adapter / "README.md").unlink(missing_ok=True)
    save_checkpoint(tuned.merge_and_unload(), load_tokenizer(parent), child)
    file = child / "model.safetensors"
    tensors = {name: one.to(getattr(torch, dtype)) for name, one in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


def merge(repo: Path, out: Path, **changes: Any) -> None:
    """Merges the branches in ``repo`` as the stage does; ``changes`` replace its values."""
    from forebear.train.merge import Branch, merge_checkpoints
    from forebear.train.stage import stage_seed

    values = {"method": "ties", "weight": 0.5, "branch": "", **changes}
    merge_checkpoints(
        values["method"],
        base=repo / checkpoint("sft"),
        branches=[
            Branch(repo / checkpoint("distill"), values["weight"], 0.5),
            Branch(repo / (values["branch"] or checkpoint("prefer")), 0.5, 0.5),
        ],
        out=out,
        scratch=repo.parent / "scratch",
        seed=stage_seed(7, "merge"),
        dtype="bfloat16",
    )


def _make(repo: Path, name: str, *, method: str, branch: str) -> None:
    folder = repo / checkpoint(name)
    if name == "sft":
        write_checkpoint(folder)
    elif name == "distill":
        shutil.copytree(repo / checkpoint("sft"), folder)
        nudge(folder, seed=1)
    elif name == "prefer":
        adapt(repo / checkpoint("sft"), folder, repo / ADAPTER)
        config = repo / ADAPTER / "adapter_config.json"
        value = json.loads(config.read_text())
        config.write_text(json.dumps({**value, "base_model_name_or_path": checkpoint("sft")}))
    else:
        merge(repo, folder, method=method, branch=branch)
