"""Rows of files and of the hub, one by one, in a fixed order, each with its place.

A folder's files are read in the order of their names. A row that breaks its format comes out as
the error that says so; a file that breaks as a whole ends the reading.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from forebear.errors import EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.curate.params import SourceParams

_SUFFIXES = {
    "jsonl": (".jsonl", ".jsonl.gz"),
    "parquet": (".parquet",),
    "warc": (".warc", ".warc.gz"),
}
# Rows in memory at a time: a row may be a book.
_BATCH_ROWS = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        number: line, row or record, from 1.
        value: what it holds, or why it holds nothing.
        payload: bytes of the document where they are not simply its text.
        html: whether its text is a web page.
    """

    file: str
    number: int
    value: object
    payload: bytes | None = None
    html: bool = False


def read_rows(source: SourceParams) -> Iterator[Row]:
    """Every row of a source of files or of the hub.

    Raises:
        EnvironmentFailure: a file or the hub cannot be read.
        FormatError: a file is broken as a whole.
        MissingExtra: web archives cannot be read.
    """
    if source.kind == "hub":
        yield from _hub_rows(source)
        return
    readers = {"jsonl": _json_rows, "parquet": _parquet_rows, "warc": _warc_rows}
    for file in files_of(source):
        try:
            yield from readers[source.kind](file)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(
                f"is cut off or no gzip: {error}", where=f"source {source.id}: {file}"
            ) from error
        except OSError as error:
            raise _unreadable(source, file, error.strerror or str(error)) from error


def files_of(source: SourceParams) -> list[Path]:
    """The files of a source, by name.

    Raises:
        EnvironmentFailure: nothing is there, or no file of its kind.
    """
    place = Path(str(source.path))
    if place.is_file():
        return [place]
    found = sorted(
        file
        for file in (place.rglob("*") if place.is_dir() else ())
        if file.is_file() and file.name.endswith(_SUFFIXES[source.kind])
    )
    if not found:
        raise _unreadable(source, place, "there is no such file")
    return found


def _unreadable(source: SourceParams, file: Path, why: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"cannot read the source: {why}",
        where=f"source {source.id}: {file}",
        fix="check curate.sources in params.yaml",
    )


def _open(file: Path) -> gzip.GzipFile | BinaryIO:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def _json_rows(file: Path) -> Iterator[Row]:
    with _open(file) as stream:
        number = 0
        while line := stream.readline(strictjson.MAX_BYTES + 1):
            number += 1
            value: object
            try:
                value = strictjson.parse(line, where=f"{file}:{number}")
            except FormatError as error:
                value = error
            while not line.endswith(b"\n") and len(line) > strictjson.MAX_BYTES:
                line = stream.readline(strictjson.MAX_BYTES + 1)
            yield Row(str(file), number, value)


def _parquet_rows(file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(str(file), number, value)
    except pa.ArrowException as error:
        raise FormatError(
            f"is broken after row {number}, or no Parquet: {str(error)[:200]}", where=str(file)
        ) from error


def _warc_rows(file: Path) -> Iterator[Row]:
    from forebear.train.curate.web import read_pages

    for page in read_pages(file):
        value: object = page.fault or {"text": page.text, "url": page.url}
        yield Row(str(file), page.number, value, page.payload, html=page.html)


def _hub_rows(source: SourceParams) -> Iterator[Row]:
    """Rows of one commit of a data set, streamed.

    Source: Hugging Face datasets 5.2, ``load_dataset(streaming=True)``. Not run here: tests stand
    in for the hub.
    """
    import datasets

    place = f"{source.repo}@{source.revision}"
    try:
        rows: Any = datasets.load_dataset(
            source.repo,
            name=source.config,
            split=source.split,
            revision=source.revision,
            streaming=True,
        )
        for number, value in enumerate(rows, start=1):
            yield Row(place, number, dict(value))
    except (OSError, ValueError) as error:
        # offline, no such data set, no such split: the libraries raise one of these two kinds
        raise EnvironmentFailure(
            f"cannot read the data set: {str(error)[:200]}",
            where=f"source {source.id}: {place}",
            fix="check repo, revision, split and config under curate.sources, and the network",
        ) from error
