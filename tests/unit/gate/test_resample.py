"""The draws: numpy's generator from the same state, and what is made of them."""

from __future__ import annotations

import math

import pytest

from forebear.gate.resample import (
    Pcg64,
    bca,
    bootstrap,
    interval,
    jackknife,
    sign_flip,
    swap_test,
)

DIFFERENCES = [-1.0, -2, 0, 1, -1, -3, 0, -1, 2, -2]


def numpy_generator(own: Pcg64) -> object:
    np = pytest.importorskip("numpy")
    bits = np.random.PCG64()
    state, increment = own.state
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": increment},
        "has_uint32": 0,
        "uinteger": 0,
    }
    return np.random.Generator(bits)


@pytest.mark.parametrize("key", ["20260101|mc4|acc", "", "é"])
def test_the_generator_gives_what_numpys_gives(key: str) -> None:
    theirs = numpy_generator(Pcg64(key)).bit_generator  # type: ignore[attr-defined]  # optional
    own = Pcg64(key)
    assert [own.next64() for _ in range(2000)] == [int(one) for one in theirs.random_raw(2000)]


@pytest.mark.parametrize("n", [1, 2, 7, 97, 12_032, 2**31 + 11, 2**32 - 1])
def test_indices_are_numpys_integers(n: int) -> None:
    theirs = numpy_generator(Pcg64("k")).integers(0, n, 999)  # type: ignore[attr-defined]  # optional
    assert Pcg64("k").indices(n, 999) == [int(one) for one in theirs]


def test_other_keys_give_other_draws() -> None:
    assert Pcg64("1|t|acc").indices(1000, 20) != Pcg64("1|t|f1").indices(1000, 20)


def test_v6_sign_flip_counts_every_pattern() -> None:
    assert sign_flip(DIFFERENCES, key="any") == 0.12109375
    assert math.fsum(DIFFERENCES) / len(DIFFERENCES) == pytest.approx(-0.7)


def test_sign_flip_without_a_difference_is_certain_of_nothing() -> None:
    assert sign_flip([0.0, 0.0], key="any") == 1.0


def test_drawn_patterns_come_near_to_all_patterns() -> None:
    np = pytest.importorskip("numpy")
    values = [-3.0, -1, -2, 4, -1, 2, -5, 1, -2, -1, 3, -2, 1, -4, -1, 2]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 16)).reshape(16, -1)
    exact = float((signs.T @ np.abs(values) <= sum(values)).mean())
    assert sign_flip(values, key="any") == exact
    drawn = sign_flip([*values, 1e-9], key="any")  # 17 differences: drawn
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000))


def test_swapping_units_of_a_mean_is_flipping_signs() -> None:
    def difference(mask: int) -> float:
        signed = (-one if mask >> at & 1 else one for at, one in enumerate(DIFFERENCES))
        return math.fsum(signed) / len(DIFFERENCES)

    assert swap_test(10, difference, key="any") == 0.12109375
    many = [one / 10 for one in DIFFERENCES] * 3

    def longer(mask: int) -> float:
        return math.fsum(-one if mask >> at & 1 else one for at, one in enumerate(many))

    assert swap_test(30, longer, key="a") == pytest.approx(sign_flip(many, key="b"), abs=0.02)


def test_bca_is_scipys_interval() -> None:
    np = pytest.importorskip("numpy")
    stats = pytest.importorskip("scipy.stats")
    values = [float(one) for one in np.random.default_rng(7).exponential(size=60)]

    def mean(drawn: object) -> float:
        picked = [values[at] for at in drawn]  # type: ignore[attr-defined]  # indices
        return math.fsum(picked) / len(picked)

    ours = interval(60, mean, key="k", draws=9000)
    theirs = stats.bootstrap(
        (np.array(values),), np.mean, n_resamples=9000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_an_interval_of_equal_values_has_no_width() -> None:
    found = interval(20, lambda _: 0.5, key="k", draws=200)
    assert found is not None
    assert (found.low, found.high) == (0.5, 0.5)


def test_a_statistic_that_is_mostly_undefined_has_no_interval() -> None:
    assert interval(20, lambda drawn: None if 3 in drawn else 1.0, key="k", draws=200) is None


def test_bounds_widen_with_the_level() -> None:
    drawn = [one for one in bootstrap(30, lambda d: sum(d) / 30, key="k") if one is not None]
    left_out = jackknife(30, lambda d: sum(d) / len(d))
    low, high = bca(14.5, drawn, left_out, 0.95)
    lower, higher = bca(14.5, drawn, left_out, 0.99)
    assert lower < low < 14.5 < high < higher
