"""The gate: compares the candidate's run with the reference's and refuses what does not pass."""

from __future__ import annotations

from pathlib import Path

from forebear.train.evaluate.decide import EvalParams, evaluate
from forebear.train.stage import stage


@stage("eval")
def main(
    params: EvalParams,
    *,
    candidate: Path,
    reference: Path,
    golden: Path,
    waivers: Path,
    out: Path,
    metrics: Path,
) -> None:
    """Writes the verdict; a verdict of FAIL or INCONCLUSIVE ends the pipeline here."""
    evaluate(
        params,
        candidate=candidate,
        references=[reference],
        golden=golden,
        out=out,
        metrics_file=metrics,
        waivers=waivers,
    )


if __name__ == "__main__":
    main()
