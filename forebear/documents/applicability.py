"""Which duties of the AI Act may apply: rules A1 to A8 over facts, each with an indicative outcome.

An unknown input gives *unknown*, never "not indicated", unless the other inputs decide alone. A
lower bound can only indicate or leave open. No legal number stands here: all come from the file of
constants. Never a verdict.

Source: compliance page, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from forebear.documents.numbers import format_number

if TYPE_CHECKING:
    from forebear.documents.legal import LegalFile
    from forebear.documents.values import Value

Tri = bool | None  # indicated, not indicated, unknown

MOD, BASE = "train.flop_modification", "train.flop_base"
CUMULATIVE = "train.flop_cumulative"
_ROLE, _IS_BASE = "provider.role", "provider.is_base_provider"
_COUNTRY, _MARKET = "provider.country", "model.eu_market_date"
_PUBLIC = ("model.open.weights_public", "model.open.architecture_public",
           "model.open.usage_info_public")  # fmt: skip
_MONETISED, _OPEN = "model.open.monetised", "licences.open_eu"
_OUT, _ANCESTOR = "model.modalities_out", "model.base.name"
GENERATIVE = {"text", "audio", "image", "video"}
MARKED = ("D3", "D4", "D5", "D6", "D7")
_EXEMPTED = ("D3", "D4", "D6")  # what rests on 53(1)(a) and (b)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with its outcome.

    Attributes:
        close: the threshold lies within the margin of an estimate.
        reason: what decided, in words.
        inputs: ids of the facts that were looked at.
    """

    id: str
    condition: str
    effect: str
    reason: str
    inputs: tuple[str, ...]
    outcome: Tri
    close: bool = False


@dataclass(frozen=True, slots=True)
class _Amount:
    """A figure: its value, and whether it is a lower bound or an estimate; None when unknown."""

    value: Fraction | None
    lower: bool = False
    estimate: bool = False

    def over(self, threshold: Fraction, margin: Fraction) -> tuple[Tri, bool]:
        """Whether it is more than the threshold, and whether that is close."""
        if self.value is None:
            return None, False
        near = (1 - margin) * self.value <= threshold <= (1 + margin) * self.value
        close = self.estimate and near
        if self.value > threshold:
            return True, close
        return (None if self.lower else False), close


def either(*parts: Tri) -> Tri:
    """Kleene's *or*."""
    if any(part is True for part in parts):
        return True
    return None if None in parts else False


def both(*parts: Tri) -> Tri:
    """Kleene's *and*."""
    if any(part is False for part in parts):
        return False
    return None if None in parts else True


class Applicability:
    """The rules over one set of values.

    Args:
        values: by fact id.
        law: the constants.
    """

    def __init__(self, values: Mapping[str, Value], law: LegalFile) -> None:
        self._values, self._law = values, law
        self._margin = law.number("gpai.flop_margin")
        self._indicative = law.number("gpai.indicative_flop")
        self._systemic = law.number("gpai.systemic_flop")
        self.share = law.number("gpai.modifier_share")
        self.rules: dict[str, Rule] = {}
        for make in (
            self._a1,
            self._a2,
            self._a3,
            self._a4,
            self._a5,
            self._a6,
            self._a7,
            self._a8,
        ):
            rule = make()
            self.rules[rule.id] = rule

    def outcome(self, name: str) -> Tri:
        """Outcome of a rule by its id."""
        return self.rules[name].outcome

    # ── what the rules look at ─────────────────────────────────────────────────────────────────

    def _raw(self, name: str) -> Any:
        found = self._values.get(name)
        return None if found is None else found.value

    def _flag(self, name: str) -> Tri:
        found = self._raw(name)
        return found if isinstance(found, bool) else None

    def _amount(self, name: str) -> _Amount:
        found = self._values.get(name)
        if found is None or not isinstance(found.value, (int, float)):
            return _Amount(None)
        return _Amount(Fraction(found.value), found.lower_bound, found.estimate)

    def _generative(self) -> Tri:
        found = self._raw(_OUT)
        return bool(GENERATIVE & set(found)) if isinstance(found, list) else None

    def ratio(self) -> Fraction | None:
        """Compute of the modification over the original's; None when one is unknown."""
        part, whole = self._amount(MOD).value, self._amount(BASE).value
        return None if part is None or not whole else part / whole

    # ── the rules ──────────────────────────────────────────────────────────────────────────────

    def _a1(self) -> Rule:
        over, close = self._amount(BASE).over(self._indicative, self._margin)
        return Rule(
            "A1", "The original is a general-purpose AI model",
            "where it is not, A3 decides; otherwise A2",
            self._against(BASE, self._indicative), (BASE, _OUT),
            outcome=both(over, self._generative()), close=close,
        )  # fmt: skip

    def _a2(self) -> Rule:
        condition = "The modification makes its maker a provider"
        effect = "D3 to D7 are owed for the modification, with links to the original's documents"
        inputs = (MOD, BASE, _IS_BASE)
        if self.outcome("A1") is False:
            reason = "A1 is not indicated, so A3 decides"
            return Rule("A2", condition, effect, reason, inputs, outcome=False)
        modified, ratio = self._amount(MOD), self.ratio()
        if ratio is not None:
            figure = _Amount(ratio, modified.lower, modified.estimate)
            over, close = figure.over(self.share, self._margin)
            shown = format_number(float(ratio), None)
            reason = f"the ratio is {shown}, the share of the guidelines {self.share}"
        else:
            limit = self._law.number("gpai.modifier_fallback") * self._indicative
            over, close = modified.over(limit, self._margin)
            reason = f"the original's compute is unknown; {self._against(MOD, limit)}"
        own = self._flag(_IS_BASE)
        outcome = both(over, None if own is None else not own)
        return Rule("A2", condition, effect, reason, inputs, outcome=outcome, close=close)

    def _a3(self) -> Rule:
        rootless: Tri = False if self._raw(_ANCESTOR) is not None else None
        unrelated = self.outcome("A1")
        own = either(rootless, None if unrelated is None else not unrelated, self._flag(_IS_BASE))
        first, second = self._amount(BASE), self._amount(MOD)
        known = [one.value for one in (first, second) if one.value is not None]
        together = _Amount(
            sum(known, Fraction(0)) if known else None,
            lower=first.lower or second.lower or len(known) < 2,  # base and ours
            estimate=True,
        )
        over, close = together.over(self._indicative, self._margin)
        return Rule(
            "A3", "The model is a general-purpose AI model of its own",
            "D3 to D7 are owed for the whole model",
            f"the original and the modification together against {_flop(self._indicative)}",
            (BASE, MOD, _ANCESTOR, _IS_BASE, _OUT),
            outcome=both(own, over, self._generative()), close=close,
        )  # fmt: skip

    def _a4(self) -> Rule:
        over, close = self._amount(CUMULATIVE).over(self._systemic, self._margin)
        base_over, _ = self._amount(BASE).over(self._systemic, self._margin)
        outcome = either(over, both(self.outcome("A2"), base_over))
        return Rule(
            "A4", "The model is presumed to have systemic risk",
            f"section 2 of D3 is required; notification within "
            f"{self._law.text('gpai.notify_days')} days; A5 is off",
            self._against(CUMULATIVE, self._systemic), (CUMULATIVE, BASE, MOD),
            outcome=outcome, close=close,
        )  # fmt: skip

    def _a5(self) -> Rule:
        licence = {"yes": True, "no": False}.get(str(self._raw(_OPEN)))
        paid, systemic = self._flag(_MONETISED), self.outcome("A4")
        outcome = both(
            licence,
            *(self._flag(name) for name in _PUBLIC),
            None if paid is None else not paid,
            None if systemic is None else not systemic,
        )
        return Rule(
            "A5", "The exemption for free and open-source models",
            "D3, D4 and the representative are not owed; D5 and D7 stay owed",
            f"licences: {self._raw(_OPEN) or 'unknown'}; weights, architecture and usage public; "
            "no payment; no systemic risk",
            (_OPEN, *_PUBLIC, _MONETISED, CUMULATIVE), outcome=outcome,
        )  # fmt: skip

    def _a6(self) -> Rule:
        day, first = self._raw(_MARKET), self._law.text("gpai.apply")
        deadline = self._law.text("gpai.legacy_deadline")
        outcome: Tri = None if day is None else day != "not_placed" and str(day) < first
        return Rule(
            "A6", "The model was on the market before the duties applied",
            f"the deadline is {deadline}; gaps are listed in D5 and D7",
            f"placed: {day or 'unknown'}; duties apply from {first}", (_MARKET,), outcome=outcome,
        )  # fmt: skip

    def _a7(self) -> Rule:
        day, role = self._raw(_MARKET), self._raw(_ROLE)
        outcome = either(
            None if day is None else day == "not_placed",
            role == "internal_only" if role is not None else None,
        )
        if day not in (None, "not_placed") and role is None:
            outcome = False
        return Rule(
            "A7", "The model is not on the Union market", "all documents are voluntary",
            f"placed: {day or 'unknown'}; role: {role or 'unknown'}", (_MARKET, _ROLE),
            outcome=outcome,
        )  # fmt: skip

    def _a8(self) -> Rule:
        country = self._raw(_COUNTRY)
        outside: Tri = None if country is None else country not in self._law.eu_countries
        exempt = self.outcome("A5")
        outcome = both(
            outside,
            either(self.outcome("A2"), self.outcome("A3")),
            None if exempt is None else not exempt,
        )
        return Rule(
            "A8", "An authorised representative in the Union is needed",
            "an authorised representative in the Union has to be named",
            f"country: {country or 'unknown'}", (_COUNTRY, MOD, BASE, _OPEN), outcome=outcome,
        )  # fmt: skip

    def _against(self, name: str, limit: Fraction) -> str:
        amount = self._amount(name)
        if amount.value is None:
            return f"the compute is unknown, the threshold {_flop(limit)}"
        bound = "at least " if amount.lower else ""
        return f"{bound}{_flop(amount.value)} against {_flop(limit)}"

    # ── what follows ───────────────────────────────────────────────────────────────────────────

    def mark(self, document: str) -> str:
        """``owed``, ``owed_if_unknown``, ``not_owed`` or ``voluntary`` for one document."""
        role = self._raw(_ROLE)
        if self.outcome("A7") is True:
            return "voluntary"
        applies = either(self.outcome("A2"), self.outcome("A3"))
        if role == "provider":  # what a person says wins in the stricter direction
            applies = True
        if applies and self.outcome("A5") is True and document in _EXEMPTED:
            return "not_owed"
        return {True: "owed", None: "owed_if_unknown", False: "voluntary"}[applies]

    def sentence(self, n_stages: int) -> str:
        """The line of the ratio in words."""
        modified, base, ratio = self._amount(MOD), self._amount(BASE), self.ratio()
        stages = f"{n_stages} stage{'s' if n_stages != 1 else ''}"
        line = f"Modification {_said(modified)} (estimate, {stages}). Original {_said(base)}"
        line += "." if base.value is None else " (reported tokens × parameters)."
        words = {True: "reached", False: "not reached", None: "unknown"}
        if ratio is None:
            fallback = words[self.outcome("A2")]
            known = (
                f"Ratio unknown; the guidelines' share is {self.share}. By the fallback: {fallback}"
            )
        else:
            figure = _Amount(ratio, modified.lower, modified.estimate)
            over, _ = figure.over(self.share, self._margin)
            bound = "≥ " if modified.lower else ""
            known = (
                f"Ratio {bound}{format_number(float(ratio), None)}; the guidelines' share is "
                f"{self.share}. "
                f"Indicative: {words[over]}"
            )
        return f"{line} {known}. {_PROXY}"


_PROXY = (
    "The ratio stands for a significant change in generality, capabilities or systemic risk; it is "
    "no finding about any of them."
)


def _said(amount: _Amount) -> str:
    if amount.value is None:
        return "unknown"
    return ("≥ " if amount.lower else "") + _flop(amount.value)


def _flop(number: Fraction) -> str:
    return format_number(float(number), "FLOP")
