"""The filter chain as datatrove pipelines, shard by shard, and what became of each document.

Three parts: filters that look at one document; the search for copies, exact and near, which looks
at all; decontamination. Between them documents lie in files, one per shard, and a shard is one
task: so no result depends on how many tasks run at once or how large a shard is. Copies are told
by what comes first in the order of the documents, near copies by datatrove's clusters.
"""

from __future__ import annotations

import heapq
import shutil
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig

from forebear.train.curate import quality
from forebear.train.curate.decontaminate import GoldenIndex
from forebear.train.curate.executors import run_tasks
from forebear.train.curate.filters import (
    Decontamination,
    Extraction,
    Fingerprint,
    Licence,
    Nfc,
    OnlyRoles,
    OptOut,
    Shard,
    read_lines,
)
from forebear.train.curate.language import Language
from forebear.train.curate.optout import OptOutList
from forebear.train.curate.params import CurateParams, NearCopyParams
from forebear.train.curate.pii import PersonalData
from forebear.train.curate.sorting import LineSorter

# The filters' own outs name no reason where there is but one.
_ONLY_REASON = {"exact_copy": "copy", "near_copy": "near_copy"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document.

    Attributes:
        id: its place in the order of all documents.
        text: after the last filter that changed it.
        metadata: as ``gather`` wrote it, with what the filters added.
        dropped_by: name of the filter, or None when kept.
        reason: rule that dropped it, or the empty text.
    """

    id: str
    text: str
    metadata: dict[str, Any]
    dropped_by: str | None = None
    reason: str = ""


class Chain:
    """The filters that the params switch on.

    Args:
        params: section ``curate``.
        index: of the eval sets.
        reserved: the opt-out list.
        work: the stage's scratch folder, with its ``shards``.
    """

    def __init__(
        self, params: CurateParams, index: GoldenIndex, reserved: OptOutList, work: Path
    ) -> None:
        self.params, self.index, self.reserved, self.work = params, index, reserved, work

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the filters that are on, in the order in which a document meets them."""
        params = self.params
        switched = {
            "opt_out": len(self.reserved),
            "licence": params.licences,
            "extraction": any(source.kind == "warc" for source in params.sources),
            "language": params.language,
            "quality": params.quality,
            "gopher": params.gopher,
            "c4": params.c4,
            "fineweb": params.fineweb,
            "exact_copy": True,
            "near_copy": params.near_copies,
            "decontamination": True,
        }
        return tuple(name for name, on in switched.items() if on)

    def run(self, n_shards: int) -> None:
        """Runs all parts that are not complete yet.

        Raises:
            EnvironmentFailure: a cluster refused a job, or a task did not end well.
        """
        self._run("each", self._each(), n_shards)
        find_copies(self.work, n_shards)
        if self.params.near_copies is not None:
            self._find_near_copies(self.params.near_copies, n_shards)
        self._run("last", self._last(), n_shards)

    def _run(self, name: str, pipeline: Sequence[PipelineStep], n_tasks: int) -> None:
        run_tasks(name, pipeline, n_tasks, self.params.executor, work=self.work)

    def _writer(self, name: str) -> JsonlWriter:
        folder = str((self.work / name).absolute())
        return JsonlWriter(folder, output_filename="${rank}.jsonl", compression=None)

    def _each(self) -> list[PipelineStep]:
        """Filters that look at one document alone."""
        params, write = self.params, self._writer
        steps: list[PipelineStep | None] = [
            Shard(self._path("shards")),
            OptOut(self.reserved, write("opt_out")) if len(self.reserved) else None,
            Licence(params.licences, write("licence")) if params.licences else None,
            Extraction(write("extraction")) if "extraction" in self.filters else None,
            Nfc(),
            Language(params.language, write("language")) if params.language else None,
            quality.ShortTextQuality(params.quality, write("quality")) if params.quality else None,
            quality.Gopher(params.gopher, write("gopher")) if params.gopher else None,
            quality.C4(params.c4, write("c4")) if params.c4 else None,
            quality.FineWeb(params.fineweb, write("fineweb")) if params.fineweb else None,
            PersonalData(params.pii.kinds) if params.pii else None,
            Fingerprint(self._path("fingerprints")),
            write("clean"),
        ]
        return [step for step in steps if step is not None]

    def _find_near_copies(self, limits: NearCopyParams, n_shards: int) -> None:
        """Finds texts that share most of their n-grams, by datatrove's MinHash.

        Source: Broder 1997; datatrove's four steps, hashed by SHA-1.
        """
        config = MinhashConfig(
            n_grams=limits.ngram,
            num_buckets=limits.buckets,
            hashes_per_bucket=limits.hashes_per_bucket,
            hash_config=HashConfig(precision=64, hash_fc="sha1"),
        )
        signatures, pairs = str(self._path("signatures")), str(self._path("pairs"))
        near = str(self._path("near"))
        self._run(
            "signatures",
            [
                Shard(self._path("clean")),
                MinhashDedupFilter(str(self._path("copies"))),
                OnlyRoles(limits.roles),
                MinhashDedupSignature(signatures, config, language=quality.WORDS),
            ],
            n_shards,
        )
        buckets = MinhashDedupBuckets(signatures, pairs, config=config)
        self._run("buckets", [buckets], limits.buckets)
        self._run("clusters", [MinhashDedupCluster(pairs, near, config)], 1)

    def _last(self) -> list[PipelineStep]:
        """Drops the copies, then what is contaminated."""
        write = self._writer
        steps: list[PipelineStep] = [
            Shard(self._path("clean")),
            MinhashDedupFilter(str(self._path("copies")), write("exact_copy")),
        ]
        if self.params.near_copies is not None:
            steps.append(MinhashDedupFilter(str(self._path("near")), write("near_copy")))
        return [*steps, Decontamination(self.index, write("decontamination")), write("kept")]

    def _path(self, name: str) -> Path:
        return (self.work / name).absolute()

    def outcomes(self) -> Iterator[Outcome]:
        """What became of each document, in order."""
        parts = [_outcomes(self.work, name) for name in ("kept", *self.filters)]
        return heapq.merge(*parts, key=attrgetter("id"))


def _outcomes(work: Path, name: str) -> Iterator[Outcome]:
    """Outcomes of one folder: shards in order, documents in order within."""
    for file in sorted((work / name).glob("*.jsonl")):
        for row in read_lines(file):
            metadata = row["metadata"]
            reason = str(metadata.pop("filter_reason", _ONLY_REASON.get(name, "")))
            dropped_by = None if name == "kept" else name
            yield Outcome(row["id"], row.get("text", ""), metadata, dropped_by, reason)


def find_copies(work: Path, n_shards: int) -> None:
    """Writes, per shard, the places of texts that stood before, for datatrove's filter to drop.

    A place is 4 bytes, little-endian, ascending; the file is ``copies/NUMBER.remove``.
    """
    done = work / "copies.done"
    if done.exists():
        return
    shutil.rmtree(work / "copies", ignore_errors=True)
    (work / "copies").mkdir()
    sorter, places = LineSorter(work / "sorting"), LineSorter(work / "places")
    for shard in range(n_shards):
        with (work / "fingerprints" / f"{shard:05d}").open("rb") as stream:
            for line in stream:
                sorter.add(line.rstrip())
    last = b""
    for line in sorter.merged():
        digest, _, place = line.partition(b" ")
        if digest == last:
            places.add(place)
        last = digest
    _write_places(places.merged(), work / "copies")
    for name in ("sorting", "places"):
        shutil.rmtree(work / name)
    done.touch()


def _write_places(places: Iterable[bytes], folder: Path) -> None:
    shard, stream = b"", None
    for line in places:
        name, _, place = line.partition(b" ")
        if name != shard or stream is None:
            if stream is not None:
                stream.close()
            shard, stream = name, (folder / f"{int(name):06d}.remove").open("wb")
        stream.write(struct.pack("<I", int(place)))
    if stream is not None:
        stream.close()


class Tally:
    """Counts per filter and rule, with the first texts that each filter dropped.

    Args:
        filters: names, in order.
        n_samples: texts kept per filter.
    """

    def __init__(self, filters: Iterable[str], n_samples: int) -> None:
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in filters}
        self._samples: dict[str, list[dict[str, str]]] = {name: [] for name in self._counts}
        self._n_samples = n_samples
        self.pii: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Counts one outcome."""
        if outcome.dropped_by is None:
            self.pii.update(outcome.metadata.get("pii", {}))
            if "language" in outcome.metadata:
                self.languages[outcome.metadata["language"]] += 1
            return
        self._counts[outcome.dropped_by][outcome.reason] += 1
        samples = self._samples[outcome.dropped_by]
        if len(samples) < self._n_samples:
            sample = {
                "source": outcome.metadata["source"],
                "role": outcome.metadata["role"],
                "reason": outcome.reason,
                # what its owner reserves is not kept here either
                "text": "" if outcome.dropped_by == "opt_out" else outcome.text,
            }
            url = outcome.metadata.get("url")
            samples.append({**sample, "url": url} if url else sample)

    def counts(self) -> dict[str, dict[str, int]]:
        """Per filter, how many documents it dropped under which rule."""
        return {name: dict(sorted(rules.items())) for name, rules in self._counts.items()}

    def samples(self) -> dict[str, list[dict[str, str]]]:
        """Per filter, the first texts it dropped, for inspection."""
        return self._samples
