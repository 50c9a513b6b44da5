"""The Model Documentation Form: what each recipient sees, and what is in no file of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents import mdform
from forebear.documents.values import unknown
from tests.unit.documents.made import computed, data_set, declared, facts

if TYPE_CHECKING:
    from forebear.documents.values import Value

FLOP = 37_417_770_745_344
WALL_S = 4_321_987
TOKENS = 217_480
SECRET = {
    "train.flop_modification": computed(FLOP, unit="FLOP", estimate=True),
    "train.wall_seconds": computed(WALL_S, unit="seconds"),
    "train.device_seconds": computed(WALL_S * 8, unit="seconds"),
    "train.energy_modification": computed(12_345.6, unit="kWh"),
    "data.tokens": computed(TOKENS, unit="tokens"),
    "model.params_total": computed(134_515_008, unit="parameters"),
}


def _files(**more: Value) -> dict[str, str]:
    made = facts({**SECRET, **{name.replace("__", "."): one for name, one in more.items()}},
                 {"data.sets": [data_set("one")]})  # fmt: skip
    return {name: data.decode() for name, data in mdform.render(made).items()}


def _of(files: dict[str, str], recipient: str) -> str:
    found = [text for name, text in files.items() if f".{recipient}." in name]
    assert len(found) == 3
    return "\n".join(found)


def test_authority_copies_lie_apart_and_the_downstream_copy_does_not() -> None:
    names = set(_files())
    assert {name for name in names if name.startswith("restricted/")} == {
        f"restricted/model-documentation-form.{who}.{kind}"
        for who in ("aio", "nca")
        for kind in ("md", "html", "json")
    }
    assert "model-documentation-form.dp.md" in names


def test_the_downstream_copy_holds_no_secret_raw_or_rounded() -> None:
    """Compliance page, 13.17."""
    text = _of(_files(), "dp")
    for hidden in (FLOP, 37_000_000_000_000, WALL_S, 12_345.6, "c" * 64):
        assert str(hidden) not in text
    for word in ("FLOP", "MWh", "kWh", "Energy", "days", "forebear record"):
        assert word not in text
    assert "1-500M" in text
    assert "134515008" not in text
    assert "134.5" not in text


def test_national_authorities_see_orders_of_magnitude_alone() -> None:
    text = _of(_files(), "nca")
    assert str(FLOP) not in text
    assert "3.70 × 10¹³" not in text
    assert "1.00 × 10¹³ FLOP" in text
    assert "1-3 months" in text
    assert str(WALL_S) not in text
    assert str(TOKENS) not in text
    assert "220,000" not in text


def test_the_ai_office_sees_two_significant_figures() -> None:
    text = _of(_files(), "aio")
    assert "3.70 × 10¹³ FLOP" in text
    assert "50 days" in text
    assert "400 days" in text
    assert "220,000" in text
    assert "130 million" in text
    assert "12 MWh" in text
    assert str(FLOP) not in text


def test_energy_is_not_applicable_only_where_a_supplier_withholds_it() -> None:
    """Compliance page, D6: otherwise it is unknown."""
    lost = {"train__energy_modification": unknown("no meter")}
    assert "unknown (no meter)" in _of(_files(**lost), "aio")
    withheld = {**lost, "train__energy_withheld__reason": declared("the cloud does not say")}
    assert "not applicable (the cloud does not say)" in _of(_files(**withheld), "aio")


def test_every_row_of_the_matrix_names_its_form_for_each_recipient() -> None:
    forms = {"exact", "two_figures", "magnitude", "size_range", "time_range", "days", "mwh", "none"}
    for row in mdform.matrix():
        assert {row[who] for who in mdform.RECIPIENTS} <= forms, row
