"""Merges sibling checkpoints over their parent with mergekit, as a pure function of its inputs.

The merged folder holds safetensors, a configuration and the parent's tokenizer files, and nothing
that names a path, a time or a tool's working folder, so it can be recomputed elsewhere byte by
byte. A branch may be a LoRA adapter: it is added to its own base first. Tensors are read one by
one, so memory holds one file of weights and not the models. Refuses, before any arithmetic,
checkpoints that differ in architecture, tensors or tokens.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from forebear.errors import FormatError, RecordError
from forebear.train.adapter import add_adapter, is_adapter, require_base
from forebear.train.siblings import require_same_shape, tensor_difference, tensor_shapes
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

# values of a tensor that are looked at together: 256 MiB in float64
_PART_VALUES = 1 << 25

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
    distilled and 1 the preference-tuned checkpoint; ``weights`` for all but ``slerp``. A file of
    weights holds at most ``max_shard_mb`` million bytes, and so does memory; merged weights of
    more than ``load_up_to_gb`` in float32 are examined tensor by tensor instead of loaded.
    """

    method: Method = "ties"
    weights: BranchValues
    densities: Densities
    t: float = Field(default=0.5, ge=0, le=1)
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    max_shard_mb: int = Field(default=5000, ge=1)
    load_up_to_gb: float = Field(default=16.0, ge=0)

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.method != "slerp" and not self.weights.distill + self.weights.prefer:
            raise ValueError("one of the weights must be above zero")
        return self


@dataclass(frozen=True, slots=True)
class Branch:
    """One checkpoint or adapter to merge: its folder, weight and density.

    ``adapter_base`` is the checkpoint that an adapter was trained on; when left out it must be the
    parent of the merge, and the adapter must say so.
    """

    folder: Path
    weight: float
    density: float
    adapter_base: Path | None = None


def run_merge_stage(
    params: MergeParams,
    *,
    base: Path,
    distill: Path,
    prefer: Path,
    out: Path,
    metrics: Path,
    distill_base: Path | None = None,
    prefer_base: Path | None = None,
) -> None:
    """Merges ``distill`` and ``prefer`` over ``base`` and writes checkpoint and figures.

    Args:
        params: section ``merge``.
        base: parent of both.
        distill: checkpoint or adapter.
        prefer: checkpoint or adapter.
        out: the merged checkpoint.
        metrics: its figures.
        distill_base: what ``distill`` was trained on, when it is an adapter of another checkpoint.
        prefer_base: the same for ``prefer``.
    Raises:
        FormatError: the checkpoints do not fit each other; the first difference is named.
        RecordError: the merge lost or gained a tensor.
    """
    from forebear.hashing.digest import hash_tree
    from forebear.train.metrics import write_json

    branches = {
        "distill": Branch(distill, params.weights.distill, params.densities.distill, distill_base),
        "prefer": Branch(prefer, params.weights.prefer, params.densities.prefer, prefer_base),
    }
    seed = stage_seed(params.seed, "merge")
    whole = merge_checkpoints(
        params.method,
        base=base,
        branches=list(branches.values()),
        out=out,
        scratch=scratch_dir("merge"),
        seed=seed,
        t=params.t,
        dtype=params.dtype,
        max_shard_mb=params.max_shard_mb,
    )
    merged = dict(zip(branches, whole, strict=True))
    inputs = {"base": base, **{name: branch.folder for name, branch in branches.items()}}
    inputs |= {
        f"{name}_base": branch.adapter_base
        for name, branch in branches.items()
        if branch.adapter_base
    }
    write_json(
        metrics,
        {
            "method": params.method,
            "dtype": params.dtype,
            "seed": seed,
            "tensors": len(tensor_shapes(out)),
            "inputs": {name: hash_tree(folder).digest for name, folder in inputs.items()},
            "adapters": sorted(name for name in branches if merged[name] != inputs[name]),
            "relative_distance": {
                name: relative_distance(out, folder)
                for name, folder in {"base": base, **merged}.items()
            },
            **_examined(out, params),
        },
    )


def _examined(out: Path, params: MergeParams) -> dict[str, Any]:
    """Parameters and probe of the merged checkpoint, which must be whole and finite.

    Raises:
        FormatError: a value is not finite, or the checkpoint does not load.
    """
    n_parameters = sum(math.prod(shape) for shape in tensor_shapes(out).values())
    if 4 * n_parameters > params.load_up_to_gb * 1e9:
        _require_finite(out)
        return {"n_params": n_parameters, "logits_last_sha256": None}
    from forebear.train.checkpoint import count_parameters, load_model, probe_logits

    merged = load_model(out)
    return {"n_params": count_parameters(merged), "logits_last_sha256": probe_logits(merged)}


def _require_finite(folder: Path) -> None:
    import torch

    for name in tensor_shapes(folder):
        for part in _tensor_parts(folder, name):
            if not bool(torch.isfinite(part).all()):
                raise FormatError(f"tensor {name} holds a value that is not finite", str(folder))


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
    max_shard_mb: int = 5000,
) -> list[Path]:
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
        max_shard_mb: million bytes that one file of weights, and memory, may hold.
    Returns:
        The checkpoint of each branch: its folder, or, for an adapter, one in ``scratch``.
    Raises:
        FormatError: the checkpoints do not fit each other.
        RecordError: the merge lost or gained a tensor.
    """
    from forebear.train.checkpoint import flush_tree
    from forebear.train.runtime import configure_torch

    configure_torch(seed)
    branches = [
        replace(branch, folder=_whole(branch, base, scratch / f"branch-{number}"))
        for number, branch in enumerate(branches)
    ]
    sys.stderr.write(f"merge: {method} of {len(branches)} checkpoints\n")
    raw = scratch / "merged"
    shutil.rmtree(raw, ignore_errors=True)
    configuration = _configuration(method, base, branches, t=t, dtype=dtype)
    _run_mergekit(configuration, raw, seed, max_shard_mb)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in (*sorted(raw.glob("*.safetensors")), *raw.glob("*.safetensors.index.json")):
        shutil.copyfile(file, partial / file.name)
    for name in _HANDED_ON:
        if (base / name).is_file():
            shutil.copyfile(base / name, partial / name)
    _write_config(base, partial, dtype)
    lost = tensor_difference(tensor_shapes(base), tensor_shapes(partial))
    if lost:
        raise RecordError(lost, where="merge")
    flush_tree(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    shutil.rmtree(raw)
    return [branch.folder for branch in branches]


def _whole(branch: Branch, base: Path, scratch: Path) -> Path:
    """The branch as a checkpoint that fits ``base``; an adapter's is made in ``scratch``.

    Raises:
        FormatError: it does not fit, or an adapter belongs to another checkpoint.
    """
    folder = branch.folder
    if is_adapter(folder):
        if branch.adapter_base is None:
            require_base(folder, base)
        add_adapter(branch.adapter_base or base, folder, scratch)
        folder = scratch
    elif branch.adapter_base is not None:
        raise FormatError(
            "is no adapter, so nothing can be said of its base",
            where=str(folder),
            fix="leave out --distill-base or --prefer-base, or give the adapter's folder",
        )
    require_same_shape(base, folder)
    return folder


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


def _run_mergekit(
    configuration: MergeConfiguration, raw: Path, seed: int, max_shard_mb: int
) -> None:
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    # the cache goes by path and would serve an earlier file of the same name
    LoaderCache().loaders.clear()
    options = MergeOptions(
        device="cpu",
        copy_tokenizer=False,
        out_shard_size=max_shard_mb * 1_000_000,
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


def relative_distance(left: Path, right: Path) -> float:
    """Euclidean distance of two checkpoints over the norm of ``right``; part by part."""
    distance = norm = 0.0
    for name in sorted(tensor_shapes(right)):
        for a, b in zip(_tensor_parts(left, name), _tensor_parts(right, name), strict=True):
            distance += float((a - b).square().sum())
            norm += float(b.square().sum())
    return math.sqrt(distance / norm) if norm else 0.0


def _tensor_parts(folder: Path, name: str) -> Iterator[Tensor]:
    """One tensor in float64, a bounded number of rows at a time, without reading the others."""
    import torch
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            if name not in handle.keys():  # noqa: SIM118  # not a mapping
                continue
            part = handle.get_slice(name)
            shape = part.get_shape()
            if not shape:
                yield handle.get_tensor(name).to(torch.float64)
                return
            n_rows = max(1, _PART_VALUES // max(1, math.prod(shape[1:])))
            for start in range(0, shape[0], n_rows):
                yield part[start : start + n_rows].to(torch.float64)
            return
    raise FormatError(f"tensor {name} is missing", where=str(folder))
