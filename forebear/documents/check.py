"""What is still missing or weak in the documents, as findings with a code, a place and a fix.

Source: compliance page, section 6; of its codes those that this version can decide.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from forebear.documents.cards import HUB_SECTIONS, OECD_SECTIONS
from forebear.documents.layout import Lines, Section, Table

if TYPE_CHECKING:
    from forebear.documents.values import Facts

_DOCUMENTS: dict[str, tuple[Section, ...]] = {"D1": OECD_SECTIONS, "D2": HUB_SECTIONS}
_TEXTS = {
    "C101": "required declaration missing: {}",
    "C102": "placeholder instead of a declaration: {}",
    "C103": "unknown is not accepted here: {}",
}


@dataclass(frozen=True, slots=True)
class DocumentFinding:
    """One line of ``forebear document --check``."""

    code: str
    severity: str
    field: str
    documents: tuple[str, ...]
    message: str
    fix: str

    def __str__(self) -> str:
        shown = ", ".join(self.documents)
        return (
            f"{self.code} {self.severity} {self.field} [{shown}]: {self.message}. Fix: {self.fix}"
        )

    def to_json(self) -> dict[str, object]:
        """The finding as JSON values."""
        return {**asdict(self), "documents": list(self.documents)}


def check_documents(facts: Facts) -> list[DocumentFinding]:
    """Errors and warnings, sorted by code and field."""
    findings = [
        DocumentFinding(
            entry.code,
            "error",
            entry.field,
            documents_with(entry.field),
            _TEXTS[entry.code].format(entry.label),
            f"cards/declarations.yaml, {entry.field} ({entry.supplier})",
        )
        for entry in facts.missing
    ]
    for row in facts.tables.get("eval.results", ()):
        score = row.cells["candidate_score"]
        if score.kind == "computed" and score.interval is None:
            findings.append(
                DocumentFinding(
                    "W201", "warning", f"eval.results[{row.key}]", ("D1", "D2"),
                    "no uncertainty measured", "measure it with an interval",
                )
            )  # fmt: skip
    if facts.values["train.energy_modification"].kind == "unknown":
        findings.append(
            DocumentFinding(
                "W210", "warning", "train.energy_modification", ("D1", "D2"), "energy unknown",
                "record with a meter",
            )
        )  # fmt: skip
    return sorted(findings, key=lambda finding: (finding.code, finding.field))


def documents_with(fact: str) -> tuple[str, ...]:
    """Ids of the documents that show a fact."""
    return tuple(
        name
        for name, sections in _DOCUMENTS.items()
        if any(_shows(section, fact) for section in sections)
    )


def _shows(section: Section, fact: str) -> bool:
    for plan in section.plans:
        if isinstance(plan, Lines) and any(name == fact for name, _ in plan.facts):
            return True
        if isinstance(plan, Table) and plan.fact == fact:
            return True
    return False
