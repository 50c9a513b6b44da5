"""Items of a task: read from its data file, cut to a limit, written where lm-eval reads them.

The harness's own limit (the first N items) is never used: :func:`select_items` takes the items
with the smallest digests, stratum by stratum, so a larger limit contains a smaller one. Which
tasks there are stands in ``suites.py``.

Source: evaluation page, section 3.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.evaluate.measured import Metric

Row = Mapping[str, Any]
ACCURACY = Metric("acc", "mean", "value", "up")


@dataclass(frozen=True, slots=True)
class Suite:
    """One task as we run it.

    Attributes:
        source: data file, as ``golden/…`` or ``benchmarks/…`` below the stage's two folders.
        config: task file in the package's ``data/tasks``.
        kind: how a sample becomes an item row; see ``rows.py``.
        id_of: an item's id, from its row and its line number (from 1).
        stratum_key: field over which a limit is spread; a dot leads into it.
        text_keys: fields whose characters count against ``max_chars``.
        chat: whether prompts go through the checkpoint's chat template.
        generates: whether the model writes a text; else it is scored by likelihood.
        setting: how the task is asked, in words that belong to every report of it.
        tag: the same in a word, shown in brackets behind the name; empty for the published way.
        licence: SPDX identifier of the data.
        published_n: items of the published set; 0 when there is none.
        metrics: figures made of its rows.
        cluster_of: the group that an item stands and falls with; the item alone when left out.
        shows_texts: whether prompts and answers are kept beside the items.
        values: filled into the task file: generation limits and the like.
    """

    task: str
    source: str
    config: str
    kind: str
    id_of: Callable[[Row, int], str]
    stratum_key: str
    text_keys: tuple[str, ...]
    chat: bool
    generates: bool
    setting: str
    tag: str
    licence: str
    published_n: int = 0
    metrics: tuple[Metric, ...] = (ACCURACY,)
    cluster_of: Callable[[Row], str] | None = None
    shows_texts: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selected:
    """The items of one task that are measured, in order of their id.

    Attributes:
        documents: whole rows; the id as text under ``item_id``, the stratum under ``item_stratum``
            and, where items belong together, the group under ``item_cluster``.
        n_population: items of the data file before any was left out.
        data_sha256: digest of the data file.
        strata: items by stratum before the limit; empty when it cut nothing.
    """

    suite: Suite
    documents: tuple[Mapping[str, Any], ...]
    n_population: int
    data_sha256: str
    strata: Mapping[str, int] = field(default_factory=dict)


def load_items(
    suite: Suite, file: Path, *, seed: int, limit: int | None, max_chars: int | None
) -> Selected:
    """The items of ``suite`` to measure.

    Args:
        suite: what they belong to.
        file: its data, one JSON object a line, plain or as gzip.
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
    data = _unpacked(data, file)  # a packed copy and a plain one are the same data
    for number, line in enumerate(data.splitlines(), start=1):
        row = _row(suite, line, number, f"{file}:{number}")
        if row["item_id"] in rows:
            raise FormatError(f"the id '{row['item_id'][:60]}' stands twice", f"{file}:{number}")
        rows[row["item_id"]] = row
    short = [
        row for row in rows.values() if max_chars is None or _text_chars(suite, row) <= max_chars
    ]
    chosen = _select_whole_clusters(short, suite, seed, limit)
    if not chosen:
        raise FormatError(f"{suite.task} has no item left to measure", where=str(file))
    ordered = tuple(sorted(chosen, key=lambda row: str(row["item_id"])))
    cut = len(chosen) < len(short)
    strata = Counter(str(row["item_stratum"]) for row in short) if cut else {}
    digest = hashlib.sha256(data).hexdigest()
    return Selected(suite, ordered, len(rows), digest, dict(sorted(strata.items())))


def read_data(file: Path) -> bytes:
    """The bytes of a data file, unpacked when its name ends in ``.gz``.

    Raises:
        FormatError: it is no gzip file.
    """
    return _unpacked(file.read_bytes(), file)


def _unpacked(data: bytes, file: Path) -> bytes:
    if file.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError("is no whole gzip file", where=str(file)) from error


def _row(suite: Suite, line: bytes, number: int, where: str) -> dict[str, Any]:
    row = strictjson.parse(line, where=where)
    if not isinstance(row, dict):
        raise FormatError("must be an object", where=where)
    for key in suite.text_keys:
        if key not in row:
            raise FormatError(f"lacks '{key}'", where=where)
    try:
        named = {
            "item_id": suite.id_of(row, number),
            "item_stratum": str(_at(row, suite.stratum_key)) if suite.stratum_key else "all",
        }
        if suite.cluster_of is not None:
            named["item_cluster"] = suite.cluster_of(row)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FormatError(f"lacks {error}", where=where) from error
    return {**row, **named}


def _at(row: Row, key: str) -> Any:
    """The value that a dotted key leads to; numbers count list entries."""
    value: Any = row
    for part in key.split("."):
        value = value[int(part)] if part.isdigit() else value[part]
    return value


def _text_chars(suite: Suite, row: Mapping[str, Any]) -> int:
    texts = (row[key] for key in suite.text_keys)
    return sum(
        len(text) if isinstance(text, str) else sum(len(str(part)) for part in text)
        for text in texts
    )


def _select_whole_clusters(
    rows: Sequence[Row], suite: Suite, seed: int, limit: int | None
) -> list[Row]:
    """As :func:`select_items`, but a group of items is taken whole or not at all.

    The limit stays one of items: as many groups as fit into it, one at least.
    """
    if suite.cluster_of is None or limit is None:
        return select_items(rows, task=suite.task, seed=seed, limit=limit)
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[row["item_cluster"]].append(row)
    heads = [
        {"item_id": name, "item_stratum": held[0]["item_stratum"]} for name, held in members.items()
    ]
    size = max(map(len, members.values()), default=1)
    chosen = select_items(heads, task=suite.task, seed=seed, limit=max(1, limit // size))
    return [row for head in chosen for row in members[head["item_id"]]]


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
