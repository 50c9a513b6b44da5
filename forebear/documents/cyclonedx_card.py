"""The model cards inside the CycloneDX bill: parameters, figures, considerations, energy.

Source: compliance page, section 8, D8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebear.documents.cyclonedx_parts import organization, properties
from forebear.documents.results import Result, results

if TYPE_CHECKING:
    from forebear.documents.parts import Model
    from forebear.documents.reading import Cells, Reader

TASK = "text-generation"
_ACTIVITIES = (
    ("cpt", "training"),
    ("sft", "fine-tuning"),
    ("prefer", "fine-tuning"),
    ("curate", "data-preparation"),
    ("tokenize", "data-preparation"),
    ("distill", "other"),
    ("measure", "validation"),
    ("eval", "validation"),
)
_SOURCES = {
    "coal", "oil", "natural-gas", "nuclear", "wind", "solar", "geothermal", "hydropower",
    "biofuel", "unknown", "other",
}  # fmt: skip
_LIMITS = ("limit.known", "limit.found")
_KG_PER_T = 1000


def plain_card(reader: Reader, model: Model) -> dict[str, Any]:
    """The card of a model that is not the final one: its parameters."""
    return {"modelParameters": _parameters(reader, model)}


def final_card(reader: Reader, model: Model) -> dict[str, Any]:
    """The whole card of the final model."""
    found = results(reader)
    lines = [line for result in found for line in reader.evidence(result.label, result.score)]
    body: dict[str, Any] = {"modelParameters": _parameters(reader, model)}
    if found:
        body["quantitativeAnalysis"] = {"performanceMetrics": [_metric(r) for r in found]}
    considerations, more = _considerations(reader)
    if considerations:
        body["considerations"] = considerations
    body["properties"] = properties([*lines, *more, *_compute(reader)])
    return body


def _parameters(reader: Reader, model: Model) -> dict[str, Any]:
    body: dict[str, Any] = {"task": TASK}
    if model.approach:
        body["approach"] = {"type": model.approach}
    if model.family:
        body["architectureFamily"] = model.family
    if model.architecture or model.role in ("teacher", "judge"):
        body["modelArchitecture"] = model.architecture or "unknown"
    if model.sets:
        body["datasets"] = [{"ref": ref} for ref in model.sets]
    for name, fact in (("inputs", "model.modalities_in"), ("outputs", "model.modalities_out")):
        formats = reader.release.texts(fact)
        if formats:
            body[name] = [{"format": text} for text in formats]
    return body


def _metric(result: Result) -> dict[str, Any]:
    body: dict[str, Any] = {"type": result.metric, "value": result.text, "slice": result.suite}
    interval = result.score.interval
    if interval is not None:
        body["confidenceInterval"] = {
            "lowerBound": result.number_text(interval.low),
            "upperBound": result.number_text(interval.high),
        }
    return body


def _compute(reader: Reader) -> list[tuple[str, str]]:
    """Compute as properties, for CycloneDX has no field for it; nothing where it is withheld."""
    if reader.withheld:
        return []
    lines = []
    for name in ("modification", "modification_cumulative", "base", "cumulative"):
        fact = f"train.flop_{name}"
        value, text = reader.release.value(fact), reader.release.text(fact)
        if text is not None:
            bound = "≥ " if value.lower_bound else ""
            lines += [(f"forebear:{fact}", f"{bound}{text} FLOP"), *reader.evidence(fact, value)]
    return lines


# ── considerations ─────────────────────────────────────────────────────────────────────────────


def _considerations(reader: Reader) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The considerations, and what each of them rests on."""
    release = reader.release
    body: dict[str, Any] = {
        "users": release.texts("use.users"),
        "useCases": release.texts("use.intended"),
        "technicalLimitations": [
            *release.texts("limit.known"),
            *limits(reader),
            *(f"Out of scope: {text}" for text in release.texts("use.out_of_scope")),
        ],
        "performanceTradeoffs": _tradeoffs(reader),
        "ethicalConsiderations": [
            _without_gaps(name=row.text("name"), mitigationStrategy=row.text("mitigation"))
            for row in reader.rows("risk.items")
        ],
        "fairnessAssessments": [
            _without_gaps(
                groupAtRisk=row.text("group"),
                benefits=row.text("benefits"),
                harms=row.text("harms"),
                mitigationStrategy=row.text("mitigation"),
            )
            for row in reader.rows("risk.fairness")
        ],
    }
    energy, lines = _energy(reader)
    if energy:
        body["environmentalConsiderations"] = {"energyConsumptions": energy}
    for fact in (
        "use.users", "use.intended", "use.out_of_scope", "limit.known", "train.forgetting",
    ):  # fmt: skip
        lines += reader.evidence(fact, release.value(fact))
    for table in (*_LIMITS, "risk.items", "risk.fairness"):
        for row in reader.rows(table):
            for name in row.names():
                lines += reader.evidence(table, row.value(name))
    return {key: part for key, part in body.items() if part}, lines


def limits(reader: Reader) -> list[str]:
    """Limitations that stand in tables: declared ones, and those that the evidence shows."""
    rows = [row for table in _LIMITS for row in reader.rows(table)]
    return [text for row in rows if (text := row.text("text")) is not None]


def _without_gaps(**texts: str | None) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text is not None}


def _tradeoffs(reader: Reader) -> list[str]:
    """Where the model lost against what it is compared with, as measured."""
    lost = [
        f"{result.label}: {result.delta_text} against {result.reference}"
        for result in results(reader, every=True)
        if result.is_worse
    ]
    forgetting = reader.release.text("train.forgetting")
    if forgetting is None:
        return lost
    return [*lost, f"Change of the loss on general text during continued training: {forgetting}"]


def _energy(reader: Reader) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """One entry per stage whose energy is known; a property where none is."""
    if reader.withheld:
        return [], []
    entries, lines = [], []
    for row in reader.rows("train.stages"):
        kwh = row.number("energy", "energy_kwh")
        if kwh is None:
            continue
        entries.append(_consumption(row, kwh))
        for name in ("energy", "energy_kwh", "co2e_kg", "energy_co2e_kg"):
            lines += reader.evidence(f"energy:{row.key}", row.value(name))
    return entries, lines if entries else [("forebear:energy", "unknown")]


def _consumption(row: Cells, kwh: float) -> dict[str, Any]:
    source = row.text("energy_source") or "unknown"
    body: dict[str, Any] = {
        "activity": _activity(row.text("name") or row.key),
        "activityEnergyCost": {"value": kwh, "unit": "kWh"},
        "energyProviders": [
            {
                "organization": organization(row.text("energy_provider") or "unknown"),
                "energySource": source if source in _SOURCES else "other",
                "energyProvided": {"value": kwh, "unit": "kWh"},
            }
        ],
        "properties": properties(
            [
                ("forebear:stage", row.text("name") or row.key),
                ("forebear:energy-method", row.text("energy_method") or "unknown"),
            ]
        ),
    }
    kg = row.number("co2e_kg", "energy_co2e_kg")
    if kg is not None:
        body["co2CostEquivalent"] = {"value": kg / _KG_PER_T, "unit": "tCO2eq"}
    return body


def _activity(stage: str) -> str:
    return next((word for prefix, word in _ACTIVITIES if stage.startswith(prefix)), "other")
