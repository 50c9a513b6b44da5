"""Merge of the distilled and the preference-tuned checkpoint over their common parent."""

from __future__ import annotations

from pathlib import Path

from forebear.train.merge import MergeParams, run_merge_stage
from forebear.train.stage import stage


@stage("merge")
def main(
    params: MergeParams,
    *,
    base: Path,
    distill: Path,
    prefer: Path,
    out: Path,
    metrics: Path,
) -> None:
    """Merges the two branches over the base."""
    run_merge_stage(params, base=base, distill=distill, prefer=prefer, out=out, metrics=metrics)


if __name__ == "__main__":
    main()
