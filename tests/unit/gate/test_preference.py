"""Vectors V7 to V10 of the evaluation page, and what must not be returned."""

from __future__ import annotations

import math

import pytest

from forebear.errors import ConfigError
from forebear.gate.preference import (
    arena_outcomes,
    bradley_terry,
    lc_native,
    lc_reference,
    logistic,
    sigmoid,
    style_control,
    style_features,
)

# (preference, length of the candidate's answer, of the baseline's)
F = [
    (1, 300, 200), (1, 420, 210), (0, 150, 260), (1, 500, 240), (0, 180, 200), (1, 310, 300),
    (0, 240, 260), (1, 330, 150), (0, 260, 220), (1, 280, 290), (0.5, 250, 240), (0, 400, 380),
]  # fmt: skip
Y, OURS, BASE = (list(map(float, column)) for column in zip(*F, strict=True))
X = [[(ours - base) / (ours + base)] for ours, base in zip(OURS, BASE, strict=True)]
TIGHT = 1e-6


def test_v7_bradley_terry() -> None:
    games = [(0, 1, 1.0)] * 7 + [(0, 1, 0.0)] * 3 + [(0, 1, 0.5)] * 2
    games += [(0, 2, 1.0)] * 6 + [(0, 2, 0.0)] * 4 + [(1, 2, 1.0)] * 5 + [(1, 2, 0.0)] * 5
    strengths = bradley_terry(games, 3)
    assert strengths is not None
    assert strengths == pytest.approx([0, -0.60387, -0.50720], abs=5e-6)
    assert sigmoid(-strengths[1]) == pytest.approx(0.646542, abs=TIGHT)
    assert sigmoid(-strengths[2]) == pytest.approx(0.624150, abs=TIGHT)


def test_one_sided_games_have_no_strengths() -> None:
    assert bradley_terry([(0, 1, 1.0)] * 5, 2) is None
    assert bradley_terry([(0, 1, 1.0), (0, 1, 0.0)], 3) is None  # nobody plays the third


def test_v8_arena_labels() -> None:
    labels = [
        ("B>>A", "A>B"), ("A>B", "B>A"), ("A=B", "A>B"),
        ("B>A", "A>>B"), ("A>>B", "B>>A"), ("B>A", "A=B"),
    ]  # fmt: skip
    outcomes = [one for prompt in arena_outcomes(labels) for one in prompt]
    assert len(outcomes) == 20
    assert sum(outcomes) / 20 == 0.55


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match="no label"):
        arena_outcomes([("A>B", "C>A")])


def test_v9_style_control_is_read_where_the_features_are_zero() -> None:
    assert style_control(Y, X) == pytest.approx(0.354124, abs=TIGHT)
    assert math.fsum(Y) / len(Y) == pytest.approx(0.541667, abs=TIGHT)
    centre = math.fsum(row[0] for row in X) / len(X)
    assert style_control(Y, [[row[0] - centre] for row in X]) == pytest.approx(0.633039, abs=TIGHT)


def test_style_control_counts_copies_and_drops_what_never_moves() -> None:
    doubled = style_control([*Y, Y[0]], [*X, X[0]])
    assert style_control(Y, X, [2.0] + [1.0] * 11) == pytest.approx(doubled, abs=1e-9)
    assert style_control(Y, [[*row, 0.25] for row in X]) == style_control(Y, X)
    assert style_control([], []) is None
    assert style_control([1.0] * 12, X) is None


def test_style_features_are_shares_and_densities() -> None:
    ours = {"tokens": 300, "headers": 3, "lists": 0, "bold": 6}
    theirs = {"tokens": 100, "headers": 0, "lists": 0, "bold": 2}
    found = style_features(ours, theirs)
    assert found["x_length"] == 0.5
    assert found["x_headers"] == pytest.approx((3 / 301) / (3 / 301 + 1))
    assert found["x_lists"] == 0.0
    assert style_features(dict.fromkeys(ours, 0), dict.fromkeys(ours, 0))["x_length"] == 0.0


def test_v10_length_control() -> None:
    found = lc_native(Y, OURS, BASE, min_items=12)
    assert found is not None
    assert found.scale == pytest.approx(109.499550, abs=TIGHT)
    assert (found.theta, found.phi) == pytest.approx((-0.576092, -3.405367), abs=TIGHT)
    assert found.value == pytest.approx(35.983227, abs=TIGHT)
    free = lc_native(Y, OURS, BASE, min_items=12, penalty=0.0)
    assert free is not None
    assert free.value == pytest.approx(34.885721, abs=TIGHT)


def test_length_control_is_nothing_where_it_says_nothing() -> None:
    assert lc_native(Y, OURS, BASE) is None  # 12 items
    assert lc_native(Y, OURS, OURS, min_items=12) is None  # equal lengths
    assert lc_native([0.5, 1.0] * 6, OURS, BASE, min_items=12) is None  # nobody ever loses


def test_the_published_length_control_says_that_it_is_not_here() -> None:
    with pytest.raises(ConfigError, match="not built in"):
        lc_reference()


def test_the_covariance_is_that_of_a_share() -> None:
    fitted = logistic([[1.0]] * 40, [1.0] * 10 + [0.0] * 30)
    assert fitted is not None
    assert fitted.coefficients[0] == pytest.approx(math.log(1 / 3))
    assert fitted.covariance[0][0] == pytest.approx(1 / (40 * 0.25 * 0.75))
