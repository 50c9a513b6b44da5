"""Compares checkpoints as numbers: how far apart, how akin, and whether an adapter adds up.

One JSON request on standard input, one JSON object on standard output; numpy and scipy, no torch.
``distance`` measures two checkpoints tensor by tensor, ``edge`` holds a checkpoint to its parents,
``kinship`` looks for traces of a common origin (``forebear.train.kinship``).

Rests on: provenance page, section 10.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import FormatError
from forebear.evidence.weights import Tensor, read_tensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

_KINDS = {
    "BOOL": "?", "I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4",
    "I64": "<i8", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


def values(tensor: Tensor) -> Matrix:
    """The tensor in float64.

    Raises:
        FormatError: the type has no numbers that numpy knows.
    """
    import numpy as np

    data = b"".join(tensor.chunks())
    if tensor.dtype == "BF16":
        raw = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return raw.view(np.float32).astype(np.float64).reshape(tensor.shape)
    kind = _KINDS.get(tensor.dtype)
    if kind is None:
        raise FormatError(f"numbers of type {tensor.dtype} cannot be compared", str(tensor.file))
    return np.frombuffer(data, kind).astype(np.float64).reshape(tensor.shape)


# ── distance ───────────────────────────────────────────────────────────────────────────────────


def distance(left: Path, right: Path) -> dict[str, Any]:
    """How far ``right`` is from ``left``: the worst of every measure, and which tensor has it."""
    ours, theirs = read_tensors(left), read_tensors(right)
    names = ours.keys() | theirs.keys()
    odd = sorted(name for name in names if _form(ours, name) != _form(theirs, name))
    worst: dict[str, tuple[float, str]] = {}
    n_differing = 0
    for name in ours.keys() - set(odd):
        measured = _measure(values(ours[name]), values(theirs[name]))
        n_differing += measured["max_abs"] != 0
        for measure, value in measured.items():
            signed = -value if measure == "min_cosine" else value
            if measure not in worst or (signed, name) > worst[measure]:
                worst[measure] = (signed, name)
    found = {
        measure: {"value": -value if measure == "min_cosine" else value, "tensor": name}
        for measure, (value, name) in worst.items()
    }
    return {"tensors": len(ours), "differing": n_differing, "other_form": odd, **found}


def _form(tensors: Mapping[str, Tensor], name: str) -> object:
    tensor = tensors.get(name)
    return None if tensor is None else (tensor.shape, tensor.dtype)


def _measure(ours: Matrix, theirs: Matrix) -> dict[str, float]:
    import numpy as np

    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        same = bool(np.array_equal(ours, theirs, equal_nan=True))
        big = 0.0 if same else sys.float_info.max
        return {"max_abs": big, "relative_frobenius": big, "min_cosine": 1.0 if same else -1.0}
    apart = float(np.linalg.norm(theirs - ours))
    norm = float(np.linalg.norm(ours))
    relative = apart / norm if norm else (sys.float_info.max if apart else 0.0)
    return {
        "max_abs": float(np.abs(theirs - ours).max(initial=0.0)),
        "relative_frobenius": relative,
        "min_cosine": cosine(ours, theirs),
    }


def cosine(one: Matrix, other: Matrix) -> float:
    """Cosine of two arrays of one shape; 0 where either has no direction."""
    import numpy as np

    if np.array_equal(one, other):
        return 1.0
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    found = float((one * other).sum()) / norms if norms else 0.0
    return found if math.isfinite(found) else 0.0


# ── edge ───────────────────────────────────────────────────────────────────────────────────────


def edge(child: Path, parents: Sequence[Path], adapter: Path | None) -> dict[str, Any]:
    """Which parents the child merely repeats, and whether parent and adapter add up to it.

    A child repeats a parent when every tensor has the parent's values, rounded to the child's type
    where that is narrower. ``adapter`` is judged against the first parent.
    """
    tensors = read_tensors(child)
    same = [str(parent) for parent in parents if _repeats(tensors, read_tensors(parent))]
    answer: dict[str, Any] = {"tensors": len(tensors), "repeats": same, "adapter": None}
    if adapter is not None:
        answer["adapter"] = _adds_up(tensors, read_tensors(parents[0]), adapter)
    return answer


def _repeats(child: Mapping[str, Tensor], parent: Mapping[str, Tensor]) -> bool:
    import numpy as np

    if child.keys() != parent.keys() or not child:
        return False
    for name, ours in child.items():
        theirs = parent[name]
        if ours.shape != theirs.shape:
            return False
        if not np.array_equal(values(ours), _rounded(values(theirs), ours.dtype), equal_nan=True):
            return False
    return True


def _rounded(array: Matrix, dtype: str) -> Matrix:
    """The values as a file of that type holds them."""
    import numpy as np

    if dtype == "BF16":
        bits = array.astype(np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return bits.view(np.float32).astype(np.float64)
    narrow = {"F32": np.float32, "F16": np.float16}.get(dtype)
    return array if narrow is None else array.astype(narrow).astype(np.float64)


_EPSILON = {"F64": 2.0**-52, "F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}


def _adds_up(
    child: Mapping[str, Tensor], parent: Mapping[str, Tensor], adapter: Path
) -> dict[str, Any]:
    """``{"status": "adds up" | "differs" | "unknown", …}``.

    Each value may be off by what rounding can do: products in the adapter's precision summed over
    the rank, and one rounding to the child's type.
    """
    import numpy as np

    scale, odd = _scale(adapter)
    if odd:
        return {"status": "unknown", "reason": odd}
    pairs = _pairs(read_tensors(adapter))
    stray = sorted(pairs.keys() - child.keys())
    if stray:
        return {"status": "differs", "tensor": stray[0], "what": "is not in the checkpoint"}
    for name, ours in child.items():
        theirs = parent.get(name)
        if theirs is None or theirs.shape != ours.shape:
            return {"status": "differs", "tensor": name, "what": "has no parent of its shape"}
        expected, slack = values(theirs), np.zeros(ours.shape)
        if name in pairs:
            down, up = (values(part) for part in pairs[name])
            rank = down.shape[0]
            expected = expected + scale * (up @ down)
            worst = scale * (np.abs(up) @ np.abs(down))
            slack = slack + (rank + 4) * _EPSILON[pairs[name][0].dtype] * worst
        if name in pairs or ours.dtype != theirs.dtype:
            slack = slack + 2 * _EPSILON.get(ours.dtype, 0.0) * np.abs(expected)
        off = np.abs(values(ours) - expected)
        if not (off <= slack).all():
            return {"status": "differs", "tensor": name,
                    "what": f"is off by {float(off.max()):.3g}"}  # fmt: skip
    return {"status": "adds up", "matrices": len(pairs)}


def _scale(adapter: Path) -> tuple[float, str]:
    """Factor of the update; and why it is not known, else nothing."""
    file = adapter / "adapter_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, "the adapter has no readable adapter_config.json"
    for key in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out",
                "layer_replication", "lora_bias"):  # fmt: skip
        if config.get(key):
            return 0.0, f"adapters with {key} are not understood"
    if config.get("bias", "none") != "none":
        return 0.0, "adapters with biases are not understood"
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank), ""


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Both factors of each update, by the name of the matrix that it belongs to."""
    found = {}
    for name, down in tensors.items():
        head, mark, _ = name.partition(".lora_A.")
        up = tensors.get(name.replace(".lora_A.", ".lora_B."))
        if mark and up is not None:
            found[f"{head.removeprefix('base_model.model.')}.weight"] = (down, up)
    return found


# ── the process ────────────────────────────────────────────────────────────────────────────────


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    from forebear.train.kinship import kinship

    if request["do"] == "edge":
        adapter = request["adapter"]
        parents = [Path(parent) for parent in request["parents"]]
        return edge(Path(request["child"]), parents, Path(adapter) if adapter else None)
    work: Callable[[Path, Path], dict[str, Any]] = {"distance": distance, "kinship": kinship}[
        request["do"]
    ]
    return work(Path(request["left"]), Path(request["right"]))


def answer_one(work: Callable[[Mapping[str, Any]], dict[str, Any]]) -> int:
    """Reads one request, prints one answer; a missing package and a refusal are answers too."""
    from forebear.errors import ForebearError

    try:
        answer = work(json.load(sys.stdin))
    except ModuleNotFoundError as error:
        answer = {"missing": error.name}
    except ForebearError as error:
        answer = {"refused": error.what, "where": error.where}
    sys.stdout.write("\n" + json.dumps(answer, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(answer_one(_answer))
