"""Preference optimisation of a checkpoint, on pairs made on policy or on what a file gives."""

from __future__ import annotations

from pathlib import Path

from forebear.train.prefer import PreferParams, train_prefer
from forebear.train.stage import stage


@stage("prefer")
def main(
    params: PreferParams,
    *,
    start: Path,
    out: Path,
    pairs: Path,
    metrics: Path,
    curves: Path,
    rows: Path | None = None,
    given: Path | None = None,
) -> None:
    """Trains the starting checkpoint on preferences, its own or given ones."""
    train_prefer(
        params,
        start=start,
        rows=rows,
        given=given,
        out=out,
        pairs=pairs,
        metrics=metrics,
        curves=curves,
    )


if __name__ == "__main__":
    main()
