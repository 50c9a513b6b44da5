"""Which code wrote the documents: one digest over the modules, templates and data that shape them.

Documents are compared byte for byte with what this code makes of the same facts. Documents of
other code are not wrong for that, so the index names the code that wrote them.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

MODULES = (
    "documents/ancestors.py",
    "documents/annexes.py",
    "documents/annexiv.py",
    "documents/applicability.py",
    "documents/applicabilitycard.py",
    "documents/basemodels.py",
    "documents/bill.py",
    "documents/bill_sets.py",
    "documents/body.py",
    "documents/cards.py",
    "documents/changes.py",
    "documents/compare.py",
    "documents/compute.py",
    "documents/consistency.py",
    "documents/copyrightpolicy.py",
    "documents/croissant.py",
    "documents/croissant_check.py",
    "documents/cyclonedx.py",
    "documents/cyclonedx_card.py",
    "documents/cyclonedx_parts.py",
    "documents/data.py",
    "documents/derive.py",
    "documents/domains.py",
    "documents/evaluation.py",
    "documents/evidence.py",
    "documents/facts.py",
    "documents/fields.py",
    "documents/figures.py",
    "documents/form.py",
    "documents/generators.py",
    "documents/html.py",
    "documents/hubcard.py",
    "documents/kinds.py",
    "documents/labels.py",
    "documents/legal.py",
    "documents/licence_facts.py",
    "documents/licences.py",
    "documents/licencetable.py",
    "documents/lineage.py",
    "documents/locale.py",
    "documents/mdform.py",
    "documents/naming.py",
    "documents/numbers.py",
    "documents/obligations.py",
    "documents/output.py",
    "documents/parts.py",
    "documents/pictures.py",
    "documents/plans.py",
    "documents/reading.py",
    "documents/registry.py",
    "documents/render.py",
    "documents/results.py",
    "documents/rules.py",
    "documents/sources.py",
    "documents/spdx.py",
    "documents/spdxgraph.py",
    "documents/spdxlicence.py",
    "documents/strictyaml.py",
    "documents/summary.py",
    "documents/tables.py",
    "documents/values.py",
    "drawing/forest.py",
    "drawing/marks.py",
    "drawing/panels.py",
)
# what these modules read; the stage that writes documents has all of it among its deps
DATA = (
    "legal/eu-2026-11.yaml",
    "legal/mdf.yaml",
    "library_licences.yaml",
    "licences.yaml",
    "locale/en.json",
    "models.yaml",
    "schemas/spdx-licence-ids.txt",
)


@cache
def generator_sha256() -> str:
    """SHA-256 over the manifest of the modules, templates and data files."""
    package = Path(__file__).parents[1]
    files = [package / name for name in MODULES]
    files += (package / "documents" / "templates").glob("*.j2")
    files += [package / "data" / name for name in DATA]
    lines = (
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n"
        for name, file in sorted((file.relative_to(package).as_posix(), file) for file in files)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
