"""Merges sibling checkpoints over their parent with mergekit, as a pure function of its inputs.

The merged folder holds safetensors, a configuration and the parent's tokenizer files, and nothing
that names a path, a time or a tool's working folder, so it can be recomputed elsewhere byte by
byte. Refuses, before any arithmetic, checkpoints that differ in architecture, tensors or tokens.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from forebear.errors import FormatError, RecordError
from forebear.train.stage import StageParams, scratch_dir, stage_seed

if TYPE_CHECKING:
    from mergekit.config import MergeConfiguration
    from torch import Tensor

# what the parent hands on unchanged; its weights and configuration are written anew
_HANDED_ON = (
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)

Method = Literal["ties", "linear", "slerp", "dare_ties"]


class BranchValues(BaseModel):
    """One number for each branch."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    distill: float = Field(ge=0)
    prefer: float = Field(ge=0)


class Densities(BaseModel):
    """Share of each branch's changes that is kept, largest first."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    distill: float = Field(gt=0, le=1)
    prefer: float = Field(gt=0, le=1)


class MergeParams(StageParams):
    """Section ``merge`` of the params.

    ``densities`` counts for ``ties`` and ``dare_ties``; ``t`` for ``slerp``, where 0 is the
    distilled and 1 the preference-tuned checkpoint; ``weights`` for all but ``slerp``.
    """

    method: Method = "ties"
    weights: BranchValues
    densities: Densities
    t: float = Field(default=0.5, ge=0, le=1)
    dtype: Literal["bfloat16", "float32"] = "bfloat16"


@dataclass(frozen=True, slots=True)
class Branch:
    """One checkpoint to merge: its folder, weight and density."""

    folder: Path
    weight: float
    density: float


def run_merge_stage(
    params: MergeParams, *, base: Path, distill: Path, prefer: Path, out: Path, metrics: Path
) -> None:
    """Merges ``distill`` and ``prefer`` over ``base`` and writes checkpoint and figures.

    Raises:
        FormatError: the checkpoints do not fit each other; the first difference is named.
        RecordError: the merge lost or gained a tensor.
    """
    from forebear.hashing.digest import hash_tree
    from forebear.train.checkpoint import count_parameters, load_model, probe_logits
    from forebear.train.metrics import write_json

    branches = {
        "distill": Branch(distill, params.weights.distill, params.densities.distill),
        "prefer": Branch(prefer, params.weights.prefer, params.densities.prefer),
    }
    merge_checkpoints(
        params.method,
        base=base,
        branches=list(branches.values()),
        out=out,
        scratch=scratch_dir("merge"),
        seed=stage_seed(params.seed, "merge"),
        t=params.t,
        dtype=params.dtype,
    )
    merged = load_model(out)  # loads whole and finite, or this stage fails
    inputs = {"base": base, **{name: branch.folder for name, branch in branches.items()}}
    write_json(
        metrics,
        {
            "method": params.method,
            "dtype": params.dtype,
            "n_params": count_parameters(merged),
            "tensors": len(tensor_shapes(out)),
            "inputs": {name: hash_tree(folder).digest for name, folder in inputs.items()},
            "relative_distance": {
                name: relative_distance(out, folder) for name, folder in inputs.items()
            },
            "logits_last_sha256": probe_logits(merged),
        },
    )


def merge_checkpoints(
    method: Method,
    *,
    base: Path,
    branches: Sequence[Branch],
    out: Path,
    scratch: Path,
    seed: int,
    t: float = 0.5,
    dtype: str = "bfloat16",
) -> None:
    """Writes the merge of ``branches`` over ``base`` to ``out``, whole or not at all.

    Args:
        method: mergekit's name of it.
        base: common parent; gives configuration and tokenizer.
        branches: two or more; exactly two for ``slerp``.
        out: replaced when it exists.
        scratch: mergekit writes here first.
        seed: of the methods that drop changes at random.
        t: place between the two branches, ``slerp`` only.
        dtype: torch's name of the stored type; arithmetic is float32.
    Raises:
        FormatError: the checkpoints do not fit each other.
        RecordError: the merge lost or gained a tensor.
    """
    from forebear.train.checkpoint import flush_tree
    from forebear.train.runtime import configure_torch

    for branch in branches:
        require_same_shape(base, branch.folder)
    sys.stderr.write(f"merge: {method} of {len(branches)} checkpoints\n")
    configure_torch(seed)
    raw = scratch / "merged"
    shutil.rmtree(raw, ignore_errors=True)
    _run_mergekit(_configuration(method, base, branches, t=t, dtype=dtype), raw, seed)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in (*sorted(raw.glob("*.safetensors")), *raw.glob("*.safetensors.index.json")):
        shutil.copyfile(file, partial / file.name)
    for name in _HANDED_ON:
        if (base / name).is_file():
            shutil.copyfile(base / name, partial / name)
    _write_config(base, partial, dtype)
    _require_tensors(tensor_shapes(base), tensor_shapes(partial))
    flush_tree(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    shutil.rmtree(raw)


def _configuration(
    method: Method, base: Path, branches: Sequence[Branch], *, t: float, dtype: str
) -> MergeConfiguration:
    from mergekit.config import MergeConfiguration

    def reference(folder: Path) -> dict[str, Any]:
        # in parts: mergekit would split a path at "+" and "@"
        return {"model": {"path": str(folder)}}

    sparse = method in ("ties", "dare_ties")
    models = [
        {
            "model": reference(branch.folder),
            "parameters": {
                **({} if method == "slerp" else {"weight": branch.weight}),
                **({"density": branch.density} if sparse else {}),
            },
        }
        for branch in branches
    ]
    parent = {"linear": None, "slerp": branches[0].folder}.get(method, base)
    return MergeConfiguration.model_validate(
        {
            "merge_method": method,
            "models": models,
            "base_model": reference(parent) if parent else None,
            "parameters": {"t": t} if method == "slerp" else {},
            "dtype": "float32",
            "out_dtype": dtype,
        }
    )


def _run_mergekit(configuration: MergeConfiguration, raw: Path, seed: int) -> None:
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    # the cache goes by path and would serve an earlier file of the same name
    LoaderCache().loaders.clear()
    options = MergeOptions(
        device="cpu",
        copy_tokenizer=False,
        write_model_card=False,
        random_seed=seed,
        quiet=True,
    )
    run_merge(configuration, str(raw), options)
    LoaderCache().loaders.clear()


def _write_config(base: Path, folder: Path, dtype: str) -> None:
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    config.dtype = getattr(torch, dtype)
    config.save_pretrained(folder)


def require_same_shape(base: Path, branch: Path) -> None:
    """Refuses two checkpoints that cannot be merged.

    Raises:
        FormatError: architecture, a tensor's name or shape, a token or the chat template differ;
            the first difference is named.
    """
    ours, theirs = _read_config(base), _read_config(branch)
    for key in ("model_type", "architectures"):
        if ours.get(key) != theirs.get(key):
            raise FormatError(
                f"{key} is {theirs.get(key)}, the base's is {ours.get(key)}",
                where=str(branch / "config.json"),
                fix="merge checkpoints of one parent only",
            )
    _require_tensors(tensor_shapes(base), tensor_shapes(branch), where=str(branch))
    _require_tokens(base, branch)


def _read_config(folder: Path) -> Mapping[str, Any]:
    file = folder / "config.json"
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"is not JSON: {error}", where=str(file)) from error
    if not isinstance(value, dict):
        raise FormatError("must be an object", where=str(file))
    return value


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in the safetensors files of ``folder``, by name.

    Raises:
        FormatError: a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as handle:
                for name in handle.keys():  # noqa: SIM118  # not a mapping
                    shapes[name] = tuple(handle.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise FormatError(f"is damaged or cut short ({error})", where=str(file)) from error
    if not shapes:
        raise FormatError("holds no tensor", where=str(folder))
    return shapes


def _require_tensors(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    *,
    where: str = "",
) -> None:
    """Compares names and shapes; without ``where`` a difference is the merge's own fault."""
    for name in sorted({*expected, *found}):
        ours, theirs = expected.get(name), found.get(name)
        if ours == theirs:
            continue
        if ours is None or theirs is None:
            what = f"tensor {name} is {'missing' if theirs is None else 'not in the base'}"
        else:
            what = f"tensor {name} has shape {list(theirs)}, the base's has {list(ours)}"
        if not where:
            raise RecordError(what, where="merge")
        raise FormatError(what, where=where, fix="merge checkpoints of one parent only")


def _require_tokens(base: Path, branch: Path) -> None:
    from forebear.train.checkpoint import load_tokenizer

    first, second = load_tokenizer(base), load_tokenizer(branch)
    ours = {number: token for token, number in first.get_vocab().items()}
    theirs = {number: token for token, number in second.get_vocab().items()}
    for number in sorted({*ours, *theirs}):
        if ours.get(number) != theirs.get(number):
            raise FormatError(
                f"token {number} is {theirs.get(number)!r}, the base's is {ours.get(number)!r}",
                where=str(branch),
                fix="merge checkpoints of one parent only: their tokenizers must be equal",
            )
    if first.chat_template != second.chat_template:
        raise FormatError("its chat template differs from the base's", where=str(branch))


def relative_distance(left: Path, right: Path) -> float:
    """Euclidean distance of two checkpoints over the norm of ``right``; tensor by tensor."""
    distance = norm = 0.0
    for name in sorted(tensor_shapes(right)):
        a, b = _tensor(left, name), _tensor(right, name)
        distance += float((a - b).square().sum())
        norm += float(b.square().sum())
    return math.sqrt(distance / norm) if norm else 0.0


def _tensor(folder: Path, name: str) -> Tensor:
    """One tensor in float64, without reading the others."""
    import torch
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            if name in handle.keys():  # noqa: SIM118  # not a mapping
                tensor: Tensor = handle.get_tensor(name).to(torch.float64)
                return tensor
    raise FormatError(f"tensor {name} is missing", where=str(folder))
