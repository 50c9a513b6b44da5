"""Lays all drafts on disk in an order fixed by hash, cut into shards, in bounded memory.

The order is that of the role, then of the hash of seed and text, so it does not depend on how the
sources lie on disk. Documents on the takedown list go no further: their texts are in no shard.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from forebear.train.curate.icd10cm import rank
from forebear.train.curate.sorting import LineSorter
from forebear.train.curate.sources import Draft, Reject, normal_form
from forebear.train.curate.takedown import TakedownList

ROLES = ("domain", "replay", "instruction", "preference")

# Of a sorted line: the role's place, the rank in hex, the number in which the draft came.
_ORDER = 2 + 64 + 14
_MARK = "gathered.json"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What lies in the shards.

    Attributes:
        n_shards: at least one.
        n_documents: in the shards.
        n_taken: drafts that the takedown list names.
        n_rejects: malformed rows.
        read: per source, drafts that were read from it and drafts derived from those.
        matched: entries of the takedown list that met a draft.
    """

    n_shards: int
    n_documents: int
    n_taken: int
    n_rejects: int
    read: dict[str, dict[str, int]] = field(default_factory=dict)
    matched: tuple[str, ...] = ()


def gather(
    drafts: Callable[[Callable[[Reject], object]], Iterable[Draft]],
    *,
    seed: int,
    listed: TakedownList,
    shard_bytes: int,
    work: Path,
) -> Gathered:
    """Writes ``shards/``, ``taken.jsonl`` and ``rejects.jsonl`` below ``work``, unless they stand.

    Args:
        drafts: gives all drafts once, and hands each malformed row to its argument.
        seed: of the pipeline.
        listed: the takedown list.
        shard_bytes: of a shard; one document more at most.
        work: the stage's scratch folder.
    Raises:
        whatever ``drafts`` raises.
    """
    mark = work / _MARK
    if mark.exists():
        found = orjson.loads(mark.read_bytes())
        listed.note(found["matched"])
        return Gathered(**{**found, "matched": tuple(found["matched"])})
    for name in ("shards", "sorting"):
        shutil.rmtree(work / name, ignore_errors=True)
    (work / "shards").mkdir(parents=True)
    n_rejects = 0
    sorter, gone = LineSorter(work / "sorting"), set()
    with (work / "rejects.jsonl").open("wb") as rejects:

        def reject(bad: Reject) -> None:
            nonlocal n_rejects
            n_rejects += 1
            rejects.write(orjson.dumps(asdict(bad), option=orjson.OPT_APPEND_NEWLINE))

        for number, draft in enumerate(drafts(reject)):
            if _is_taken(draft, listed):
                # by the text that would be kept: a copy read under other bytes is the same text
                gone.add(_digest(draft.text))
            order = f"{ROLES.index(draft.role):02d}{rank(seed, draft.text).hex()}{number:014d}"
            sorter.add(order.encode() + _line(draft))
    made = _cut(sorter.merged(), gone, shard_bytes, work)
    shutil.rmtree(work / "sorting")
    gathered = Gathered(**made, n_rejects=n_rejects, matched=tuple(listed.matched))
    part = mark.with_suffix(".part")
    part.write_bytes(orjson.dumps(asdict(gathered)))
    part.replace(mark)
    return gathered


def _is_taken(draft: Draft, listed: TakedownList) -> bool:
    if not len(listed):
        return False
    read = [] if draft.read is None else [draft.read]
    return listed.names(normal_form(draft.text).encode(), *read)


def _digest(text: str) -> bytes:
    return hashlib.sha256(normal_form(text).encode()).digest()


def _line(draft: Draft) -> bytes:
    """The draft as JSON, what is empty left out."""
    metadata: dict[str, Any] = {
        "role": draft.role,
        "source": draft.source,
        "licence": draft.licence,
        "fields": draft.fields,
        "made_from": [digest.hex() for digest in draft.made_from],
        "url": draft.url,
        "html": draft.html,
    }
    kept = {key: value for key, value in metadata.items() if value}
    if draft.read is not None:
        kept["read"] = [hashlib.sha256(draft.read).hexdigest(), len(draft.read)]
    return orjson.dumps({"text": draft.text, "metadata": kept})


def _cut(lines: Iterable[bytes], gone: set[bytes], shard_bytes: int, work: Path) -> dict[str, Any]:
    """Writes the shards; a document's id is its place among all drafts."""
    counts: dict[str, Counter[str]] = {}
    n_documents = n_taken = 0
    with (work / "taken.jsonl").open("wb") as taken:
        shards = _Shards(work / "shards", shard_bytes)
        for place, line in enumerate(lines):
            row = orjson.loads(line[_ORDER:])
            if gone and _digest(row["text"]) in gone:
                n_taken += 1
                taken.write(orjson.dumps(row["metadata"], option=orjson.OPT_APPEND_NEWLINE))
                continue
            n_documents += 1
            kind = "documents" if "read" in row["metadata"] else "derived"
            counts.setdefault(row["metadata"]["source"], Counter())[kind] += 1
            row["id"] = f"{place:014d}"
            shards.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        n_shards = shards.close()
    return {
        "n_shards": n_shards,
        "n_documents": n_documents,
        "n_taken": n_taken,
        "read": {source: dict(found) for source, found in counts.items()},
    }


class _Shards:
    """Files of about equal size, filled one after the other."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder, self._shard_bytes = folder, shard_bytes
        self._n, self._bytes = 0, 0
        self._stream: BinaryIO = self._next()

    def _next(self) -> BinaryIO:
        stream = (self._folder / f"{self._n:05d}.jsonl").open("wb", buffering=1 << 20)
        self._n, self._bytes = self._n + 1, 0
        return stream

    def write(self, line: bytes) -> None:
        if self._bytes >= self._shard_bytes:
            self._stream.close()
            self._stream = self._next()
        self._stream.write(line)
        self._bytes += len(line)

    def close(self) -> int:
        self._stream.close()
        return self._n


def taken_documents(work: Path) -> Iterator[dict[str, Any]]:
    """What is known of the documents on the takedown list; never their text."""
    with (work / "taken.jsonl").open("rb") as stream:
        for line in stream:
            yield orjson.loads(line)
