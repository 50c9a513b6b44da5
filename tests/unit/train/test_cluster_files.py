"""What a cluster needs is written from the params and checked; nothing of it runs here."""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebear.errors import ConfigError, FormatError, UsageError
from forebear.train.cpt_params import CptParams
from forebear.train.launch.__main__ import write_files
from forebear.train.launch.commands import launcher_words
from forebear.train.launch.megatron import require_known, write_index
from forebear.train.launch.slurm import render_job, require_job
from forebear.train.stage import validate_section
from tests.unit.train.processes import LENGTH, REPOSITORY, write_shards

SLURM = {
    "kind": "slurm",
    "processes": 16,
    "nodes": 2,
    "sharding": "fsdp2",
    "slurm": {"time": "1-00:00:00", "gpus_per_node": 8, "partition": "gpu", "account": "lab"},
}
MEGATRON = {"bridge": "/opt/Megatron-Bridge", "recipe": "qwen3_8b_pretrain_config", "tensor": 4}


def params(**changed: Any) -> CptParams:
    section = {
        "lr": 1e-5, "epochs": 2, "batch_sequences": 16, "grad_accumulation": 2,
        "warmup_ratio": 0.1, "max_grad_norm": 1.0, "checkpoint_every_tokens": 64 * LENGTH,
        "max_forgetting": 0.5, "launch": SLURM,
    }  # fmt: skip
    found = validate_section(CptParams, "cpt", {"seed": 3, "cpt": {**section, **changed}})
    assert isinstance(found, CptParams)
    return found


def with_megatron(**changed: Any) -> CptParams:
    launch = {**SLURM, "sharding": "none"}
    return params(engine="megatron", launch=launch, megatron={**MEGATRON, **changed})


def test_job_asks_for_what_the_params_say_and_runs_the_recorded_stage() -> None:
    lines = render_job(params()).splitlines()
    assert lines[0] == "#!/bin/bash"
    for wanted in ("--nodes=2", "--gpus-per-node=8", "--time=1-00:00:00", "--partition=gpu"):
        assert f"#SBATCH {wanted}" in lines
    assert "#SBATCH --requeue" in lines
    assert "dvc repro --single-item cpt &" in lines


def test_job_without_graphics_cards_or_queue_leaves_them_out() -> None:
    slurm = {"time": "01:00:00", "gpus_per_node": 0, "setup": ["module load python"]}
    text = render_job(params(launch={**SLURM, "slurm": slurm}))
    assert "gpus" not in text
    assert "partition" not in text
    assert "\nmodule load python\n" in text


def test_setup_that_is_no_shell_is_refused() -> None:
    slurm = {"time": "01:00:00", "setup": ["if true; then"]}
    with pytest.raises(FormatError, match="no bash script"):
        render_job(params(launch={**SLURM, "slurm": slurm}))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("--nodes=2", "--node=2", "unknown option"),
        ("--nodes=2", "--nodes=two", "bad value"),
        ("#SBATCH --time=1-00:00:00\n", "", "lacks --time"),
        ("set -euo pipefail", "set -euo pipefail (", "no bash script"),
    ],
)
def test_a_changed_job_file_is_refused(old: str, new: str, said: str) -> None:
    text = render_job(params())
    require_job(text)
    assert old in text
    with pytest.raises(FormatError, match=said):
        require_job(text.replace(old, new))


def test_slurm_starts_one_torchrun_on_each_machine() -> None:
    words = launcher_words(params().launch, Path("/w/job.json"), meet_at="n1", job_id="7")
    assert words[:4] == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert "--nproc-per-node=8" in words
    assert "--rdzv-endpoint=n1:29500" in words
    from torch.distributed.run import get_args_parser

    at = words.index("torch.distributed.run") + 1
    parsed = get_args_parser().parse_args(words[at:])
    assert (parsed.nnodes, parsed.nproc_per_node, parsed.module) == ("2", "8", True)
    assert parsed.training_script == "forebear.train.launch.worker"


def test_launchers_take_every_word_that_they_are_given() -> None:
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    job = Path("/w/job.json")
    for kind, parser, at in (
        ("torchrun", get_args_parser(), "torch.distributed.run"),
        ("accelerate", launch_command_parser(), "accelerate.commands.launch"),
    ):
        launch = params(launch={"kind": kind, "processes": 2}).launch
        words = launcher_words(launch, job)
        parsed = parser.parse_args(words[words.index(at) + 1 :])
        assert parsed.training_script == "forebear.train.launch.worker"
        assert parsed.training_script_args == [str(job)]


def megatron_files(folder: Path, found: CptParams) -> dict[str, str]:
    shards = write_shards(folder / "shards", n=100)
    base, out = folder / "base", folder / "out of it"
    written = write_files(found, folder / "files", base=base, shards=shards, checkpoint=out)
    return {file.name: file.read_text(encoding="utf-8") for file in written}


def test_megatron_is_given_the_values_of_the_params(tmp_path: Path) -> None:
    files = megatron_files(tmp_path, with_megatron())
    assert list(files) == ["1-import.sh", "2-train.sh", "3-export.sh"]
    line = next(x for x in files["2-train.sh"].splitlines() if x.startswith("srun"))
    values = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
    # 100 sequences are three whole steps of 32 in each of two epochs
    assert values["train.train_iters"] == "6"
    assert values["train.global_batch_size"] == "32"
    assert values["train.micro_batch_size"] == "4"  # 16 sequences over 16 / 4 copies of the model
    assert values["checkpoint.save_interval"] == "2"
    assert values["model.tensor_model_parallel_size"] == "4"
    assert values["scheduler.lr_decay_style"] == "cosine"
    assert values["dataset.blend"] == f"[[{tmp_path / 'files' / 'train'}],null]"
    assert shlex.split(files["3-export.sh"].splitlines()[-1])[-2] == str(tmp_path / "out of it")
    assert "not run" in files["1-import.sh"]


def test_megatrons_decay_follows_the_schedule(tmp_path: Path) -> None:
    found = params(
        schedule="warmup_stable_decay", decay_ratio=0.5, engine="megatron", megatron=MEGATRON,
        launch={"kind": "torchrun", "processes": 8},
    )  # fmt: skip
    text = megatron_files(tmp_path, found)["2-train.sh"]
    assert "scheduler.lr_decay_style=WSD" in text
    assert "scheduler.lr_wsd_decay_iters=3" in text
    assert "srun" not in text
    assert "recompute" not in text
    again = params(
        engine="megatron", megatron=MEGATRON, launch={"kind": "torchrun", "processes": 8},
        activation_checkpointing=True,
    )  # fmt: skip
    assert "model.recompute_granularity=full" in megatron_files(tmp_path / "2", again)["2-train.sh"]


def test_megatron_with_an_unknown_option_is_refused() -> None:
    good = ["python", "examples/conversion/convert_checkpoints.py", "import", "--hf-model", "x"]
    require_known(good)
    with pytest.raises(FormatError, match="no option --hf-modle"):
        require_known([*good[:3], "--hf-modle", "x"])
    train = ["torchrun", "scripts/training/run_recipe.py", "--recipe", "r"]
    require_known([*train, "train.train_iters=3"])
    with pytest.raises(FormatError, match=r"no value train\.iters"):
        require_known([*train, "train.iters=3"])


def test_megatron_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="do not divide into models split over 12"):
        with_megatron(tensor=4, pipeline=3)
    assert with_megatron(tensor=4, pipeline=2).replicas == 2


def test_megatrons_index_names_every_sequence(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", n=5)
    file = tmp_path / "train.idx"
    write_index(file, n_sequences=5, length_tokens=LENGTH, dtype="<u2")
    data = file.read_bytes()
    # as megatron.core.datasets.indexed_dataset reads it
    assert data[:9] == b"MMIDIDX\x00\x00"
    version, code, n_sequences, n_documents = struct.unpack_from("<QBQQ", data, 9)
    assert (version, code, n_sequences, n_documents) == (1, 8, 5, 6)
    at = 34
    lengths = np.frombuffer(data, "<i4", 5, at)
    offsets = np.frombuffer(data, "<i8", 5, at + 20)
    documents = np.frombuffer(data, "<i8", 6, at + 60)
    assert len(data) == at + 60 + 48
    tokens = (shards / "train.bin").read_bytes()
    whole = np.frombuffer(tokens, "<u2").reshape(5, LENGTH)
    for number in documents[:-1]:
        found = np.frombuffer(tokens, np.uint16, lengths[number], offsets[number])
        assert (found == whole[number]).all()
    with pytest.raises(FormatError, match="no type"):
        write_index(file, n_sequences=5, length_tokens=LENGTH, dtype="<u8")


def test_params_that_need_no_files_say_so_and_megatron_wants_its_paths(tmp_path: Path) -> None:
    nothing = {"base": None, "shards": None, "checkpoint": None}
    with pytest.raises(ConfigError, match="need no files"):
        write_files(params(launch={"kind": "local"}), tmp_path, **nothing)
    with pytest.raises(UsageError, match="--base"):
        write_files(with_megatron(), tmp_path, **nothing)


def test_the_command_writes_the_job_of_the_params_file(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    section = params().model_dump(mode="json", exclude={"seed", "megatron"})
    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as handle:
        YAML(typ="safe").dump({"seed": 3, "cpt": section}, handle)
    env = {name: value for name, value in os.environ.items() if name != "FOREBEAR_PARAMS"}
    done = subprocess.run(
        [sys.executable, "-m", "forebear.train.launch", "--out", "job"],
        cwd=tmp_path, env={**env, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cpt.sbatch: written, not run" in done.stderr
    require_job((tmp_path / "job" / "cpt.sbatch").read_text(encoding="utf-8"))
