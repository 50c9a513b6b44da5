"""The suites that ``measure`` can run, and which of their items it takes.

A suite is a task file of the package, a data file among the stage's deps and the facts that name
its setting. The harness's own limit (the first N items) is never used: :func:`select_items` takes
the items with the smallest digests, stratum by stratum, so a larger limit contains a smaller one.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson


@dataclass(frozen=True, slots=True)
class Suite:
    """One task as we run it.

    Attributes:
        source: data file, as ``golden/…`` or ``benchmarks/…`` below the stage's two folders.
        config: task file in the package's ``data/tasks``.
        id_key: field that names an item.
        stratum_key: field over which a limit is spread.
        text_keys: fields whose characters count against ``max_chars``.
        chat: whether prompts go through the checkpoint's chat template.
        setting: how the task is asked, in words that belong to every report of it.
        licence: SPDX identifier of the data.
    """

    task: str
    source: str
    config: str
    id_key: str
    stratum_key: str
    text_keys: tuple[str, ...]
    chat: bool
    setting: str
    licence: str


def _golden(task: str) -> Suite:
    return Suite(
        task=task,
        source=f"golden/{task}.jsonl",
        config="golden_mc4.yaml",
        id_key="id",
        stratum_key="stratum",
        text_keys=("description", "choices"),
        chat=True,
        setting="0-shot, one of four, by likelihood of the code's text",
        licence="LicenseRef-PublicDomain-US",
    )


SUITES: Mapping[str, Suite] = {
    "mc4_far": _golden("mc4_far"),
    "mc4": _golden("mc4"),
    "mc4_hard": _golden("mc4_hard"),
    "mmlu_pro": Suite(
        task="mmlu_pro",
        source="benchmarks/mmlu_pro/test_280.jsonl",
        config="mmlu_pro.yaml",
        id_key="question_id",
        stratum_key="category",
        text_keys=("question", "options"),
        chat=False,
        setting="0-shot, by likelihood of the letter, subset",
        licence="MIT",
    ),
}


@dataclass(frozen=True, slots=True)
class Selected:
    """The items of one task that are measured, in order of their id.

    Attributes:
        documents: whole rows; the id as text under ``item_id``, the stratum under ``item_stratum``.
        n_population: items of the data file before any was left out.
        data_sha256: digest of the data file.
    """

    suite: Suite
    documents: tuple[Mapping[str, Any], ...]
    n_population: int
    data_sha256: str


def load_items(
    suite: Suite, file: Path, *, seed: int, limit: int | None, max_chars: int | None
) -> Selected:
    """The items of ``suite`` to measure.

    Args:
        suite: what they belong to.
        file: its data, one JSON object a line.
        seed: the pipeline's seed, so that every checkpoint gets the same items.
        limit: how many to take; all when ``None``.
        max_chars: items whose text is longer are left out first; none when ``None``.

    Raises:
        EnvironmentFailure: the file is missing.
        FormatError: a line is no object, an id stands twice, or nothing is left.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the items of {suite.task}: {error.strerror}", where=str(file)
        ) from error
    rows: dict[str, Mapping[str, Any]] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        row = _row(suite, line, f"{file}:{number}")
        if row["item_id"] in rows:
            raise FormatError(f"the id '{row['item_id'][:60]}' stands twice", f"{file}:{number}")
        rows[row["item_id"]] = row
    short = [
        row for row in rows.values() if max_chars is None or _text_chars(suite, row) <= max_chars
    ]
    chosen = select_items(short, task=suite.task, seed=seed, limit=limit)
    if not chosen:
        raise FormatError(f"{suite.task} has no item left to measure", where=str(file))
    ordered = tuple(sorted(chosen, key=lambda row: str(row["item_id"])))
    return Selected(suite, ordered, len(rows), hashlib.sha256(data).hexdigest())


def _row(suite: Suite, line: bytes, where: str) -> dict[str, Any]:
    row = strictjson.parse(line, where=where)
    if not isinstance(row, dict):
        raise FormatError("must be an object", where=where)
    for key in (suite.id_key, suite.stratum_key, *suite.text_keys):
        if key not in row:
            raise FormatError(f"lacks '{key}'", where=where)
    return {
        **row,
        "item_id": str(row[suite.id_key]),
        "item_stratum": str(row[suite.stratum_key]),
    }


def _text_chars(suite: Suite, row: Mapping[str, Any]) -> int:
    texts = (row[key] for key in suite.text_keys)
    return sum(
        len(text) if isinstance(text, str) else sum(len(str(part)) for part in text)
        for text in texts
    )


def select_items(
    rows: Sequence[Mapping[str, Any]], *, task: str, seed: int, limit: int | None
) -> list[Mapping[str, Any]]:
    """The ``limit`` rows with the smallest SHA-256 of ``seed|task|id`` inside each stratum.

    Source: evaluation page, section 3; largest remainder over strata.
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    strata: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        strata[row["item_stratum"]].append(row)
    chosen: list[Mapping[str, Any]] = []
    for name, count in _shares({name: len(held) for name, held in strata.items()}, limit).items():
        ranked = sorted(
            strata[name],
            key=lambda row: hashlib.sha256(f"{seed}|{task}|{row['item_id']}".encode()).hexdigest(),
        )
        chosen += ranked[:count]
    return chosen


def _shares(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """``limit`` split over strata in proportion to their sizes, nested as the limit grows.

    Seats are given one after the other, each to the stratum furthest behind its share; the
    textbook's largest remainder can take a seat away from a stratum when the limit grows by one.
    """
    total = sum(sizes.values())
    given = dict.fromkeys(sorted(sizes), 0)
    for seat in range(1, limit + 1):
        behind = max(
            (name for name in given if given[name] < sizes[name]),
            key=lambda name: Fraction(seat * sizes[name], total) - given[name],
        )
        given[behind] += 1
    return given


def write_documents(selected: Selected, file: Path) -> None:
    """Writes the chosen rows where the harness's JSON loader can read them."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in selected.documents)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
