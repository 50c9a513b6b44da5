"""Declared values that evidence contradicts (C110), both sides shown.

Source: compliance page, sections 3.2 and 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents.fields import DECLARED, FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebear.documents.check import DocumentFinding
    from forebear.documents.values import Facts

# a declared licence of the base stands beside the one that the base stage recorded
_BESIDE = {"model.base_licence": "model.base.licence"}


def contradictions(facts: Facts) -> Iterator[DocumentFinding]:
    """One finding for each statement that does not fit the evidence."""
    for field in FIELDS:
        if not field.confirms or field.kind == "rows":
            continue
        said = facts.values.get(field.fact)
        shown = facts.values.get(_BESIDE.get(field.id, field.id))
        if said is None or shown is None or None in (said.value, shown.value):
            continue
        if said.value != shown.value:
            yield _finding(field.id, f"{field.label}: declared {said.value!r}, "
                                     f"the evidence says {shown.value!r}")  # fmt: skip
    yield from _languages(facts)


def _finding(field: str, message: str) -> DocumentFinding:
    from forebear.documents.check import DECLARATIONS, finding

    return finding("C110", field, message, f"correct {DECLARATIONS}, {field}")


def _languages(facts: Facts) -> Iterator[DocumentFinding]:
    """An intended language that neither the data nor the original model have."""
    intended = facts.values["model.languages"].value
    known: set[str] = set()
    base = facts.values["model.base.languages"].value
    known |= {str(code) for code in base} if isinstance(base, list) else set()
    for row in facts.tables.get(f"{DECLARED}data.sets", ()):
        codes = row.cells["languages"].value
        known |= {str(code) for code in codes} if isinstance(codes, list) else set()
    counted = facts.tables.get("data.languages", ())
    known |= {str(row.cells["language"].value) for row in counted}
    plain = {code.partition("-")[0] for code in known}
    if not plain or not isinstance(intended, list):
        return
    for code in intended:
        if str(code).partition("-")[0] not in plain:
            known_ones = ", ".join(sorted(plain))
            message = f"{code} is declared; data and original model have {known_ones} only"
            yield _finding("model.languages", message)
