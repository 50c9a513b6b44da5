"""How like two runs of one stage are: the verdict, and what it rests on.

Digests decide *identical*. Where they differ, the first file is named, and the first tensor in it
where the original's bytes are still to be had. *within bound* is given for weights only, against a
bound fixed before; files of a checkpoint other than weights must be equal, figures beside it may
differ and are listed, and a gate must come to the same verdict.

Rests on: provenance page, section 10.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError, FormatError, MissingExtra
from forebear.evidence import worker
from forebear.evidence.reproduction import DIFFERENT, IDENTICAL, WITHIN, Verdict
from forebear.evidence.weights import SUFFIX, first_difference
from forebear.formats.link import TREE, is_virtual
from forebear.pipeline import Stage
from forebear.release.cleanroom import Store, Unavailable

_GATE = "gate.json"
_SHOWN = 20


@dataclass(slots=True)
class Likeness:
    """What a comparison came to.

    Attributes:
        verdict: of all outs together.
        differing: files that differ, sorted; weights first.
        first: the first of them, with the tensor where it can be told.
        weights: largest distances, by checkpoint.
        tolerance: the bound and where it stood; empty without one.
        gate: whether both runs came to the same gate verdict; None where there is no gate.
    """

    verdict: Verdict
    differing: tuple[str, ...] = ()
    first: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    tolerance: Mapping[str, Any] = field(default_factory=dict)
    gate: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the statement."""
        return {
            "differing": len(self.differing),
            "files": list(self.differing[:_SHOWN]),
            "first": dict(self.first) or None,
            "weights": dict(self.weights),
            "tolerance": dict(self.tolerance) or None,
            "gateVerdictEqual": self.gate,
        }


def compare(  # noqa: PLR0913, PLR0917  # both runs, and where their bytes are
    original: Mapping[str, str],
    again: Mapping[str, str],
    stage: Stage,
    room: Path,
    store: Store,
    tolerance: Mapping[str, Any],
) -> Likeness:
    """Compares two runs' outs.

    Args:
        original: digest by artifact, as the link signs them.
        again: the same of the second run.
        stage: whose outs they are.
        room: where those of the second run lie.
        store: where those of the original may lie.
        tolerance: ``bound`` and ``from``; empty without a bound.

    Raises:
        MissingExtra: there is a bound, and numpy is missing.
        EnvironmentFailure: the disk refuses.
    """
    differing = _differing(original, again, stage)
    if not differing:
        return Likeness(IDENTICAL, tolerance=tolerance, gate=_has_gate(original) or None)
    with tempfile.TemporaryDirectory(prefix="forebear-original-") as folder:
        kept = Path(folder)
        missing = _restore(original, differing, kept, store)
        first = {"file": differing[0], **_first_tensor(differing[0], kept, room)}
        if missing:
            first["note"] = (
                f"{missing} of the original is not here, so its content was not compared"
            )
        weights = _distances(differing, stage, kept, room, insist=bool(tolerance))
        gate = _same_gate(original, kept, room, differing)
    found = Likeness(DIFFERENT, differing, first, weights, tolerance, gate)
    if tolerance and not missing and gate is not False:
        bound = tolerance["bound"]
        sound = all(_may_differ(path, stage) for path in differing)
        if sound and all(_is_within(measured, bound) for measured in weights.values()):
            found.verdict = WITHIN
    return found


def _differing(
    original: Mapping[str, str], again: Mapping[str, str], stage: Stage
) -> tuple[str, ...]:
    names = {name for name in original.keys() | again.keys() if not is_virtual(name)}
    found = [name for name in names if original.get(name) != again.get(name)]
    # an empty folder has no file that could tell
    folders = {name for name in original.keys() ^ again.keys() if name.startswith(TREE)}
    found += [name for name in folders if not any(
        path.startswith(f"{name.removeprefix(TREE)}/") for path in found)]  # fmt: skip
    return tuple(sorted(found, key=lambda name: (not _is_weights(name, stage), name)))


def _models(stage: Stage) -> list[str]:
    return [out.path for out in stage.outs if out.kind == "model"]


def _is_weights(path: str, stage: Stage) -> bool:
    inside = any(path.startswith(f"{model}/") for model in _models(stage))
    return inside and path.endswith(SUFFIX)


def _may_differ(path: str, stage: Stage) -> bool:
    """Weights, which are measured, and figures beside checkpoints; no other file of one."""
    inside = any(path.startswith(f"{model}/") for model in _models(stage))
    return not inside or path.endswith(SUFFIX)


def _restore(
    original: Mapping[str, str], differing: tuple[str, ...], kept: Path, store: Store
) -> str:
    """Puts the original's files that differ into ``kept``; names the first that cannot be."""
    folders = {path.rpartition("/")[0] for path in differing if path.endswith(SUFFIX)}
    for path, digest in sorted(original.items()):
        # all weights of a checkpoint: tensors may have moved between its files
        beside = path.endswith(SUFFIX) and path.rpartition("/")[0] in folders
        if is_virtual(path) or not (beside or path in differing):
            continue
        try:
            store.put(path, digest, kept)
        except Unavailable:
            return path
    return ""


def _first_tensor(path: str, kept: Path, room: Path) -> dict[str, str]:
    if not path.endswith(SUFFIX) or not (kept / path).is_file():
        return {}
    folder = path.rpartition("/")[0]
    try:
        found = first_difference(kept / folder, room / folder)
    except FormatError as error:
        return {"note": f"{path} {error.what}"}
    return {} if found is None else {"tensor": found.tensor, "what": found.what}


def _distances(
    differing: tuple[str, ...], stage: Stage, kept: Path, room: Path, *, insist: bool
) -> dict[str, Any]:
    """Largest distances of each checkpoint whose weights differ; none where nobody can measure."""
    found = {}
    for model in _models(stage):
        if not any(path.startswith(f"{model}/") and path.endswith(SUFFIX) for path in differing):
            continue
        request = {"do": "distance", "left": str(kept / model), "right": str(room / model)}
        try:
            found[model] = worker.ask("compare", request, needed_for="measuring weights")
        except MissingExtra:
            if insist:
                raise
        except ForebearError as error:
            found[model] = {"refused": error.what}
    return found


def _is_within(measured: Mapping[str, Any], bound: Mapping[str, float]) -> bool:
    if "refused" in measured or measured["other_form"]:
        return False
    for measure, limit in bound.items():
        value = measured[measure]["value"]
        if value < limit if measure == "min_cosine" else value > limit:
            return False
    return True


def _gates(products: Mapping[str, str]) -> Iterator[str]:
    return (name for name in products if name.rpartition("/")[2] == _GATE)


def _has_gate(products: Mapping[str, str]) -> bool:
    return any(_gates(products))


def _same_gate(
    original: Mapping[str, str], kept: Path, room: Path, differing: tuple[str, ...]
) -> bool | None:
    """Whether the verdicts of every ``gate.json`` are equal; None without one."""
    names = list(_gates(original))
    for name in names:
        if name not in differing:
            continue
        try:
            ours, theirs = (json.loads((folder / name).read_bytes()) for folder in (kept, room))
            if ours["verdict"] != theirs["verdict"]:
                return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
    return True if names else None
