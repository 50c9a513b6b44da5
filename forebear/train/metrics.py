"""What a stage measured, in the two forms DVC reads: metrics (JSON) and curves (CSV).

Only what is the same in every run belongs here. Times, hosts, memory and energy are measured by
the recorder, from outside, and live in the link.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.formats import strictjson


def write_json(file: Path, value: Any) -> None:
    """Writes ``value`` as canonical JSON.

    Raises:
        FormatError: a value is not finite or has no canonical form; the key is named.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(strictjson.dumps(value))


def row_files(*files: Path) -> dict[str, dict[str, Any]]:
    """Size, number of rows and fields of the first row of each JSON-lines file, by its name."""
    found = {}
    for file in files:
        data = file.read_bytes()
        first = data.partition(b"\n")[0]
        fields = sorted(strictjson.parse(first, where=f"{file}:1")) if first else []
        found[file.name] = {
            "size_bytes": len(data),
            "rows": data.count(b"\n"),
            "fields": fields,
        }
    return found


def write_curves(file: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes one line per row; a value that a row lacks stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, fieldnames=list(columns), extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.getvalue(), encoding="utf-8")


def training_flop(n_parameters: int, n_tokens: int) -> float:
    """Floating-point operations of training a dense model: 6·N·D.

    A float: counts of real runs pass 2^53, the largest integer that JSON carries exactly.

    Source: Kaplan et al. 2020, section 2.1 (forward 2·N, backward 4·N per token).
    """
    return 6.0 * n_parameters * n_tokens


def forward_flop(n_parameters: int, n_tokens: int) -> float:
    """Floating-point operations of forward passes alone: 2·N·D."""
    return 2.0 * n_parameters * n_tokens
