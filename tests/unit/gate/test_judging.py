"""Vectors V12, V13 and V15 of the evaluation page."""

from __future__ import annotations

import pytest

from forebear.gate.judging import ece, pass_at_k, ppi

CONFIDENCES = [0.95, 0.9, 0.85, 0.75, 0.65, 0.55, 0.95, 0.6]
CORRECT = [1, 1, 0, 1, 0, 1, 1, 0]


def test_v12_calibration_error() -> None:
    assert ece(CONFIDENCES, CORRECT) == pytest.approx(0.375)
    assert ece([1.0], [True]) == 0.0  # belongs to the last bin
    assert ece([], []) is None


def test_v13_correction_by_labelled_items() -> None:
    f, y = [1.0, 1, 0, 1, 0, 1, 1, 0], [1.0, 0, 0, 1, 0, 1, 1, 1]
    found = ppi([1.0] * 70 + [0.0] * 30, f, y)
    assert found is not None
    assert found.estimate == pytest.approx(0.7)
    assert found.se == pytest.approx(0.194513, abs=1e-6)
    assert (found.low, found.high) == (pytest.approx(0.318761, abs=1e-6), 1.0)
    assert (found.clipped, found.usable) == (True, False)
    assert ppi([1.0], f, y) is None


def test_a_correction_counts_from_thirty_labels_on() -> None:
    found = ppi([0.5] * 100, [0.0, 1.0] * 15, [0.0, 1.0] * 15)
    assert found is not None
    assert (found.usable, found.clipped, found.estimate) == (True, False, 0.5)


@pytest.mark.parametrize(
    ("counts", "expected"), [((10, 3, 1), 0.3), ((10, 3, 5), 0.916667), ((5, 5, 1), 1.0)]
)
def test_v15_pass_at_k(counts: tuple[int, int, int], expected: float) -> None:
    assert pass_at_k(*counts) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("counts", [(10, 11, 1), (10, 3, 0), (10, 3, 11)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(*counts)
