"""What is missing, contradictory or weak in the documents: findings with a code, a place and a fix.

Errors keep the documents drafts or wrong; warnings are what a careful reader would ask about.

Source: compliance page, section 6.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from forebear.documents.contradictions import contradictions
from forebear.documents.legal import LegalFile, load_legal
from forebear.documents.registry import documents_with

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forebear.documents.values import Facts, Row, Value

DECLARATIONS = "cards/declarations.yaml"
_TEXTS = {
    "C101": "required declaration missing: {}",
    "C102": "placeholder instead of a declaration: {}",
    "C103": "unknown is not accepted here: {}",
    "C104": "declaration that cannot be used: {}",
}
_NEEDED = ("licence", "origin", "source_url", "collected_from", "collected_to")
_MIN_WORDS = 4
_DAYS_A_MONTH = 30.4
_DUTIES = ("naming", "notice", "display")


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


def finding(code: str, field: str, message: str, fix: str) -> DocumentFinding:
    """One finding; its severity follows from its code, its documents from its field."""
    severity = "error" if code.startswith("C") else "warning"
    table = field.partition("[")[0]
    shown = documents_with(field) or documents_with(table)
    return DocumentFinding(code, severity, field, shown, message, fix)


def check_documents(
    facts: Facts, *, law: LegalFile | None = None, today: str | None = None
) -> list[DocumentFinding]:
    """Errors and warnings, sorted by code and field.

    Args:
        facts: of the release.
        law: constants of the law; those that ship with Forebear when left out.
        today: ISO date; the documents' own time when left out.
    """
    law = law or load_legal()
    day = max(facts.document_time, today or "")
    found = [
        *_declared(facts),
        *contradictions(facts),
        *_data(facts),
        *_licences(facts),
        *_approvals(facts),
        *_evaluation(facts),
        *_applicability(facts),
        *_legal(facts, law, day),
    ]
    return sorted(found, key=lambda one: (one.code, one.field))


def _declared(facts: Facts) -> Iterator[DocumentFinding]:
    for entry in facts.missing:
        detail = f" ({entry.detail})" if entry.detail else ""
        yield finding(
            entry.code,
            entry.field,
            _TEXTS[entry.code].format(entry.label) + detail,
            f"{DECLARATIONS}, {entry.field} ({entry.supplier})",
        )


# ── data ───────────────────────────────────────────────────────────────────────────────────────


def _data(facts: Facts) -> Iterator[DocumentFinding]:
    domains = {str(row.cells["set"].value) for row in facts.tables.get("data.domains", ())}
    declared = {row.key for row in facts.tables.get("declared.data.sets", ())}
    in_evidence = set()
    for row in facts.tables.get("data.sets", ()):
        if row.cells["licence"].kind == "not_applicable":
            continue  # made by a stage of the pipeline
        name = str(row.cells["id"].value)
        in_evidence.add(name)
        yield from _data_set(row, name, declared=name in declared, has_domains=name in domains)
    for name in sorted(declared - in_evidence):
        yield finding(
            "C131", f"data.sets[{name}]", "declared, but no signed stage reads a set of this name",
            f"remove it from {DECLARATIONS}, data.sets, or correct its id",
        )  # fmt: skip
    yield from _generators(facts)


def _data_set(
    row: Row, name: str, *, declared: bool, has_domains: bool
) -> Iterator[DocumentFinding]:
    field = f"data.sets[{row.key}]"
    where = f"{DECLARATIONS}, data.sets, the entry of {name}"
    lacking = [column for column in _NEEDED if row.cells[column].value is None]
    if not declared:
        yield finding("C131", field, "read by a signed stage, but not declared", f"add {where}")
    elif lacking:
        yield finding("C130", field, f"without {', '.join(lacking)}", where)
    if row.cells["origin"].value == "crawled" and not has_domains:
        yield finding(
            "C132", field, "crawled data without a list of their domains",
            f"{DECLARATIONS}, data.domains, with set: {name}",
        )  # fmt: skip
    words = row.cells["content_types"].value
    if isinstance(words, str) and len(words.split()) < _MIN_WORDS:
        yield finding("W302", field, "describes its content in under four words", where)


def _generators(facts: Facts) -> Iterator[DocumentFinding]:
    """Text made by a model needs the model's name."""
    named = facts.tables.get("train.generators", ())
    for row in facts.tables.get("data.generators", ()):
        if row.cells["model"].value is None:
            yield finding(
                "C133", f"data.generators[{row.key}]", "text made by a model that is not named",
                f"{DECLARATIONS}, train.generators, or record the teacher in the stage",
            )  # fmt: skip
    for row in facts.tables.get("data.sets", ()):
        origin = row.cells["origin"]
        if origin.value == "synthetic" and origin.kind == "declared" and not named:
            yield finding(
                "C133", f"data.sets[{row.key}]", "synthetic data whose generator is not named",
                f"{DECLARATIONS}, train.generators",
            )  # fmt: skip


# ── licences, approvals ────────────────────────────────────────────────────────────────────────


def _licences(facts: Facts) -> Iterator[DocumentFinding]:
    for row in facts.tables.get("licences.conflicts", ()):
        items = row.cells["items"].value
        about = ", ".join(map(str, items)) if isinstance(items, list) else ""
        yield finding(
            "C140", f"licences.conflicts[{row.key}]", f"{about}: {row.cells['reason'].value}",
            "replace the item, change the terms of the release, or record a lawyer's review "
            f"({DECLARATIONS}, licences.reviews)",
        )  # fmt: skip
    for row in facts.tables.get("licences.items", ()):
        if row.cells["status"].value == "needs_review":
            yield finding(
                "C141", f"licences.items[{row.key}]",
                f"{row.cells['item'].value}: {row.cells['reason'].value}",
                f"{DECLARATIONS}, licences.reviews, with a lawyer's conclusion on it",
            )  # fmt: skip
    for row in facts.tables.get("licences.obligations", ()):
        kind, met = row.cells["kind"].value, row.cells["met"].value
        if kind in _DUTIES and met is False:
            yield finding(
                "C142", f"licences.obligations[{row.key}]",
                f"{kind} duty of the {row.cells['origin'].value} is not met: "
                f"{row.cells['duty'].value}",
                "params.yaml: document.name" if kind == "naming"
                else "have the merge stage write a NOTICE file into the checkpoint",
            )  # fmt: skip


def _approvals(facts: Facts) -> Iterator[DocumentFinding]:
    for number, approval in enumerate(facts.approvals):
        # nobody is asked to approve a draft before it stands, unless the declarations say so
        asked = bool(facts.tables.get("approvals.required")) or approval.status != "missing"
        if approval.status != "valid":
            said = approval.status.replace("_", " ")
            by = f" ({approval.name})" if approval.name else ""
            made = finding(
                "C160", f"approvals[{approval.role}:{number}]",
                f"approval by {approval.role}{by}: {said}",
                f"forebear document approve --role {approval.role} --decision approve --key KEY",
            )  # fmt: skip
            yield made if asked else replace(made, severity="warning")


# ── warnings ───────────────────────────────────────────────────────────────────────────────────


def _evaluation(facts: Facts) -> Iterator[DocumentFinding]:
    for row in facts.tables.get("eval.results", ()):
        score = row.cells["candidate_score"]
        if score.kind == "computed" and score.interval is None:
            yield finding(
                "W201", f"eval.results[{row.key}]", "no uncertainty measured",
                "measure it with an interval",
            )  # fmt: skip
    for row in facts.tables.get("eval.judges", ()):
        known = [row.cells[name].value for name in ("revision", "digest")]
        if not any(known):
            yield finding(
                "W202", f"eval.judges[{row.key}]", "judge without revision, digest or date",
                "name the judge's revision in params.yaml: measure.judges",
            )  # fmt: skip
    energy = facts.values["train.energy_modification"]
    if energy.value is None or energy.lower_bound:
        yield finding("W210", "train.energy_modification", "energy unknown", "record with a meter")


def _applicability(facts: Facts) -> Iterator[DocumentFinding]:
    rules = {row.key: row.cells for row in facts.tables.get("applicability.rules", ())}
    for name, cells in rules.items():
        if cells["close"].value is True:
            yield finding(
                "W404", f"applicability.rules[{name}]",
                f"the threshold lies within the margin of the estimate: {cells['reason'].value}",
                "have the estimate of compute checked",
            )  # fmt: skip
    second = rules.get("A2")
    if _raw(facts.values, "provider.role") == "modifier" and second is not None \
            and second["outcome"].value == "indicated":  # fmt: skip
        yield finding(
            "W402", "provider.role", "declared as modifier, while A2 is indicated",
            f"{DECLARATIONS}, provider.role, after advice",
        )  # fmt: skip
    if facts.values["model.base.tuned"].value:
        yield finding(
            "W403", "model.base.tuned", "the original is no base checkpoint",
            "start from a base checkpoint where one is published",
        )  # fmt: skip


def _raw(values: Mapping[str, Value], name: str) -> Any:
    found = values.get(name)
    return None if found is None else found.value


def _legal(facts: Facts, law: LegalFile, day: str) -> Iterator[DocumentFinding]:
    stale = law.stale(day) if day else []
    if stale:
        yield finding(
            "W401", "legal.version",
            f"{len(stale)} constants of {law.version} were last compared with their sources more "
            f"than {law.max_age_days} days ago, {stale[0].id} among them",
            "install a newer Forebear, or have counsel confirm them",
        )  # fmt: skip
    months = float(law.number("summary.update_months"))
    if not facts.document_time or not day:
        return
    age = (date.fromisoformat(day[:10]) - date.fromisoformat(facts.document_time[:10])).days
    if age > months * _DAYS_A_MONTH:
        yield finding(
            "W301", "document.time", "the summary of the training content is older than "
            f"{months:.0f} months", "run `dvc repro document` and publish it anew",
        )  # fmt: skip
