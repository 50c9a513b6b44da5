"""Preference optimisation of the SFT checkpoint on pairs made on policy."""

from __future__ import annotations

from pathlib import Path

from forebear.train.prefer import PreferParams, train_prefer
from forebear.train.stage import stage


@stage("prefer")
def main(
    params: PreferParams,
    *,
    start: Path,
    rows: Path,
    out: Path,
    pairs: Path,
    metrics: Path,
    curves: Path,
) -> None:
    """Makes preference pairs with the starting checkpoint and trains it on them."""
    train_prefer(
        params, start=start, rows=rows, out=out, pairs=pairs, metrics=metrics, curves=curves
    )


if __name__ == "__main__":
    main()
