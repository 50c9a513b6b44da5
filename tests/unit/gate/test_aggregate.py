"""Figures made of items, by row or by item; vector V14."""

from __future__ import annotations

from typing import Any

import pytest

from forebear.errors import ConfigError
from forebear.gate.aggregate import KINDS, aggregate, bbq_s, bbq_s_ambiguous
from forebear.gate.runs import Item
from forebear.gate.scores import score


def row(
    value: float | None, number: int = 0, cluster: str = "", **components: Any
) -> dict[str, Any]:
    return {"id": f"{number:03}", "value": value, "cluster": cluster, "components": components}


def bbq(ambiguous: int, value: int, unknown: int, biased: int, number: int) -> dict[str, Any]:
    return row(
        value, number, f"{number // 4:03}", ambiguous=ambiguous, unknown=unknown, biased=biased
    )


def test_v14_bbq_bias() -> None:
    assert bbq_s(24, 40) == pytest.approx(0.2)
    s_ambiguous = bbq_s_ambiguous(18, 24, 0.7)
    assert s_ambiguous == pytest.approx(0.15)
    assert bbq_s(0, 0) is None
    # 80 ambiguous items: 56 right (unknown), 24 name a group, 18 along the stereotype
    items = [bbq(1, 1, 1, 0, n) for n in range(56)]
    items += [bbq(1, 0, 0, int(n < 18), 56 + n) for n in range(24)]
    items += [bbq(0, 1, 0, int(n < 24), 80 + n) for n in range(40)]
    assert aggregate("bbq_bias_ambiguous", items) == pytest.approx(0.15)
    assert aggregate("bbq_bias_disambiguated", items) == pytest.approx(0.2)


def test_bias_has_no_sign_and_may_be_undefined() -> None:
    against = [bbq(0, 1, 0, 0, n) for n in range(8)]
    assert aggregate("bbq_bias_disambiguated", against) == 1.0
    silent = [bbq(0, 0, 1, 0, n) for n in range(8)]
    assert aggregate("bbq_bias_disambiguated", silent) is None
    assert score(silent, {"name": "s", "aggregate": "bbq_bias_disambiguated"}, task="bbq") == {
        "value": None, "n": 8, "interval": None, "reason": "no answer names a group",
    }  # fmt: skip


def test_means_leave_out_errors_and_what_does_not_apply() -> None:
    items = [row(1.0, asr=1.0), row(0.0, asr=None), row(None, asr=0.0), row(0.0, asr=0.0)]
    assert aggregate("mean", items) == pytest.approx(1 / 3)
    assert aggregate("mean", items, "asr") == 0.5
    assert aggregate("mean", [], "asr") is None
    assert aggregate("distance_from_half", items, "asr") == 0.0
    assert aggregate("weighted_mean", [row(1.0, weight=3.0), row(0.0)]) == 0.75


def test_rows_and_items_give_the_same() -> None:
    rows = [row(float(n % 2), n, length=100 + n, baseline_length=90.0) for n in range(60)]
    items = [Item(one["id"], "", one["value"], (), components=one["components"]) for one in rows]
    for kind in KINDS:
        assert aggregate(kind, rows) == aggregate(kind, items)
    assert aggregate("lc_native", rows) is not None


def test_style_control_takes_every_feature_there_is() -> None:
    rows = [row(float(n % 3 > 0), n, x_length=(n % 5 - 2) / 10, weight=2.0) for n in range(60)]
    plain = aggregate("style_controlled", rows)
    assert plain == pytest.approx(2 / 3, abs=0.02)
    assert aggregate("style_controlled", [*rows, row(1.0, 60)]) is None  # a feature is missing


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="no kind of aggregate"):
        aggregate("median", [row(1.0)])


def test_shares_have_wilsons_interval_and_clusters_a_wider_one() -> None:
    rows = [row(float(n % 4 > 0), n) for n in range(80)]
    alone = score(rows, {"name": "acc"}, task="t")
    assert (alone["interval"]["method"], alone["n"]) == ("Wilson", 80)
    together = [{**one, "cluster": str(int(one["id"]) % 8)} for one in rows]
    bound = score(together, {"name": "acc"}, task="t")
    assert bound["interval"]["method"] == "BCa"
    assert bound["value"] == alone["value"]
    wide, narrow = (one["interval"]["high"] - one["interval"]["low"] for one in (bound, alone))
    assert wide > 2 * narrow


def test_fitted_figures_have_an_interval_around_them() -> None:
    rows = [row(float(n % 3 > 0), n, x_length=(n % 5 - 2) / 10) for n in range(60)]
    found = score(rows, {"name": "s", "aggregate": "style_controlled"}, task="t", draws=200)
    assert found["interval"]["low"] < found["value"] < found["interval"]["high"]
    assert found["interval"]["method"] == "bootstrap, fitted anew"
