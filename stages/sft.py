"""Supervised fine-tuning of the continued checkpoint on instruction rows."""

from __future__ import annotations

from pathlib import Path

from forebear.train.sft import SftParams, train_sft
from forebear.train.stage import stage


@stage("sft")
def main(
    params: SftParams,
    *,
    base: Path,
    rows: Path,
    shards: Path,
    out: Path,
    adapter: Path,
    metrics: Path,
    curves: Path,
    row_list: Path,
    sweep: Path,
) -> None:
    """Teaches the checkpoint to answer, by LoRA or in full, and guards what it knew before."""
    train_sft(
        params,
        base=base,
        rows=rows,
        shards=shards,
        out=out,
        adapter=adapter,
        metrics=metrics,
        curves=curves,
        row_list=row_list,
        sweep=sweep,
    )


if __name__ == "__main__":
    main()
