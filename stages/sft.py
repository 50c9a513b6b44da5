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
) -> None:
    """Teaches the checkpoint to answer, by LoRA or in full."""
    train_sft(
        params,
        base=base,
        rows=rows,
        shards=shards,
        out=out,
        adapter=adapter,
        metrics=metrics,
        curves=curves,
    )


if __name__ == "__main__":
    main()
