"""The filter chain, as a datatrove pipeline: normalise, quality, exact copies, golden set.

Steps talk to each other through files only, so the same chain runs under datatrove's other
executors. English word tokenizers of datatrove want spaCy, so the quality rules that need words
are written here on plain white space.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.readers.jsonl import JsonlReader
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.logging import logger

from forebear.train.curate.decontaminate import GoldenIndex
from forebear.train.curate.params import QualityParams
from forebear.train.curate.sources import Draft, normal_form

FILTERS = ("quality", "exact_copy", "decontamination")


class Nfc(BaseFormatter):
    """Brings texts to Unicode NFC and plain line ends."""

    name = "NFC"

    def format(self, text: str) -> str:
        """``text`` in its normal form."""
        return normal_form(text)


class ShortTextQuality(BaseFilter):
    """Drops texts that are too short, too long, hardly words, or mostly repeated lines.

    Instructions pass: their form is ours or was checked when they were read.

    Source: the rules of Rae et al. 2021 (Gopher), appendix A.1.1, with limits for short texts.
    """

    name = "quality"

    def __init__(self, limits: QualityParams, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.limits = limits

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep ``doc``, with the reason when not."""
        if doc.metadata["role"] == "instruction":
            return True
        reason = quality_fault(doc.text, self.limits)
        return (False, reason) if reason is not None else True


def quality_fault(text: str, limits: QualityParams) -> str | None:
    """The first quality rule that ``text`` breaks, or None."""
    words = text.split()
    if len(words) < limits.min_words:
        return "too_short"
    if len(words) > limits.max_words:
        return "too_long"
    if sum(map(len, words)) / len(words) > limits.max_mean_word_length:
        return "long_words"
    alphabetic = sum(any(letter.isalpha() for letter in word) for word in words)
    if alphabetic / len(words) < limits.min_alphabetic_words:
        return "few_words"
    lines = [line for line in text.splitlines() if line.strip()]
    if 1 - len(set(lines)) / len(lines) > limits.max_duplicate_lines:
        return "repeated_lines"
    return None


class ExactCopy(BaseFilter):
    """Drops every text after the first with the same bytes; memory is 32 bytes a text."""

    name = "exact_copy"

    def __init__(self, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.seen: set[bytes] = set()

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether ``doc`` is the first of its kind."""
        digest = hashlib.sha256(doc.text.encode()).digest()
        if digest in self.seen:
            return False, "copy"
        self.seen.add(digest)
        return True


class Decontamination(BaseFilter):
    """Drops texts that hold a golden code or repeat a golden item."""

    name = "decontamination"

    def __init__(self, index: GoldenIndex, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.index = index

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether ``doc`` is clean, with the reason when not."""
        reason = self.index.reason(doc.text)
        return (False, reason) if reason is not None else True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one draft.

    Attributes:
        text: after normalisation.
        dropped_by: name of the filter, or None when kept.
        reason: rule that dropped it, or the empty text.
    """

    draft: Draft
    text: str
    dropped_by: str | None = None
    reason: str = ""


def run_filters(
    drafts: Iterable[Draft], *, limits: QualityParams, index: GoldenIndex, work: Path
) -> list[Outcome]:
    """What became of each draft, in the order given.

    Args:
        drafts: texts to filter.
        limits: of the quality filter.
        index: of the golden set.
        work: folder for the pipeline's files; emptied first.
    """
    drafts = list(drafts)
    shutil.rmtree(work, ignore_errors=True)
    _write_input(drafts, work / "input" / "drafts.jsonl")
    logger.disable("datatrove")

    def writer(name: str) -> JsonlWriter:
        return JsonlWriter(str(work / name), compression=None)

    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(work / "input"), compression=None),
            Nfc(),
            ShortTextQuality(limits, writer("quality")),
            ExactCopy(writer("exact_copy")),
            Decontamination(index, writer("decontamination")),
            writer("kept"),
        ],
        tasks=1,
        workers=1,
        logging_dir=str(work / "logs"),
        skip_completed=False,
    ).run()
    outcomes: dict[int, Outcome] = {}
    for name in ("kept", *FILTERS):
        for row in _rows(work / name):
            number = int(row["id"])
            reason = str(row.get("metadata", {}).get("filter_reason", ""))
            outcomes[number] = Outcome(
                drafts[number], row["text"], None if name == "kept" else name, reason
            )
    return [outcomes[number] for number in sorted(outcomes)]


def _write_input(drafts: list[Draft], file: Path) -> None:
    file.parent.mkdir(parents=True)
    with file.open("w", encoding="utf-8") as handle:
        for number, draft in enumerate(drafts):
            row = {"id": str(number), "text": draft.text, "metadata": {"role": draft.role}}
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        # by newline alone: JSON leaves other line separators inside texts as they are
        for line in file.read_bytes().split(b"\n"):
            if line:
                yield json.loads(line)


def counts(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Per filter, how many drafts it dropped under which rule."""
    found: dict[str, Counter[str]] = {name: Counter() for name in FILTERS}
    for outcome in outcomes:
        if outcome.dropped_by is not None:
            found[outcome.dropped_by][outcome.reason] += 1
    return {name: dict(sorted(rules.items())) for name, rules in found.items()}


def drop_samples(outcomes: Iterable[Outcome], limit: int) -> dict[str, list[dict[str, str]]]:
    """Per filter, the first ``limit`` texts it dropped, for inspection."""
    samples: dict[str, list[dict[str, str]]] = {name: [] for name in FILTERS}
    for outcome in outcomes:
        if outcome.dropped_by is None or len(samples[outcome.dropped_by]) == limit:
            continue
        samples[outcome.dropped_by].append(
            {
                "source": outcome.draft.source,
                "role": outcome.draft.role,
                "reason": outcome.reason,
                "text": outcome.text,
            }
        )
    return samples
