"""The largest domains of crawled text, as many as the template asks of the provider.

Source: compliance page, section 8, D5 (template 2.3).
"""

from __future__ import annotations

import csv
import io
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from forebear.documents import figures
from forebear.documents.legal import load_legal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebear.documents.values import Facts

FILE = "top-domains.csv"
_CONSTANT = "summary.top_domains"


class Domain(NamedTuple):
    """A registrable domain: size of the text kept, documents, share of all, row of the facts."""

    name: str
    n_bytes: int
    n_documents: int
    share: float
    row: str


def top_domains(facts: Facts) -> list[Domain]:
    """The largest domains by size of the text kept, ties by name."""
    sums: dict[str, list[Any]] = {}
    for row in facts.tables.get("data.domains", ()):
        name = str(figures.cell(row, "domain").value)
        entry = sums.setdefault(name, [0, 0, row.key])
        for index, column in enumerate(("bytes", "documents")):
            number = figures.cell(row, column).value
            entry[index] += number if isinstance(number, int) else 0
    whole = sum(entry[0] for entry in sums.values())
    ranked = sorted(sums.items(), key=lambda one: (-one[1][0], one[0]))
    size = str(figures.fact(facts, "provider.size").value)
    return [
        Domain(name, entry[0], entry[1], entry[0] / whole if whole else 0.0, entry[2])
        for name, entry in ranked[: n_domains(len(sums), size)]
    ]


def n_domains(distinct: int, size: str) -> int:
    """How many of so many distinct domains are listed, by the size of the provider."""
    if not distinct:
        return 0
    rule = load_legal().entries[_CONSTANT].value
    if size == "sme":
        # exact: a share of a count must not depend on rounding
        return max(1, min(math.ceil(Fraction(rule["sme"]) * distinct), int(rule["sme_most"])))
    return max(1, math.ceil(Fraction(rule["all"]) * distinct))


def wanted_share(size: str) -> dict[str, str]:
    """The rule for a provider of this size, as words."""
    rule = load_legal().entries[_CONSTANT].value
    share = Fraction(rule["sme" if size == "sme" else "all"])
    return {"share": f"{float(share):.0%}", "most": f"{int(rule['sme_most']):,}"}


def render_domains(domains: Sequence[Domain]) -> bytes:
    """The list as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("domain", "bytes", "documents", "share"))
    for one in domains:
        writer.writerow((one.name, one.n_bytes, one.n_documents, f"{one.share:.6f}"))
    return stream.getvalue().encode()
