"""Loads and saves checkpoints: safetensors and tokenizer files, nothing pickled.

A checkpoint is a folder as ``save_pretrained`` writes it. :func:`probe_logits` digests what a
model answers to one fixed probe; a stage reports it for the weights it starts from and for the
weights it leaves, so that "this stage started from its parent's exact weights" can be checked.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import EnvironmentFailure, FormatError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PROBE_LENGTH = 16
# What configs call the number of routed experts.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
# How the libraries' own errors tell of a disk that refuses: safetensors and tokenizers give the
# system's error number, torch names its writer or the position it found in the file.
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
_WRITER_MARKS = ("iostream", "PytorchStreamWriter", "unexpected pos")


def load_model(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """The causal language model in ``folder``, on the CPU, in ``dtype``, in evaluation mode.

    Raises:
        EnvironmentFailure: the folder is missing.
        FormatError: a weight file is truncated, or a tensor is missing, extra or not finite.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if not folder.is_dir():
        raise EnvironmentFailure("there is no checkpoint here", where=str(folder))
    _require_whole_files(folder)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise FormatError(
            f"cannot load the checkpoint: {str(error).splitlines()[0]}",
            where=str(folder),
            fix="the stage that wrote it must run again: dvc repro --force --single-item STAGE",
        ) from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            raise FormatError(f"{kind.replace('_', ' ')}: {min(report[kind])}", str(folder))
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise FormatError(f"tensor {name} holds a value that is not finite", str(folder))
    model.eval()
    return model


def _require_whole_files(folder: Path) -> None:
    """Refuses a truncated safetensors file, which libraries report in many different ways."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FormatError("holds no safetensors file", where=str(folder))
    for file in files:
        try:
            with safe_open(file, framework="numpy") as handle:
                handle.keys()
        except (SafetensorError, OSError) as error:
            raise FormatError(
                f"is damaged or cut short ({error})",
                where=str(file),
                fix="run the stage that wrote it again, or `dvc checkout` it",
            ) from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved beside the weights in ``folder``.

    Raises:
        FormatError: its files do not load.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise FormatError(f"cannot load the tokenizer: {first}", where=str(folder)) from error


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    dtype: str = "float32",
) -> None:
    """Writes weights and tokenizer to ``out``, whole or not at all.

    The folder is built beside its final name, flushed and renamed, so a kill never leaves a
    checkpoint that looks finished and is not.

    Args:
        model: what to save; it keeps its own dtype.
        tokenizer: saved beside it, chat template included.
        out: replaced when it exists.
        dtype: torch's name of the stored type; a copy is cast, so tied tensors stay tied.
    Raises:
        EnvironmentFailure: the disk is full or refuses.
    """
    import torch

    kind = getattr(torch, dtype)
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        stored = model if model.dtype == kind else copy.deepcopy(model).to(kind)
        stored.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        flush_tree(partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        refusal = disk_refusal(error)
        if refusal is None:
            raise
        raise EnvironmentFailure(
            f"cannot write the checkpoint: {refusal}",
            where=str(out),
            fix="free disk space and run `dvc repro` again; it goes on from the last durable point",
        ) from error


def disk_refusal(error: Exception) -> str | None:
    """Why a file could not be written, in one line; None for an error about anything else.

    A full disk arrives as an OSError, or wrapped in an error of the library that wrote.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    number = _SYSTEM_ERROR.search(str(error))
    if number is not None:
        return os.strerror(int(number.group(1)))
    if any(mark in str(error) for mark in _WRITER_MARKS):
        return "the disk is full, or refuses"
    return None


def flush_tree(folder: Path) -> None:
    """Forces every file below ``folder`` and the folder itself to disk."""
    for entry in (*folder.rglob("*"), folder):
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def probe_logits(model: PreTrainedModel) -> str:
    """SHA-256 of the float32 logits that ``model`` gives for one fixed probe, shape [1, T, V].

    Equal digests mean equal answers bit by bit, on one machine; digests of two machines may
    differ for equal weights.
    """
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    probe_1T = torch.arange(1, _PROBE_LENGTH + 1).mul(977).remainder(vocabulary).unsqueeze(0)
    training = model.training
    model.eval()
    with torch.no_grad():
        logits_1TV: Any = model(input_ids=probe_1T.to(model.device), use_cache=False).logits
    model.train(training)
    return hashlib.sha256(logits_1TV.float().cpu().contiguous().numpy().tobytes()).hexdigest()


def count_parameters(model: PreTrainedModel) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_active_parameters(model: PreTrainedModel) -> int:
    """Parameters that one token meets: all but the experts that a router leaves out.

    Experts are known by their names (``….experts.…``) and by the counts in the config; a model
    without both is dense.
    """
    config = model.config.get_text_config()
    n_experts = next((int(found) for name in _EXPERTS if (found := getattr(config, name, None))), 0)
    n_chosen = int(getattr(config, "num_experts_per_tok", 0) or 0)
    everything = count_parameters(model)
    if not n_experts or not n_chosen:
        return everything
    routed = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    return everything - routed + routed * n_chosen // n_experts
