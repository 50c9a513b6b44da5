"""Writes corpus, ledger and dropped samples from outcomes that come one by one, in bounded memory.

Outs are made in scratch and moved to their places when all of them are whole, so a run that is
refused leaves the earlier outs as they were.
"""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from forebear.errors import EnvironmentFailure
from forebear.formats import strictjson
from forebear.ledger import IntakeRow, LedgerRow, document_key, key_of_digest
from forebear.ledger.writer import LedgerWriter
from forebear.train.curate.pipeline import Outcome
from forebear.train.curate.sorting import LineSorter

_WRITTEN = ("domain", "replay", "instruction")
# Of each tree, about 10 MB: the ledger's own usual is four times that.
_LEDGER_RUN_ROWS = 25_000


def corpus_row(outcome: Outcome) -> dict[str, Any]:
    """A corpus row; its id names the source and the digest of the kept bytes."""
    metadata = outcome.metadata
    row: dict[str, Any] = {
        "id": f"{metadata['source']}:{hashlib.sha256(outcome.text.encode()).hexdigest()}",
        "source": metadata["source"],
        "licence": metadata["licence"],
    }
    if "fields" in metadata:
        fields = metadata["fields"]
        return row | {key: unicodedata.normalize("NFC", value) for key, value in fields.items()}
    return row | {"text": outcome.text}


class CorpusWriter:
    """One file per role; a context manager.

    Args:
        folder: to be made.
        roles: a file for each; those that the default knows are written even when empty.
    """

    def __init__(self, folder: Path, roles: Iterable[str]) -> None:
        folder.mkdir(parents=True)
        self._folder, self._roles = folder, sorted({*_WRITTEN, *roles})
        self._streams: dict[str, BinaryIO] = {}
        self._stack = ExitStack()
        self.n_rows: Counter[str] = Counter()
        self.n_bytes: Counter[str] = Counter()
        self._n_file_bytes: Counter[str] = Counter()
        self._fields: dict[str, list[str]] = {}
        self._kept: dict[str, dict[str, Counter[str]]] = {}

    def __enter__(self) -> Self:
        for role in self._roles:
            file = self._folder / f"{role}.jsonl"
            self._streams[role] = self._stack.enter_context(file.open("wb", buffering=1 << 20))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, role: str, row: Mapping[str, Any]) -> None:
        """Writes one row."""
        line, n_text = strictjson.dumps(dict(row)), len(_text_of(row).encode())
        self._streams[role].write(line)
        self.n_rows[role] += 1
        self.n_bytes[role] += n_text
        self._n_file_bytes[role] += len(line)
        self._fields.setdefault(role, sorted(row))
        held = self._kept.setdefault(str(row["source"]), {}).setdefault(role, Counter())
        held["documents"] += 1
        held["bytes"] += n_text

    def kept(self) -> dict[str, dict[str, dict[str, int]]]:
        """Documents and bytes of text by source and role."""
        return {
            source: {role: dict(held) for role, held in sorted(roles.items())}
            for source, roles in sorted(self._kept.items())
        }

    def files(self) -> dict[str, dict[str, Any]]:
        """Size, number of rows and fields of the first row of each file, by its name."""
        return {
            f"{role}.jsonl": {
                "size_bytes": self._n_file_bytes[role],
                "rows": self.n_rows[role],
                "fields": self._fields.get(role, []),
            }
            for role in self._roles
        }


def _text_of(row: Mapping[str, Any]) -> str:
    if "text" in row:
        return str(row["text"])
    second = "answer" if "answer" in row else "chosen"
    return f"{row['prompt']}\n{row[second]}"


class LedgerMaker:
    """Both trees, what was made from what, and where the documents stood; a context manager.

    Args:
        work: the stage's scratch folder.
        salt: of the ledger, or None.
    """

    def __init__(self, work: Path, salt: bytes | None) -> None:
        self._work, self._salt = work, salt
        self._writer = LedgerWriter(
            work / "ledger", salted=salt is not None, run_rows=_LEDGER_RUN_ROWS
        )
        self._made_from = LineSorter(work / "made-from")
        self._details = LineSorter(work / "details")
        self.has_details = False

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)

    def read(self, digest: bytes, n_bytes: int, source: str, fate: str) -> None:
        """Notes a document that was read; ``digest`` is the SHA-256 of its bytes."""
        key = key_of_digest(digest, self._salt)
        self._writer.add("intake", IntakeRow(key, n_bytes, fate, source))

    def add(self, outcome: Outcome, fate: str | None) -> None:
        """Notes what became of a document; ``fate`` names the filter that dropped it, or None."""
        metadata, text = outcome.metadata, outcome.text.encode()
        key = document_key(text, self._salt)
        source, role = metadata["source"], metadata["role"]
        if fate is None:
            row = LedgerRow(key, len(text), metadata["licence"], source, role)
            self._writer.add("kept", row)
            self._note_details(key, metadata)
        read = metadata.get("read")
        # a copy's text is in the corpus, too, whoever gave it
        if fate == "exact_copy" or (read is None and fate is None):
            origins = [read[0]] if read else metadata.get("made_from", ())
            for origin in origins:
                made = key_of_digest(bytes.fromhex(origin), self._salt)
                if made != key:
                    self._made_from.add(f"{key} {made}".encode())
        if read is not None:
            named = f"dropped:{fate}" if fate else f"kept:{key}"
            self.read(bytes.fromhex(read[0]), read[1], source, named)

    def _note_details(self, key: str, metadata: Mapping[str, Any]) -> None:
        found = {name: metadata[name] for name in ("language", "url") if metadata.get(name)}
        # an address would give away what the salt hides
        if found and self._salt is None:
            self.has_details = True
            self._details.add(key.encode() + orjson.dumps(found, option=orjson.OPT_SORT_KEYS))

    def finish(self) -> dict[str, Any]:
        """Writes the folder; returns what its ``root.json`` says.

        Raises:
            FormatError: one document has two labels.
            EnvironmentFailure: the disk refuses.
        """
        described = self._writer.finish()
        folder = self._work / "ledger"
        for index in folder.glob("*.index"):
            index.unlink()  # found again from the rows; no part of the out
        with (folder / "derived.jsonl").open("wb") as stream:
            for key, origins in _joined(self._made_from.merged(), folder / "kept.jsonl"):
                stream.write(strictjson.dumps({"from": origins, "key": key}))
        if self.has_details:
            with (folder / "details.jsonl").open("wb") as stream:
                for line in self._details.merged():
                    stream.write(
                        strictjson.dumps({**orjson.loads(line[64:]), "key": line[:64].decode()})
                    )
        return described


def _joined(pairs: Iterable[bytes], kept: Path) -> Iterator[tuple[str, list[str]]]:
    """Of the pairs ``key origin``, ascending, those whose key is kept, gathered by key."""
    grouped = groupby(pairs, key=lambda pair: pair[:64].decode())
    with kept.open("rb") as rows:
        keys = (str(orjson.loads(row)["key"]) for row in rows)
        at = next(keys, None)
        for key, found in grouped:
            origins = sorted({pair[65:].decode() for pair in found})
            while at is not None and at < key:
                at = next(keys, None)
            if at == key:
                yield key, origins


def write_lines(folder: Path, files: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Writes one file of canonical lines per name into a new folder."""
    folder.mkdir(parents=True)
    for name, rows in files.items():
        with (folder / f"{name}.jsonl").open("wb") as stream:
            stream.writelines(strictjson.dumps(dict(row)) for row in rows)


def publish(made: Path, place: Path) -> None:
    """Moves the files of a finished folder to where they belong, instead of what stands there.

    Raises:
        EnvironmentFailure: the disk refuses.
    """
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for file in sorted(made.iterdir()):
            shutil.move(file, place / file.name)
    except OSError as error:
        raise EnvironmentFailure(f"cannot write: {error.strerror}", where=str(place)) from error
