"""Rules A1 to A8: what is indicated, what is not, what stays unknown (13.9, 13.10, 13.28)."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from forebear.documents.applicability import MARKED, Applicability
from forebear.documents.legal import LegalFile, load_legal
from forebear.documents.values import Source, Value, unknown
from tests.unit.documents.made import computed, declared

_SOURCE = Source(title="A card", url="https://example.org/card", retrieved="2026-11-01")


def _values(**more: Any) -> dict[str, Value]:
    """A modifier in Germany of an unknown original; ``more`` by short names."""
    facts: dict[str, Value] = {
        "train.flop_modification": _flop(more.get("mod", 1e15)),
        "train.flop_base": _base(more.get("base")),
        "train.flop_cumulative": _flop(
            more.get("cumulative", 1e21), lower=more.get("lower", False)
        ),
        "model.base.name": computed("acme/base"),
        "model.modalities_out": computed(["text"]),
        "provider.is_base_provider": declared(more.get("own", False)),
        "provider.role": declared(more.get("role", "modifier")),
        "provider.country": declared(more.get("country", "DE")),
        "model.eu_market_date": declared(more.get("placed", "2026-12-01")),
        "licences.open_eu": computed(more.get("open", "yes")),
        "model.open.weights_public": declared(value=True),
        "model.open.architecture_public": declared(value=True),
        "model.open.usage_info_public": declared(value=True),
        "model.open.monetised": declared(more.get("paid", False)),
    }
    return {name: value for name, value in facts.items() if name not in more.get("without", ())}


def _flop(number: float | None, *, lower: bool = False) -> Value:
    if number is None:
        return unknown("not recorded")
    return computed(number, estimate=True, lower_bound=lower)


def _base(number: float | None) -> Value:
    if number is None:
        return unknown("not published")
    return Value(kind="reported", value=number, estimate=True, source=_SOURCE)


def _rules(law: LegalFile | None = None, **more: Any) -> Applicability:
    return Applicability(_values(**more), law or load_legal())


def test_an_unknown_original_is_measured_by_the_fallback() -> None:
    rules = _rules(mod=1e15)
    assert rules.outcome("A1") is None
    assert rules.outcome("A2") is False
    assert "exempt" not in " ".join(rule.reason for rule in rules.rules.values())
    assert _rules(mod=4e22).outcome("A2") is True


@pytest.mark.parametrize(
    ("mod", "outcome", "close"),
    [(1e24, False, True), (1.02e24, True, True), (2e24, True, False), (1e23, False, False)],
)
def test_a_third_of_the_originals_compute_is_not_yet_more_than_a_third(
    mod: float, outcome: bool, close: bool
) -> None:
    rule = _rules(mod=mod, base=3e24).rules["A2"]
    assert (rule.outcome, rule.close) == (outcome, close)


def test_an_original_below_the_threshold_leaves_the_question_to_a3() -> None:
    rules = _rules(mod=1e21, base=1.6e21)
    assert rules.outcome("A1") is False
    assert rules.outcome("A2") is False
    assert rules.outcome("A3") is False
    assert _rules(mod=2e23, base=1.6e21).outcome("A3") is True


def test_the_originals_own_provider_is_asked_about_the_whole_model() -> None:
    rules = _rules(mod=2e24, base=3e24, own=True)
    assert rules.outcome("A2") is False
    assert rules.outcome("A3") is True
    assert _rules(mod=2e24, base=3e24, without=("provider.is_base_provider",)).outcome("A2") is None


def test_systemic_risk_switches_the_exemption_off() -> None:
    rules = _rules(cumulative=1.1e25)
    assert rules.outcome("A4") is True
    assert rules.outcome("A5") is False
    assert _rules(cumulative=1e24).outcome("A5") is True


def test_a_lower_bound_can_only_indicate_or_leave_open() -> None:
    assert _rules(cumulative=1e21, lower=True).outcome("A4") is None
    assert _rules(cumulative=2e25, lower=True).outcome("A4") is True
    assert _rules(cumulative=1e21).outcome("A4") is False


@pytest.mark.parametrize("more", [{"open": "no"}, {"paid": True}])
def test_a_closed_licence_or_payment_decides_against_the_exemption(more: dict[str, Any]) -> None:
    assert _rules(**more).outcome("A5") is False


def test_an_unread_licence_leaves_the_exemption_open() -> None:
    assert _rules(open="needs_review").outcome("A5") is None


def test_marks_follow_the_rules() -> None:
    owed = _rules(mod=2e24, base=3e24, open="no")
    assert {owed.mark(document) for document in MARKED} == {"owed"}
    exempted = _rules(mod=2e24, base=3e24, cumulative=5e24)
    assert [exempted.mark(one) for one in MARKED] == [
        "not_owed", "not_owed", "owed", "not_owed", "owed",
    ]  # fmt: skip
    assert _rules(mod=None, base=3e24).mark("D3") == "owed_if_unknown"
    assert _rules(mod=1e15).mark("D3") == "owed_if_unknown"  # A3: the original may be large
    assert _rules(mod=1e15, base=1e21).mark("D3") == "voluntary"


def test_a_declared_provider_is_taken_at_the_stricter_word() -> None:
    assert _rules(mod=1e15, base=1e21, role="provider", open="no").mark("D3") == "owed"


@pytest.mark.parametrize("more", [{"placed": "not_placed"}, {"role": "internal_only"}])
def test_what_is_not_on_the_market_is_voluntary(more: dict[str, Any]) -> None:
    rules = _rules(mod=2e24, base=3e24, open="no", **more)
    assert rules.outcome("A7") is True
    assert {rules.mark(document) for document in MARKED} == {"voluntary"}


def test_models_from_before_the_duties_have_a_deadline() -> None:
    assert _rules(placed="2025-08-01").outcome("A6") is True
    assert _rules(placed="2025-08-02").outcome("A6") is False
    assert _rules(without=("model.eu_market_date",)).outcome("A6") is None


def test_a_provider_from_outside_needs_a_representative() -> None:
    facts = {"mod": 2e24, "base": 3e24, "open": "no"}
    assert _rules(**facts, country="US").outcome("A8") is True
    assert _rules(**facts, country="DE").outcome("A8") is False
    assert _rules(mod=2e24, base=3e24, cumulative=5e24, country="US").outcome("A8") is False
    assert _rules(**facts, without=("provider.country",)).outcome("A8") is None


def test_the_ratio_is_told_in_words() -> None:
    line = _rules(mod=2.1e15, base=1.6e21).sentence(5)
    assert line.startswith(
        "Modification 2.10 × 10¹⁵ FLOP (estimate, 5 stages). Original 1.60 × 10²¹ FLOP "
        "(reported tokens × parameters). Ratio 1.31 × 10⁻⁶; the guidelines' share is 1/3. "
        "Indicative: not reached."
    )
    assert "Ratio unknown" in _rules(mod=2.1e15).sentence(1)


def test_a_lower_bound_of_the_ratio_is_no_answer() -> None:
    values = _values(mod=1e23, base=3e24)
    values["train.flop_modification"] = _flop(1e23, lower=True)
    rules = Applicability(values, load_legal())
    assert rules.outcome("A2") is None
    assert "Indicative: unknown" in rules.sentence(1)


def test_another_law_changes_the_outcome_and_no_code() -> None:
    """Compliance page, 13.28."""
    shipped = resources.files("forebear").joinpath("data/legal/eu-2026-11.yaml").read_bytes()
    text = shipped.decode()
    quarter = text.replace("value: [1, 3]", "value: [1, 4]", 1)
    assert quarter != text
    law = LegalFile(quarter.encode(), where="other.yaml")
    assert _rules(mod=9e23, base=3e24).outcome("A2") is False
    assert _rules(law, mod=9e23, base=3e24).outcome("A2") is True
    assert "share is 1/4" in _rules(law, mod=9e23, base=3e24).sentence(1)
