"""Refuses a benchmark's own file as a source of training text.

The list names every benchmark file that the repository carries, by digest, packed and unpacked.
What such a file holds was published to measure with; some of it is another model's output. A
source of role ``eval`` may be one: it is held against the others and used for nothing else.

Source: evaluation page, sections 8 and 17.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.train.curate.params import SourceParams
from forebear.train.curate.rows import files_of

SCHEMA = "forebear/evaluation-only/v1"
# No benchmark of the list is that large, and a corpus need not be hashed for it.
_LARGEST = 64 << 20


def read_evaluation_only(file: Path) -> dict[str, str]:
    """Names of the listed files by SHA-256; an empty file lists none.

    Raises:
        EnvironmentFailure: it cannot be read.
        FormatError: it is no such list.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"cannot read: {error.strerror}", where=str(file)) from error
    if not data:
        return {}
    value = strictjson.parse(data, where=str(file))
    try:
        if not isinstance(value, dict) or value["schema"] != SCHEMA:
            raise FormatError(f"is no list of schema {SCHEMA}", where=str(file))
        return {
            str(digest): str(name)
            for name, one in value["files"].items()
            for digest in one["sha256"]
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"is no list of schema {SCHEMA}: {error}", where=str(file)) from error


def refuse_benchmarks(sources: Iterable[SourceParams], listed: Mapping[str, str]) -> None:
    """Refuses a source that is a benchmark's file, whatever it is called.

    Raises:
        ConfigError: so it is, and the role is not ``eval``.
        EnvironmentFailure: a file cannot be read.
    """
    for source in sources:
        if not listed or source.path is None or source.role == "eval":
            continue
        for file in files_of(source):
            name = listed.get(_digest(file)) if file.stat().st_size <= _LARGEST else None
            if name is not None:
                raise ConfigError(
                    f"is the benchmark file {name}, which is for evaluation only",
                    where=f"params.yaml: curate.sources: {source.id}: {file}",
                    fix="take the source out, or give it role eval to keep its items out of "
                    "training",
                )


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EnvironmentFailure(f"cannot read: {error.strerror}", where=str(file)) from error
