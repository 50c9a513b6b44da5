"""The corpus as packed sequences of token ids, domain and replay mixed to a measured share."""

from __future__ import annotations

from pathlib import Path

from forebear.train.stage import stage
from forebear.train.tokenize.params import TokenizeParams


@stage("tokenize")
def main(
    params: TokenizeParams,
    *,
    base: Path,
    corpus: Path,
    shards: Path,
    tokenizer: Path,
    metrics: Path,
) -> None:
    """Encodes, mixes and packs domain and replay documents; holds some of each out."""
    from forebear.train.tokenize.work import build_shards

    build_shards(
        params, base=base, corpus=corpus, shards=shards, tokenizer=tokenizer, metrics=metrics
    )


if __name__ == "__main__":
    main()
