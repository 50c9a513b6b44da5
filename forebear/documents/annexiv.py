"""Inputs for an integrator's Annex IV file (D13), flat YAML, only when it is asked for.

What only the provider of the AI system can know is said to be theirs to supply.

Source: compliance page, section 8, D13; Regulation (EU) 2024/1689, Annex IV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents import figures
from forebear.documents.strictyaml import dump_mapping
from forebear.documents.values import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable

ID = "D13"
FILE = "annex-iv-inputs.yaml"
THEIRS = "To be supplied by the provider of the AI system"
_FIRST = (
    "# Input for the technical documentation of an AI system; it is not Annex IV documentation.\n"
)
_TEXTS = {
    "system_overview": ("use.summary", "use.intended", "use.out_of_scope", "use.interaction"),
    "development_process": ("train.objective", "train.rationale", "train.assumptions",
                            "data.selection"),
    "system_monitoring": ("oversight.measures", "oversight.monitoring",
                          "oversight.incident_contact", "limit.known"),
    "performance_metrics": (),
    "risk_management": (),
    "changes_and_versions": ("model.version", "release.changes", "release.retention_until"),
}  # fmt: skip
SHOWS = {
    ID: {
        "provider.size", "annex_iv.risk_level", "annex_iv.use_cases", "eval.results",
        "risk.items", "standards", "model.eu_market_date",
        *(fact for facts in _TEXTS.values() for fact in facts),
    }
}  # fmt: skip


def render(facts: Facts, language: str = "en") -> dict[str, bytes]:
    """The file, or nothing where it is not asked for."""
    del language  # the keys are the form's own, and the texts the provider's
    if figures.fact(facts, "annex_iv.enabled").value is not True:
        return {}
    return {FILE: (_FIRST + dump_mapping(_keys(facts))).encode()}


def _keys(facts: Facts) -> dict[str, Any]:
    placed = figures.fact(facts, "model.eu_market_date").value
    return {
        "enterprise_size": _known(facts, "provider.size"),
        "risk_level": _known(facts, "annex_iv.risk_level"),
        "use_cases": _known(facts, "annex_iv.use_cases"),
        **{key: _text(facts, names) for key, names in _TEXTS.items()},
        "performance_metrics": _results(facts),
        "risk_management": _risks(facts),
        "standards_applied": _standards(facts),
        "compliance_declaration": THEIRS,
        "post_market_plan": THEIRS,
        "placed_on_market": placed,
        "last_updated": max(facts.document_time[:10], str(placed)[:10])
        if str(placed)[:1].isdigit() else facts.document_time[:10],
    }  # fmt: skip


def _known(facts: Facts, fact: str) -> Any:
    value = figures.fact(facts, fact)
    return "unknown" if value.value is None else value.value


def _text(facts: Facts, names: Iterable[str]) -> str:
    parts = []
    for name in names:
        value = figures.fact(facts, name).value
        if value is not None:
            parts.append("; ".join(map(str, value)) if isinstance(value, list) else str(value))
    return "\n".join(parts) or "unknown"


def _results(facts: Facts) -> str:
    lines = []
    for row in facts.tables.get("eval.results", ()):
        score = figures.cell(row, "candidate_score")
        if score.value is None:
            continue
        bounds = "no uncertainty measured" if score.interval is None else (
            f"{score.interval.level:.0%}: {score.interval.low:.4g} to {score.interval.high:.4g}"
        )  # fmt: skip
        lines.append(f"{figures.cell(row, 'task').value}: {score.value:.4g} ({bounds}), "
                     f"{figures.cell(row, 'n').value} items")  # fmt: skip
    return "\n".join(lines) or "unknown"


def _risks(facts: Facts) -> str:
    columns = ("name", "likelihood", "severity", "mitigation", "residual")
    lines = [
        "; ".join(f"{column}: {figures.cell(row, column).value}" for column in columns)
        for row in facts.tables.get("risk.items", ())
    ]
    return "\n".join(lines) or "unknown"


def _standards(facts: Facts) -> list[str]:
    return [f"{figures.cell(row, 'id').value}: {figures.cell(row, 'scope').value}"
            for row in facts.tables.get("standards", ())]  # fmt: skip
