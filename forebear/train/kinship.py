"""Looks for traces of a common origin in the weights of two checkpoints.

Cosine of each matrix; where the neurons of a feed-forward layer were put in another order, cosine
after the best assignment of one to the other; and whether child less parent has a rank, as a merged
adapter leaves it. Corroboration, never proof: a rotated copy shows no trace, nor does a student of
its teacher.

Rests on: provenance page, section 10.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.evidence.weights import Tensor, read_tensors
from forebear.train.compare import cosine, values

if TYPE_CHECKING:
    from forebear.train.compare import Matrix

# Section 10, measured: a true child 0.90–0.98, matched neurons 0.96; unrelated at most 0.15.
AKIN = 0.5
STRANGE = 0.1
# a drop this sharp between two neighbouring singular values marks the rank of an update
_DROP = 0.05
_MAX_RANK = 256
_EXACT_SIZE = 1024
_FFN = re.compile(r"(.*\bmlp\.)(gate_proj|up_proj|down_proj)\.weight")
_ATTENTION = re.compile(r".*\bself_attn\.[qkvo]_proj\.weight")
_EMBEDDING = re.compile(r".*(embed_tokens|lm_head|wte|wpe)\.weight")


def kinship(left: Path, right: Path) -> dict[str, Any]:
    """What the weights tell of a common origin: verdict, reason and the figures behind both."""
    ours, theirs = read_tensors(left), read_tensors(right)
    names = [
        name
        for name, tensor in ours.items()
        if len(tensor.shape) == 2 and name in theirs and theirs[name].shape == tensor.shape
    ]
    inner = [name for name in names if not _EMBEDDING.fullmatch(name)]
    cosines = {name: cosine(values(ours[name]), values(theirs[name])) for name in names}
    matched = dict(_matched(ours, theirs, inner)) if inner else {}
    groups = {
        "attention": [cosines[name] for name in inner if _ATTENTION.fullmatch(name)],
        "ffn": [cosines[name] for name in inner if _FFN.fullmatch(name)],
        "other": [
            cosines[name]
            for name in inner
            if not _ATTENTION.fullmatch(name) and not _FFN.fullmatch(name)
        ],
        "embedding": [cosines[name] for name in names if _EMBEDDING.fullmatch(name)],
    }
    medians = {group: _median(found) for group, found in groups.items() if found}
    if matched:
        medians["ffn_matched"] = _median([one["cosine"] for one in matched.values()])
        medians["ffn_by_chance"] = _median([one["chance"] for one in matched.values()])
    verdict, reason = _judge(len(inner), medians)
    rank = _low_rank(ours, theirs, inner) if verdict == "consistent" else None
    return {
        "verdict": verdict,
        "reason": reason,
        "permuted": _is_permuted(medians),
        "adapter_rank": rank,
        "matrices": len(inner),
        "medians": medians,
        "cosines": cosines,
    }


def _judge(n_matrices: int, medians: Mapping[str, float]) -> tuple[str, str]:
    if not n_matrices:
        return "inconclusive", "no matrix of the two has the same name and shape"
    ffn = max(medians.get("ffn", -1.0), medians.get("ffn_matched", -1.0))
    parts = {name: medians[name] for name in ("attention", "other") if name in medians}
    if "ffn" in medians:
        parts["ffn"] = ffn
    shown = ", ".join(f"{name} {value:.2f}" for name, value in sorted(parts.items()))
    if all(value >= AKIN for value in parts.values()):
        how = " after its neurons are put in order" if _is_permuted(medians) else ""
        return "consistent", f"median cosines are those of parent and child{how}: {shown}"
    limits = dict.fromkeys(parts, STRANGE)
    limits["ffn"] = max(STRANGE, 1.3 * medians.get("ffn_by_chance", 0.0))
    if all(value < limits[name] for name, value in parts.items()):
        return "inconsistent", f"median cosines are those of unrelated models: {shown}"
    return "inconclusive", f"median cosines lie between those of kin and of strangers: {shown}"


def _is_permuted(medians: Mapping[str, float]) -> bool:
    return medians.get("ffn", 1.0) < AKIN <= medians.get("ffn_matched", 0.0)


def _matched(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], names: Sequence[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Per FFN: mean cosine of neurons after the best assignment, and what chance would give."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    layers: dict[str, dict[str, str]] = {}
    for name in names:
        found = _FFN.fullmatch(name)
        if found:
            layers.setdefault(found[1], {})[found[2]] = name
    for layer, parts in layers.items():
        if "up_proj" not in parts or "down_proj" not in parts:
            continue
        one, other = _neurons(ours, parts), _neurons(theirs, parts)
        alike = one @ other.T
        rows, columns = linear_sum_assignment(alike, maximize=True)
        n_neurons, width = one.shape
        chance = math.sqrt(2 * math.log(max(2, n_neurons)) / width)
        yield layer, {"cosine": float(np.mean(alike[rows, columns])), "chance": chance}


def _neurons(tensors: Mapping[str, Tensor], parts: Mapping[str, str]) -> Matrix:
    """One row of length 1 per neuron: what goes in, what gates it, what comes out."""
    import numpy as np

    columns = [
        values(tensors[name]).T if part == "down_proj" else values(tensors[name])
        for part, name in sorted(parts.items())
    ]
    rows = np.concatenate(columns, axis=1)
    norms: Matrix = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, sys.float_info.min)


def _low_rank(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], names: Sequence[str]
) -> int | None:
    """The rank of the update, where most changed matrices agree on one; None otherwise."""
    ranks = []
    for name in names:
        update = values(theirs[name]) - values(ours[name])
        if update.any():
            ranks.append(_rank(update))
    known = [rank for rank in ranks if rank]
    if not known or 2 * len(known) <= len(ranks):
        return None
    common = max(set(known), key=known.count)
    return common if 2 * known.count(common) > len(ranks) else None


def _rank(update: Matrix) -> int:
    """Where the singular values drop; 0 when they do not."""
    import numpy as np

    spectrum = _spectrum(update)
    most = min(_MAX_RANK, len(spectrum) // 2)
    if most < 1 or not spectrum[0]:
        return 0
    ratios = spectrum[1 : most + 1] / np.maximum(spectrum[:most], spectrum[0] * 1e-12)
    at = int(ratios.argmin())
    return at + 1 if ratios[at] < _DROP else 0


def _spectrum(update: Matrix) -> Matrix:
    """Singular values; of a big matrix the first ones, by a seeded random projection."""
    import numpy as np

    if min(update.shape) > _EXACT_SIZE:
        draw = np.random.default_rng(0).standard_normal((update.shape[1], 2 * _MAX_RANK + 16))
        basis, _ = np.linalg.qr(update @ draw)
        update = basis.T @ update
    found: Matrix = np.linalg.svd(update, compute_uv=False).astype(np.float64)
    return found


def _median(numbers: Sequence[float]) -> float:
    ordered = sorted(numbers)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
