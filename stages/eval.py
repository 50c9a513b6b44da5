"""The gate: compares the candidate's run with the references' and refuses what does not pass."""

from __future__ import annotations

from pathlib import Path

from forebear.train.evaluate.decide import EvalParams, Searched, evaluate
from forebear.train.stage import stage


@stage("eval")
def main(  # one argument per path
    params: EvalParams,
    *,
    candidate: Path,
    reference: str,
    golden: Path,
    waivers: Path,
    out: Path,
    metrics: Path,
    previous: Path | None = None,
    benchmarks: Path | None = None,
    corpus: Path | None = None,
    ledger: Path | None = None,
    trajectories: Path | None = None,
    pairs: Path | None = None,
) -> None:
    """Writes the verdict; FAIL or INCONCLUSIVE ends the pipeline. Several references: by commas."""
    evaluate(
        params,
        candidate=candidate,
        references=[Path(one) for one in reference.split(",")],
        golden=golden,
        out=out,
        metrics_file=metrics,
        previous=previous,
        searched=Searched(benchmarks, corpus, ledger, trajectories, pairs),
        waivers=waivers,
    )


if __name__ == "__main__":
    main()
