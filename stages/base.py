"""The pinned base model, written as a checkpoint with the pinned chat template."""

from __future__ import annotations

from pathlib import Path

from forebear.train.base import BaseParams, build_base
from forebear.train.stage import stage


@stage("base")
def main(params: BaseParams, *, out: Path, facts: Path, metrics: Path) -> None:
    """Fetches and checks the base model and writes it as the pipeline's first checkpoint."""
    build_base(params, out=out, facts=facts, metrics=metrics)


if __name__ == "__main__":
    main()
