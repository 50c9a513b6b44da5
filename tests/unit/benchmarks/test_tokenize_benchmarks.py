"""The benchmarks of tokenize, in small: what they compare is comparable, and memory stays flat."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tokenize_memory import curve, write_inputs
from benchmarks.vocabulary import Given, compare

TOKENIZE = {
    "seed": 1,
    "length_tokens": 64,
    "replay_share": 0.15,
    "domain_tokens": 6000,
    "validation_tokens": 256,
}
CPT = {
    "seed": 1,
    "lr": 1e-2,
    "epochs": 1,
    "batch_sequences": 2,
    "grad_accumulation": 1,
    "warmup_ratio": 0.1,
    "max_grad_norm": 1.0,
}


def test_both_vocabularies_train_on_the_same_bytes_and_learn(tmp_path: Path) -> None:
    write_inputs(str(tmp_path), 300_000)
    given = Given(tmp_path / "base", tmp_path / "corpus", tmp_path, TOKENIZE, CPT)
    old, new = compare(given, [100])
    assert new["train_bytes"] == pytest.approx(old["train_bytes"], rel=0.03)
    assert new["new_tokens"] > 10
    assert new["saved_percent"] > 5
    assert new["sequences"] < old["sequences"]
    for row in (old, new):
        assert 0 < row["domain_bpb_after"] < row["domain_bpb_before"]
    change = 100 * (new["domain_bpb_after"] / old["domain_bpb_after"] - 1)
    assert new["domain_bpb_change_percent"] == pytest.approx(change, abs=0.02)


def test_peak_memory_does_not_grow_with_the_corpus() -> None:
    small, large = curve((0.3, 3), extend=[False])
    assert large["packed_tokens"] > 8 * small["packed_tokens"]
    # ids of the larger corpus in a Python list alone would take 6 MiB more, its text 3
    assert large["peak_mib"] - small["peak_mib"] < 5
