"""Continued pre-training of the base on the packed domain and replay sequences."""

from __future__ import annotations

from pathlib import Path

from forebear.train.cpt import CptParams, train_cpt
from forebear.train.stage import stage


@stage("cpt")
def main(
    params: CptParams,
    *,
    base: Path,
    shards: Path,
    out: Path,
    intermediate: Path,
    log: Path,
    metrics: Path,
    curves: Path,
    tokenizer: Path | None = None,
) -> None:
    """Trains every parameter of the base on the packed sequences."""
    train_cpt(
        params,
        base=base,
        shards=shards,
        out=out,
        intermediate=intermediate,
        log=log,
        metrics=metrics,
        curves=curves,
        tokenizer=tokenizer,
    )


if __name__ == "__main__":
    main()
