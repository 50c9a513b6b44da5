"""Measurement of one checkpoint on the golden set and the general benchmarks."""

from __future__ import annotations

from pathlib import Path

from forebear.train.evaluate.measure import MeasureParams, measure
from forebear.train.stage import stage


@stage("measure")
def main(
    params: MeasureParams,
    *,
    checkpoint: Path,
    golden: Path,
    benchmarks: Path,
    out: Path,
    private: Path,
    name: str,
) -> None:
    """Scores a checkpoint item by item and writes its run folder."""
    measure(
        params,
        checkpoint=checkpoint,
        golden=golden,
        benchmarks=benchmarks,
        out=out,
        private=private,
        name=name,
    )


if __name__ == "__main__":
    main()
