"""The numeric vectors of the evaluation page, section 16."""

from __future__ import annotations

import pytest

from forebear.gate import statistics as st

TIGHT = 1e-6


@pytest.mark.parametrize(
    ("losses", "gains", "expected"),
    [
        (9, 2, 0.032715),
        (5, 5, 0.623047),
        (12, 3, 0.017578),
        (30, 14, 0.011314),
        (5, 0, 0.031250),
        (2, 9, 0.994141),
        (0, 0, 1.0),
    ],
)
def test_v1_exact_mcnemar(losses: int, gains: int, expected: float) -> None:
    assert st.mcnemar_worse(losses, gains) == pytest.approx(expected, abs=TIGHT)


def test_v2_holm() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([]) == []


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (0, 100, 0, 0.036993),
        (7, 10, 0.396778, 0.892209),
        (45, 80, 0.453411, 0.665861),
        (3, 200, 0.005114, 0.043166),
        (10, 10, 0.722467, 1),
    ],
)
def test_v3_wilson(right: int, n: int, low: float, high: float) -> None:
    assert st.wilson(right, n) == pytest.approx((low, high), abs=TIGHT)


@pytest.mark.parametrize(
    ("losses", "gains", "n", "expected"),
    [
        (9, 2, 200, -0.067159),
        (30, 14, 500, -0.054872),
        (5, 5, 100, -0.057086),
        (0, 0, 50, -0.051333),
        (4, 6, 1000, -0.003629),
        (10, 12, 500, -0.012070),
        (0, 0, 500, -0.005382),
    ],
)
def test_v4_tango_one_sided_lower(losses: int, gains: int, n: int, expected: float) -> None:
    assert st.tango_lower(losses, gains, n) == pytest.approx(expected, abs=TIGHT)


@pytest.mark.parametrize(
    ("losses", "gains", "n", "low", "high"),
    [(0, 0, 50, -0.071348, 0.071348), (9, 2, 200, -0.074770, -0.003010)],
)
def test_v5_tango_two_sided(losses: int, gains: int, n: int, low: float, high: float) -> None:
    assert st.tango_interval(losses, gains, n) == pytest.approx((low, high), abs=TIGHT)


def test_v11_kappa() -> None:
    assert st.cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert st.cohen_kappa([[7, 0], [0, 0]]) is None


@pytest.mark.parametrize(
    ("discordance", "margin", "expected"),
    [(0.2, 0.05, 495), (0.2, 0.02, 3092), (0.1, 0.02, 1546), (0.2, 0.10, 124)],
)
def test_v16_items_needed(discordance: float, margin: float, expected: int) -> None:
    assert st.items_needed(discordance, margin) == expected


@pytest.mark.parametrize(
    ("n", "discordance", "drop", "expected"),
    [(200, 0.2, 0.1, 0.9320), (493, 0.2, 0.05, 0.7741), (280, 0.2, 0.05, 0.5440)],
)
def test_v17_exact_mcnemar_power(n: int, discordance: float, drop: float, expected: float) -> None:
    assert st.mcnemar_power(n, discordance, drop) == pytest.approx(expected, abs=5e-5)


def test_v18_clopper_pearson_upper() -> None:
    assert st.clopper_pearson(0, 100) == pytest.approx((0.0, 0.029513), abs=TIGHT)
    assert st.clopper_pearson(100, 100)[1] == 1.0


def test_all_items_lost_has_no_bound_above_minus_one() -> None:
    assert st.tango_lower(10, 0, 10) == -1.0


@pytest.mark.parametrize(("losses", "gains", "n"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(losses: int, gains: int, n: int) -> None:
    with pytest.raises(ValueError, match=r"fit|below"):
        st.tango_lower(losses, gains, n)
