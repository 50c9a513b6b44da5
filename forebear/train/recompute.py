"""Recomputes a recorded merge from its inputs, with the code of this package and no other.

Reads one request (command, params, root, checked inputs, folder for its work) on standard input and
answers with the folder that it wrote and the versions it used. A command that is no merge of ours
is answered with ``unsupported``: such a stage can only be run again (``forebear reproduce``).

Rests on: provenance page, section 10 ("merge is recomputed exactly").
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.errors import FormatError
from forebear.train.compare import answer_one

_MODULE = "stages.merge"


def recompute(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request.

    Raises:
        FormatError: params or inputs do not hold.
    """
    options = _options(request["argv"])
    if options is None:
        return {"unsupported": True}
    read = [options.base, options.distill, options.prefer]
    read += [path for path in (options.distill_base, options.prefer_base) if path]
    if request.get("probe"):
        return {"unsupported": False, "reads": list(dict.fromkeys(read))}
    for path in read:
        if path not in request["inputs"]:
            raise FormatError("is merged, but is no checkpoint that the link names", where=path)
    import importlib.metadata
    import os

    os.environ["FOREBEAR_SCRATCH"] = str(Path(request["work"]) / "scratch")
    from forebear.errors import ConfigError
    from forebear.train.merge import Branch, MergeParams, merge_checkpoints
    from forebear.train.runtime import configure
    from forebear.train.stage import scratch_dir, stage_seed, validate_section

    try:
        params = validate_section(MergeParams, "merge", request["params"])
    except ConfigError as error:
        raise FormatError(error.what, where=error.where) from error
    if not isinstance(params, MergeParams):
        raise FormatError("are no params of a merge", where="params")
    root, out = Path(request["root"]), Path(request["work"]) / "out"
    seed = stage_seed(params.seed, "merge")
    configure(seed)
    merge_checkpoints(
        params.method,
        base=root / options.base,
        branches=[
            Branch(
                root / options.distill,
                params.weights.distill,
                params.densities.distill,
                root / options.distill_base if options.distill_base else None,
            ),
            Branch(
                root / options.prefer,
                params.weights.prefer,
                params.densities.prefer,
                root / options.prefer_base if options.prefer_base else None,
            ),
        ],
        out=out,
        scratch=scratch_dir("merge"),
        seed=seed,
        t=params.t,
        dtype=params.dtype,
        max_shard_mb=params.max_shard_mb,
    )
    versions = {name: importlib.metadata.version(name) for name in ("mergekit", "peft", "torch")}
    return {"out": options.out, "folder": str(out), "versions": versions}


def _options(argv: Sequence[str]) -> argparse.Namespace | None:
    """Paths of a merge's command; None when it is no merge of ours."""
    if list(argv[:3]) != ["python", "-m", _MODULE]:
        return None
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    for name in ("base", "distill", "prefer", "out", "metrics"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("distill-base", "prefer-base"):
        parser.add_argument(f"--{name}", default="")
    try:
        options, stray = parser.parse_known_args(list(argv[3:]))
    except (argparse.ArgumentError, SystemExit):
        return None
    return None if stray else options


if __name__ == "__main__":
    raise SystemExit(answer_one(recompute))
