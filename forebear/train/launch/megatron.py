"""Files for training with Megatron Bridge: conversion there, launch, conversion back, data index.

Three scripts and one index are written from the params and checked; *none was run here*, where
there is no graphics card. The packed sequences are read in place: Megatron's index names each as
one document. Megatron draws its own order from the seed, so which sequences a checkpoint of such a
run has seen follows from Megatron's seed, not from our training log.

It refuses an option that is not in its table, so a misspelt one is found before a cluster is.

Source: NVIDIA-NeMo/Megatron-Bridge, ``examples/conversion/convert_checkpoints.py``,
``scripts/training/run_recipe.py`` and ``megatron.bridge.training.config``; the index format is that
of ``megatron/core/datasets/indexed_dataset.py`` in NVIDIA/Megatron-LM.
"""

from __future__ import annotations

import math
import shlex
import struct
from collections.abc import Sequence
from pathlib import Path

from forebear.errors import ConfigError, FormatError
from forebear.train.cpt_params import CptParams
from forebear.train.launch.settings import Megatron
from forebear.train.launch.slurm import require_shell

_HEADER = b"MMIDIDX\x00\x00"
_VERSION = 1
# Megatron has no unsigned 32-bit type; ids stay below 2^31, where both read the same.
_CODES = {"uint16": 8, "uint32": 4}
_CONVERT = "examples/conversion/convert_checkpoints.py"
_TRAIN = "scripts/training/run_recipe.py"
_FLAGS = {
    f"{_CONVERT} import": {"--hf-model", "--megatron-path", "--torch-dtype"},
    f"{_CONVERT} export": {"--hf-model", "--megatron-path", "--hf-path", "--no-progress"},
    _TRAIN: {"--recipe", "--seq_length"},
}
_OVERRIDES = {
    "train": {"train_iters", "global_batch_size", "micro_batch_size"},
    "optimizer": {"lr", "min_lr", "weight_decay", "clip_grad"},
    "scheduler": {
        "lr_decay_style", "lr_warmup_iters", "lr_decay_iters", "lr_wsd_decay_iters",
        "lr_wsd_decay_style", "start_weight_decay", "end_weight_decay",
    },
    "model": {
        "tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size",
        "expert_model_parallel_size", "seq_length", "recompute_granularity", "recompute_method",
        "recompute_num_layers",
    },
    "dataset": {
        "blend", "split", "seq_length", "reset_position_ids", "reset_attention_mask",
        "eod_mask_loss", "skip_getting_attention_mask_from_dataset", "path_to_cache",
    },
    "checkpoint": {"pretrained_checkpoint", "save", "load", "save_interval"},
    "rng": {"seed"},
}  # fmt: skip


_RECOMPUTED = {
    "model.recompute_granularity": "full",
    "model.recompute_method": "uniform",
    "model.recompute_num_layers": 1,
}


def render_files(
    params: CptParams, *, base: Path, shards: Path, work: Path, out: Path, n_sequences: int,
    length_tokens: int, seed: int,
) -> dict[str, str]:  # fmt: skip
    """The scripts by file name, in the order in which they are run; checked.

    Args:
        params: with engine ``megatron``.
        base: checkpoint in Hugging Face's format.
        shards: packed sequences.
        work: folder for Megatron's checkpoints and the data index, on every machine.
        out: checkpoint to be, in Hugging Face's format.
        n_sequences: training sequences of one epoch.
        length_tokens: of each.
        seed: of the stage.

    Raises:
        FormatError: an option is unknown, or a script is no bash.
        ConfigError: there are fewer sequences than one step takes.
    """
    megatron = params.megatron
    assert megatron is not None  # noqa: S101  # held by the params model
    start, trained = work / "base", work / "trained"
    convert = ["python", _CONVERT]
    there = [*convert, "import", "--hf-model", str(base), "--megatron-path", str(start),
             "--torch-dtype", "bfloat16"]  # fmt: skip
    back = [*convert, "export", "--hf-model", str(base), "--megatron-path", str(trained),
            "--hf-path", str(out), "--no-progress"]  # fmt: skip
    train = [
        *_torchrun(params),
        _TRAIN,
        *("--recipe", megatron.recipe),
        *("--seq_length", str(length_tokens)),
        *_overrides(params, megatron, start, trained, work, n_sequences, length_tokens, seed),
    ]
    link = (
        f"ln -sfn {shlex.quote(str(shards / 'train.bin'))} {shlex.quote(str(work / 'train.bin'))}"
    )
    files = {
        "1-import.sh": _script(megatron, [_line(there), link]),
        "2-train.sh": _script(megatron, [_line(train)]),
        "3-export.sh": _script(megatron, [_line(back)]),
    }
    for words in (there, train, back):
        require_known(words)
    for name, text in files.items():
        require_shell(text, name)
    return files


def _torchrun(params: CptParams) -> list[str]:
    launch = params.launch
    words = [
        "torchrun",
        f"--nnodes={launch.nodes}",
        f"--nproc-per-node={launch.processes_per_node}",
        "--max-restarts=0",
    ]
    if launch.slurm is None:
        return [*words, "--standalone"]
    return [
        *("srun", f"--nodes={launch.nodes}", f"--ntasks={launch.nodes}", "--ntasks-per-node=1"),
        *words,
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=$MEET_AT:{launch.slurm.port}",
        "--rdzv-id=$SLURM_JOB_ID",
    ]


def _overrides(  # noqa: PLR0917  # as render_files has them
    params: CptParams, megatron: Megatron, start: Path, trained: Path, work: Path,
    n_sequences: int, length_tokens: int, seed: int,
) -> list[str]:  # fmt: skip
    per_step = params.sequences_per_step
    n_steps = n_sequences // per_step * params.epochs
    if n_steps == 0:
        raise ConfigError(
            f"{n_sequences} sequences are fewer than the {per_step} of one step",
            where="params.yaml: cpt.batch_sequences",
        )
    every = max(1, params.checkpoint_every_tokens // (per_step * length_tokens))
    values = {
        "train.train_iters": n_steps,
        "train.global_batch_size": per_step,
        "train.micro_batch_size": params.batch_sequences // params.replicas,
        "optimizer.lr": params.lr,
        "optimizer.min_lr": 0.0,
        "optimizer.weight_decay": params.weight_decay,
        "optimizer.clip_grad": params.max_grad_norm,
        "scheduler.start_weight_decay": params.weight_decay,
        "scheduler.end_weight_decay": params.weight_decay,
        "scheduler.lr_warmup_iters": math.ceil(n_steps * params.warmup_ratio),
        "scheduler.lr_decay_iters": n_steps,
        **_schedule(params, n_steps),
        "model.tensor_model_parallel_size": megatron.tensor,
        "model.pipeline_model_parallel_size": megatron.pipeline,
        "model.context_parallel_size": megatron.context,
        "model.expert_model_parallel_size": megatron.expert,
        "model.seq_length": length_tokens,
        **(_RECOMPUTED if params.activation_checkpointing else {}),
        "dataset.seq_length": length_tokens,
        "dataset.blend": f"[[{work / 'train'}],null]",
        "dataset.split": "'1,0,0'",
        "dataset.path_to_cache": work / "cache",
        # packed documents do not see each other
        "dataset.reset_position_ids": "true",
        "dataset.reset_attention_mask": "true",
        "dataset.eod_mask_loss": "true",
        "dataset.skip_getting_attention_mask_from_dataset": "false",
        "checkpoint.pretrained_checkpoint": start,
        "checkpoint.save": trained,
        "checkpoint.load": trained,  # where it lies after a kill
        "checkpoint.save_interval": min(every, n_steps),
        "rng.seed": seed,
    }
    return [f"{name}={value}" for name, value in values.items()]


def _schedule(params: CptParams, n_steps: int) -> dict[str, object]:
    if params.schedule == "cosine":
        return {"scheduler.lr_decay_style": "cosine"}
    return {
        "scheduler.lr_decay_style": "WSD",
        "scheduler.lr_wsd_decay_style": "cosine",
        "scheduler.lr_wsd_decay_iters": max(1, round(n_steps * params.decay_ratio)),
    }


def require_known(words: Sequence[str]) -> None:
    """Refuses a command line with an option that its script does not have.

    Raises:
        FormatError: the option, by name.
    """
    at = next(i for i, word in enumerate(words) if word in {_CONVERT, _TRAIN})
    script = words[at] if words[at] == _TRAIN else f"{words[at]} {words[at + 1]}"
    for word in words[at + 1 :]:
        section, _, name = word.partition("=")[0].partition(".")
        flag = word.startswith("--")
        override = "=" in word and not flag
        if flag and word not in _FLAGS[script]:
            raise FormatError(f"{script} has no option {word}", where="cpt.megatron")
        if override and name not in _OVERRIDES.get(section, set()):
            raise FormatError(f"{script} has no value {section}.{name}", where="cpt.megatron")


def _line(words: Sequence[str]) -> str:
    # what the shell is to fill in stays open; everything else is quoted
    return " ".join(word if "$" in word else shlex.quote(word) for word in words)


def _script(megatron: Megatron, lines: Sequence[str]) -> str:
    meet = 'MEET_AT="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"'
    needed = any("$MEET_AT" in line for line in lines)
    return "\n".join(
        [
            "#!/bin/bash",
            "# Written from params.yaml by `python -m forebear.train.launch`; not run by it.",
            "set -euo pipefail",
            f"cd {shlex.quote(megatron.bridge)}",
            *([meet] if needed else []),
            *lines,
            "",
        ]
    )


def write_index(file: Path, *, n_sequences: int, length_tokens: int, dtype: str) -> None:
    """Writes Megatron's index for sequences of one length, as ``tokenize`` packs them.

    Args:
        file: ``….idx``, beside a ``….bin`` of the same name.
        n_sequences: in that file.
        length_tokens: of each.
        dtype: ``uint16`` or ``uint32``, as the shards' ``meta.json`` names it.

    Raises:
        FormatError: Megatron has no such type.
    """
    import numpy as np

    name = np.dtype(dtype).name
    if name not in _CODES:
        raise FormatError(f"Megatron's index has no type {dtype!r}", where=str(file))
    size_bytes = np.dtype(dtype).itemsize * length_tokens
    lengths_N = np.full(n_sequences, length_tokens, dtype="<i4")
    offsets_N = np.arange(n_sequences, dtype="<i8") * size_bytes
    documents_N = np.arange(n_sequences + 1, dtype="<i8")
    with file.open("wb") as handle:
        handle.write(_HEADER)
        handle.write(struct.pack("<QBQQ", _VERSION, _CODES[name], n_sequences, n_sequences + 1))
        for column in (lengths_N, offsets_N, documents_N):
            handle.write(column.tobytes())
