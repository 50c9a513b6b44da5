"""Rejection-sampling self-distillation of the SFT checkpoint."""

from __future__ import annotations

from pathlib import Path

from forebear.train.distill.run import DistillParams, train_distill
from forebear.train.stage import stage


@stage("distill")
def main(
    params: DistillParams,
    *,
    teacher: Path,
    rows: Path,
    out: Path,
    trajectories: Path,
    metrics: Path,
    curves: Path,
) -> None:
    """Samples the teacher, keeps verified answers and trains the student on them."""
    train_distill(
        params,
        teacher=teacher,
        rows=rows,
        out=out,
        trajectories=trajectories,
        metrics=metrics,
        curves=curves,
    )


if __name__ == "__main__":
    main()
