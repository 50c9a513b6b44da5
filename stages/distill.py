"""Distillation: a teacher's verified answers teach the student."""

from __future__ import annotations

from pathlib import Path

from forebear.train.distill.run import DistillParams, train_distill
from forebear.train.stage import stage


@stage("distill")
def main(
    params: DistillParams,
    *,
    rows: Path,
    out: Path,
    trajectories: Path,
    used: Path,
    metrics: Path,
    curves: Path,
    teacher: Path | None = None,
    student: Path | None = None,
    dataset: Path | None = None,
    responses: Path | None = None,
) -> None:
    """Has the teacher answer, keeps verified answers and trains the student on them."""
    train_distill(
        params,
        rows=rows,
        out=out,
        trajectories=trajectories,
        used=used,
        metrics=metrics,
        curves=curves,
        teacher=teacher,
        student=student,
        dataset=dataset,
        responses=responses,
    )


if __name__ == "__main__":
    main()
