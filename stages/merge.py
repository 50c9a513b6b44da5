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
    distill_base: Path | None = None,
    prefer_base: Path | None = None,
) -> None:
    """Merges the two branches over the base; a branch may be an adapter of another checkpoint."""
    run_merge_stage(
        params,
        base=base,
        distill=distill,
        prefer=prefer,
        out=out,
        metrics=metrics,
        distill_base=distill_base,
        prefer_base=prefer_base,
    )


if __name__ == "__main__":
    main()
