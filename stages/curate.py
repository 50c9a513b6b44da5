"""The declared sources, filtered and split into corpus, golden set and instruction rows."""

from __future__ import annotations

import os
from pathlib import Path

from forebear.train.curate.params import CurateParams
from forebear.train.stage import stage

# A list that names nothing, and no salt.
_NOTHING = Path(os.devnull)


@stage("curate")
def main(
    params: CurateParams,
    *,
    corpus: Path,
    golden: Path,
    ledger: Path,
    dropped: Path,
    metrics: Path,
    takedown: Path = _NOTHING,
    opt_out: Path = _NOTHING,
    evaluation_only: Path = _NOTHING,
    salt: Path = _NOTHING,
) -> None:
    """Reads the sources, holds the golden set out, filters the rest and keeps the ledger."""
    from forebear.train.curate.evalonly import read_evaluation_only
    from forebear.train.curate.optout import read_opt_out
    from forebear.train.curate.takedown import read_salt, read_takedown
    from forebear.train.curate.work import build_corpus

    build_corpus(
        params,
        corpus=corpus,
        golden=golden,
        ledger=ledger,
        dropped=dropped,
        metrics=metrics,
        takedown=read_takedown(takedown, salt=read_salt(salt)),
        opt_out=read_opt_out(opt_out),
        evaluation_only=read_evaluation_only(evaluation_only),
    )


if __name__ == "__main__":
    main()
