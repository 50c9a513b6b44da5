"""The data sets of a release: sources, sets that stages made of them, suites, what nobody tells.

Source: compliance page, sections 8 (D8, D9) and 9.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from forebear.documents.naming import digest_of, lines_of, version_of
from forebear.documents.parts import DataSet, Model, reference
from forebear.documents.reading import Cells, Reader, web_address
from forebear.documents.spdxlicence import is_expression

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEST_ROLES = {"eval", "test", "validation", "golden", "benchmark"}


def read_sets(reader: Reader) -> tuple[DataSet, ...]:
    """Sets of the lineage, and the suites of the evaluation that are none of them."""
    rows = reader.rows("data.sets")
    sources = [row for row in rows if not is_made(row) and _trains(row)]
    listed = [_data_set(reader, row, sources) for row in rows]
    names = {_plain(part.cells.text("id") or part.name) for part in listed}
    for row in reader.rows("eval.results"):
        task = row.text("task", "suite")
        if task is not None and _plain(task) not in names:
            names.add(_plain(task))
            listed.append(_suite(reader, task, row))
    return tuple(listed)


def is_made(row: Cells) -> bool:
    """Whether a stage of this pipeline made the set, so that it has no publisher."""
    return row.value("publisher").kind == "not_applicable"


def _trains(row: Cells) -> bool:
    return (row.text("role") or "").lower() not in _TEST_ROLES


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def _data_set(reader: Reader, row: Cells, sources: Sequence[Cells]) -> DataSet:
    files = tuple(
        (path, digest)
        for file in reader.rows("data.files")
        if holds(file, row)
        and (path := file.text("path")) is not None
        and (digest := file.text("sha256")) is not None
    )
    digest = digest_of(row, "sha256") or (files[0][1] if len(files) == 1 else None)
    origins = made_of(row, sources) if is_made(row) else ()
    lines = lines_of(reader, row)
    if origins:
        lines = (*lines, *(("forebear:made-of", source.key) for source in origins))
    supplier = "provider.legal_name" if is_made(row) else None
    return DataSet(
        ref=reference("data", row.key),
        name=row.text("name", "id") or row.key,
        version=version_of(row.value("version"), digest or digest_of(row, "merkle_root"), row),
        licence=row.text("licence") or _joined(origins),
        licence_url=web_address(row.text("licence_url")),
        digest=digest,
        supplier=reader.release.text(supplier) if supplier else row.text("publisher"),
        url=web_address(row.text("source_url", "url")),
        cells=row,
        lines=lines,
        trains=_trains(row),
        files=files,
        made_of=tuple(source.key for source in origins),
    )


def holds(file: Cells, row: Cells) -> bool:
    """Whether a file, a row of ``data.files``, holds records of the set."""
    return file.text("set") in (row.key, row.text("id"))


def dropped_by_filters(reader: Reader, key: str) -> list[str]:
    """Filters of the stage that read a set, with what they dropped."""
    stage = key.partition(":")[0]
    return [
        f"{row.text('filter')}: dropped {row.text('dropped') or 'an unknown number'}"
        for row in reader.rows("data.filters")
        if row.key.partition(":")[0] == stage
    ]


def made_of(row: Cells, sources: Sequence[Cells]) -> tuple[Cells, ...]:
    """Sources of a made set: those it names, else every one that is trained on."""
    named = set(row.texts("made_from"))
    return tuple(s for s in sources if {s.key, s.text("id")} & named) or tuple(sources)


def _joined(origins: Sequence[Cells]) -> str | None:
    """The licences of all sources as one expression; None where one is unknown or no such term."""
    terms = [source.text("licence") for source in origins]
    if not terms or not all(term is not None and is_expression(term) for term in terms):
        return None
    unique = list(dict.fromkeys(str(term) for term in terms))
    if len(unique) == 1:
        return unique[0]
    return " AND ".join(f"({term})" if " " in term else term for term in unique)


def _suite(reader: Reader, task: str, row: Cells) -> DataSet:
    """A set that only the evaluation names."""
    digest = digest_of(row, "data_sha256")
    named = ("data_sha256", "licence", "task")
    return DataSet(
        ref=reference("data", f"eval:{task}"),
        name=task,
        version=version_of(row.value("suite_version"), digest, row),
        licence=row.text("licence"),
        licence_url=None,
        digest=digest,
        supplier=None,
        url=None,
        cells=Cells(
            f"eval:{task}",
            {"role": row.value("task").model_copy(update={"value": "evaluation"})},
            "en",
        ),
        lines=lines_of(reader, row, named),
        trains=False,
    )


def undisclosed(model: Model) -> DataSet:
    """The set that stands for what nobody tells of a model's training data."""
    return DataSet(
        ref=model.sets[0],
        name=f"undisclosed training data of {model.name}",
        version=model.version,
        licence=None,
        licence_url=None,
        digest=None,
        supplier=model.supplier,
        url=None,
        cells=Cells(model.sets[0], {}, "en"),
        lines=(),
    )
