"""Corrects a judge's mean by what people said about some of the same answers.

The labels are the user's, each bound to one answer by digest: a label of another model's answer, or
of an older one, is not used.

Source: evaluation page, section 9, bias correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from forebear.errors import FormatError
from forebear.gate.judging import ppi
from forebear.train.evaluate.judged.items import read_jsonl
from forebear.train.evaluate.measured import Measured


def with_correction(measured: Measured, file: Path) -> Measured:
    """``measured`` with ``bias_corrected`` among its facts, and a note that says it in words.

    Args:
        measured: a suite whose values lie in [0, 1].
        file: records ``id``, ``output_sha256`` and ``value``.
    Raises:
        MissingData: there is no such file.
        FormatError: a value lies outside [0, 1].
    """
    labels = _labels(read_jsonl(file, "id", "output_sha256", "value").rows, measured.rows, file)
    values = {
        str(row["id"]): float(row["value"]) for row in measured.rows if row["value"] is not None
    }
    found = bias_correction(values, {name: labels[name] for name in labels if name in values})
    return replace(
        measured,
        facts={
            **measured.facts,
            "bias_corrected": found,
            "notes": [*measured.facts["notes"], _note(found)],
        },
    )


def _labels(
    given: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], file: Path
) -> dict[str, float]:
    outputs = {str(row["id"]): row["output_sha256"] for row in rows}
    labels = {}
    for number, one in enumerate(given, start=1):
        value = one["value"]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise FormatError("the value must lie between 0 and 1", where=f"{file}:{number}")
        if outputs.get(str(one["id"])) == one["output_sha256"]:
            labels[str(one["id"])] = float(value)
    return labels


def _note(found: Mapping[str, Any]) -> str:
    if found["estimate"] is None:
        return f"{found['n']} human labels fit these answers: too few to correct the judge"
    text = (
        f"mean value corrected by {found['n']} human labels: {found['estimate']:.3f} "
        f"({found['low']:.3f} to {found['high']:.3f})"
    )
    if found["clipped"]:
        text += ", clipped to [0, 1]"
    return text if found["used"] else f"{text}; fewer than 30: shown, not used"


def bias_correction(values: Mapping[str, float], labels: Mapping[str, float]) -> dict[str, Any]:
    """The judge's mean corrected by people's labels of some of the items, as a report shows it.

    Args:
        values: the judge's score of each item, in [0, 1].
        labels: people's scores of some of them.

    Returns:
        ``estimate``, ``se``, ``low``, ``high``, ``clipped``, ``used`` and ``n``; all but ``used``
        and ``n`` are ``None`` when there are too few to compute it.
    """
    both = sorted(values.keys() & labels.keys())
    found = ppi(list(values.values()), [values[i] for i in both], [labels[i] for i in both])
    if found is None:
        nothing = dict.fromkeys(("estimate", "se", "low", "high", "clipped"))
        return {**nothing, "used": False, "n": len(both)}
    return {
        "estimate": found.estimate,
        "se": found.se,
        "low": found.low,
        "high": found.high,
        "clipped": found.clipped,
        "used": found.usable,
        "n": len(both),
    }
