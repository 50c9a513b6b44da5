"""Whether checkpoints fit each other, so that one may be merged with the other.

Looks at configuration, tensors and tokens, none of which needs the weights to be read. The first
difference is named; nothing is repaired, cut or padded to fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError

Shapes = Mapping[str, tuple[int, ...]]

_FIX = "merge checkpoints of one parent only"
# What decides how equal tensors are computed with: models that differ here mean other things by
# the same numbers. Ids, names, types and caches may differ between parent and child.
_ARITHMETIC = (
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rope_parameters",
    "hidden_act",
    "rms_norm_eps",
    "sliding_window",
    "layer_types",
    "num_experts_per_tok",
    "tie_word_embeddings",
)


def require_same_shape(base: Path, branch: Path) -> None:
    """Refuses two checkpoints that cannot be merged.

    Raises:
        EnvironmentFailure: one of the folders, or its configuration, is missing.
        FormatError: architecture, a tensor's name or shape, a token or the chat template differ;
            the first difference is named.
    """
    ours, theirs = _read_config(base), _read_config(branch)
    tensor = tensor_difference(tensor_shapes(base), tensor_shapes(branch))
    for key in ("model_type", "architectures"):
        if ours.get(key) != theirs.get(key):
            what = f"{key} is {theirs.get(key)}, the base's is {ours.get(key)}"
            raise FormatError(
                f"{what}; {tensor}" if tensor else what,
                where=str(branch / "config.json"),
                fix=_FIX,
            )
    if tensor:
        raise FormatError(tensor, where=str(branch), fix=_FIX)
    _require_arithmetic(base, branch)
    _require_tokens(base, branch)


def _read_config(folder: Path) -> Mapping[str, Any]:
    file = folder / "config.json"
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the configuration: {error.strerror}", where=str(file)
        ) from error
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


def tensor_difference(expected: Shapes, found: Shapes) -> str:
    """The first tensor by name that is missing, extra or of another shape; empty when none is."""
    for name in sorted({*expected, *found}):
        ours, theirs = expected.get(name), found.get(name)
        if ours == theirs:
            continue
        if ours is None or theirs is None:
            return f"tensor {name} is {'missing' if theirs is None else 'not in the base'}"
        return f"tensor {name} has shape {list(theirs)}, the base's has {list(ours)}"
    return ""


def _require_arithmetic(base: Path, branch: Path) -> None:
    """Refuses equal tensors that are computed with in another way."""
    from transformers import AutoConfig

    with _readable(base):
        ours = AutoConfig.from_pretrained(base, local_files_only=True).to_dict()
    with _readable(branch):
        theirs = AutoConfig.from_pretrained(branch, local_files_only=True).to_dict()
    for key in _ARITHMETIC:
        if ours.get(key) != theirs.get(key):
            raise FormatError(
                f"{key} is {theirs.get(key)}, the base's is {ours.get(key)}",
                where=str(branch / "config.json"),
                fix=_FIX,
            )


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(f"cannot load the configuration: {first}", where=str(folder)) from error


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
