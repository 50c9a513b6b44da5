"""Adds a LoRA adapter to the checkpoint it belongs to, file by file, without loading the model.

PEFT computes each update from the adapter's two small factors; the matrix it is added to is read
from its file when its turn comes. So memory holds one file of the checkpoint, not the model. What
cannot be added tensor by tensor (DoRA, whole modules, biases, added tokens) is refused, and so is
an adapter whose tensors do not belong to the checkpoint: the first one is named.

Source: Hu et al. 2021, "LoRA", section 4.1: W + (alpha / r)·B·A; the arithmetic is PEFT's.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_UNKNOWN = (
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
)
# these start from other weights than the base's own, so the base alone is not what they add to
_MOVED_BASE = ("pissa", "olora", "loftq", "corda")


def is_adapter(folder: Path) -> bool:
    """Whether ``folder`` holds an adapter rather than a whole checkpoint."""
    return (folder / CONFIG).is_file()


def require_base(adapter: Path, base: Path) -> None:
    """Refuses ``base`` unless it is the checkpoint that the adapter itself names.

    Raises:
        FormatError: the adapter names another one, or none.
    """
    named = _config(adapter).base_model_name_or_path
    parts = PurePosixPath(named or "").parts
    if parts and base.absolute().parts[-len(parts) :] == parts:
        return
    raise FormatError(
        f"belongs to the checkpoint {named!r}, not to {base.as_posix()}",
        where=str(adapter / CONFIG),
        fix="name the checkpoint it was trained on by --distill-base or --prefer-base, as a dep",
    )


def add_adapter(base: Path, adapter: Path, out: Path) -> None:
    """Writes to ``out`` the checkpoint that ``adapter`` makes of ``base``.

    Changed matrices are stored in float32, so nothing of a small update is rounded away; the rest
    is as the base has it.

    Args:
        base: a checkpoint folder.
        adapter: as PEFT saves it.
        out: replaced when it exists.
    Raises:
        FormatError: the adapter does not fit the base, or is of a kind that cannot be added.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    from forebear.train.siblings import tensor_shapes

    modules = _updates(base, adapter)
    stray = sorted(modules.keys() - tensor_shapes(base).keys())
    if stray:
        raise FormatError(f"tensor {stray[0]} is not in {base.as_posix()}", where=str(adapter))
    sys.stderr.write(f"merge: {len(modules)} updates of {adapter} added to {base}\n")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for file in sorted(base.iterdir()):
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copyfile(file, out / file.name)
    for file in sorted(base.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle, torch.no_grad():
            tensors: dict[str, Tensor] = {}
            for name in handle.keys():  # noqa: SIM118  # not a mapping
                tensor = handle.get_tensor(name)
                if name in modules:
                    tensor = tensor.to(torch.float32) + modules[name].get_delta_weight("default")
                tensors[name] = tensor
            save_file(tensors, out / file.name, metadata={"format": "pt"})


def _config(adapter: Path) -> Any:
    from peft import LoraConfig, PeftConfig

    file = adapter / CONFIG
    try:
        config = PeftConfig.from_pretrained(str(adapter))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"is no adapter that PEFT can read: {error}", where=str(file)) from error
    if not isinstance(config, LoraConfig):
        raise FormatError(f"is of kind {config.peft_type}, not LORA", where=str(file))
    return config


def _require_plain(config: Any, file: Path) -> None:
    odd = [key for key in _UNKNOWN if getattr(config, key, None)]
    if config.bias != "none":
        odd.append("bias")
    if str(config.init_lora_weights).lower().startswith(_MOVED_BASE):
        odd.append("init_lora_weights")
    if odd:
        raise FormatError(
            f"adapters with {odd[0]} cannot be added to their base tensor by tensor",
            where=str(file),
            fix="merge it with PEFT's merge_and_unload, and give the checkpoint that comes out",
        )


def _updates(base: Path, adapter: Path) -> Mapping[str, Any]:
    """PEFT's layers by the name of the matrix each belongs to; only the adapter holds values."""
    import torch
    from peft import get_peft_model, get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    config = _config(adapter)
    _require_plain(config, adapter / CONFIG)
    file = adapter / _WEIGHTS
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"is missing, damaged or cut short ({error})", where=str(file)) from error
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(base, local_files_only=True)
        )
    config.inference_mode, config.init_lora_weights = True, True
    config.base_model_name_or_path = None  # PEFT warns where the base lies elsewhere now
    try:
        model = get_peft_model(empty, config, low_cpu_mem_usage=True)
    except ValueError as error:  # no module of the base has the name of a target
        raise FormatError(str(error).splitlines()[0], where=str(adapter)) from error
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    _require_factors(
        {name: tuple(one.shape) for name, one in expected.items()},
        {name: tuple(one.shape) for name, one in tensors.items()},
        where=str(file),
    )
    modules = {name: one for name, one in model.named_modules() if isinstance(one, LoraLayer)}
    for name, module in modules.items():
        _fill(name, module, tensors)
    return {f"{name.removeprefix(_PREFIX)}.weight": one for name, one in modules.items()}


def _fill(name: str, module: Any, tensors: Mapping[str, Tensor]) -> None:
    """Gives a layer its two factors. PEFT's own loader moves them to where its empty base is."""
    from torch.nn import Parameter

    for part in ("lora_A", "lora_B"):
        factor = tensors.get(f"{name}.{part}.weight")
        if factor is not None:
            getattr(module, part)["default"].weight = Parameter(factor, requires_grad=False)
    for part in ("lora_embedding_A", "lora_embedding_B"):
        factor = tensors.get(f"{name}.{part}")
        if factor is not None:
            getattr(module, part)["default"] = Parameter(factor, requires_grad=False)


def _require_factors(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, where: str
) -> None:
    """Refuses an adapter whose factors are not exactly those that its base calls for."""
    for name in sorted({*expected, *found}):
        ours, theirs = expected.get(name), found.get(name)
        if ours == theirs:
            continue
        if theirs is None:
            what = f"tensor {name} is missing"
        elif ours is None:
            what = f"tensor {name} belongs to no matrix of the base"
        else:
            what = f"tensor {name} has shape {list(theirs)}, the base calls for {list(ours)}"
        raise FormatError(what, where=where, fix="give the checkpoint that it was trained on")
