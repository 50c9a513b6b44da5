"""Rules that the gate's statistics obey for all counts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from forebear.gate.paired import Paired, pair_items
from forebear.gate.resample import Pcg64, sign_flip
from forebear.gate.runs import Item, Metric
from forebear.gate.statistics import (
    clopper_pearson,
    holm,
    mcnemar_worse,
    tango_interval,
    tango_lower,
    wilson,
)
from forebear.train.evaluate.suite import select_items

P_VALUES = st.lists(st.floats(0, 1), max_size=12)


@st.composite
def paired_counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 2000))
    losses = draw(st.integers(0, n))
    return losses, draw(st.integers(0, n - losses)), n


@given(paired_counts())
@settings(max_examples=100, deadline=None)
def test_tango_bounds_hold_the_estimate_and_mirror(counts: tuple[int, int, int]) -> None:
    losses, gains, n = counts
    low, high = tango_interval(losses, gains, n)
    assert -1 <= low <= (gains - losses) / n <= high <= 1
    mirrored = tango_interval(gains, losses, n)
    assert mirrored == (-high, -low)
    assert low <= tango_lower(losses, gains, n)


@given(paired_counts())
@settings(max_examples=100, deadline=None)
def test_one_more_loss_never_helps(counts: tuple[int, int, int]) -> None:
    losses, gains, n = counts
    if losses + gains < n:
        assert tango_lower(losses + 1, gains, n) <= tango_lower(losses, gains, n) + 1e-12
        assert mcnemar_worse(losses + 1, gains) <= mcnemar_worse(losses, gains)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_both_directions_share_the_observed_outcome(losses: int, gains: int) -> None:
    # P(X ≥ b) + P(X ≥ c) = 1 + P(X = b), as the two tails overlap in the outcome itself
    assert 1 <= mcnemar_worse(losses, gains) + mcnemar_worse(gains, losses) <= 2 + 1e-12


@given(P_VALUES)
def test_holm_keeps_order_and_never_lowers(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    ranked = [after for _, after in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_share_intervals_hold_the_share(counts: tuple[int, int]) -> None:
    hits, n = counts
    for low, high in (wilson(hits, n), clopper_pearson(hits, n)):
        assert 0 <= low <= hits / n <= high <= 1


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    st.integers(1, 59),
    st.integers(0, 2**31),
)
def test_a_larger_limit_contains_a_smaller_one(strata: list[str], limit: int, seed: int) -> None:
    rows = [{"item_id": str(index), "item_stratum": name} for index, name in enumerate(strata)]
    small = {row["item_id"] for row in select_items(rows, task="t", seed=seed, limit=limit)}
    large = {row["item_id"] for row in select_items(rows, task="t", seed=seed, limit=limit + 1)}
    assert small <= large
    assert len(small) == min(limit, len(rows))


GRADES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12)


def graded(grades: list[tuple[int, int]], metric: Metric) -> Paired:
    ours, theirs = (
        [Item(f"{n:03}", "", pair[side] / 2, ()) for n, pair in enumerate(grades)]
        for side in (0, 1)
    )
    found = pair_items(ours, theirs, metric, key="k", draws=200)
    assert isinstance(found, Paired)
    return found


@given(GRADES)
@settings(max_examples=40, deadline=None)
def test_a_graded_pair_mirrors_and_its_direction_only_turns_the_sign(
    grades: list[tuple[int, int]],
) -> None:
    up, down = (graded(grades, Metric("m", direction=one, high=10.0)) for one in ("up", "down"))
    swapped = graded([(b, a) for a, b in grades], Metric("m", high=10.0))
    assert up.delta == -down.delta == -swapped.delta
    assert down.p == swapped.p
    assert up.lower <= up.delta


@given(GRADES, st.permutations(range(12)))
@settings(max_examples=30, deadline=None)
def test_sign_flips_do_not_depend_on_the_order(
    grades: list[tuple[int, int]], order: list[int]
) -> None:
    differences = [float(a - b) for a, b in grades]
    moved = [differences[place] for place in order if place < len(differences)]
    assert sign_flip(moved, key="k") == sign_flip(differences, key="k")


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_both_directions_of_a_sign_flip_share_the_observed_pattern(values: list[float]) -> None:
    mirrored = [-one for one in values]
    assert sign_flip(values, key="k") + sign_flip(mirrored, key="k") >= 1


@given(st.text(), st.integers(1, 2**32 - 1))
@settings(max_examples=60)
def test_drawn_indices_lie_in_range_and_repeat(key: str, n: int) -> None:
    drawn = Pcg64(key).indices(n, 20)
    assert all(0 <= one < n for one in drawn)
    assert drawn == Pcg64(key).indices(n, 20)
