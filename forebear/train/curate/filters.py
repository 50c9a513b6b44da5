"""Steps of the filter chain beside quality, language and personal data.

A document's metadata carries what the ledger must know of it (role, source, licence, what was
read), so steps talk to each other through files alone and run under any of datatrove's executors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.writers.disk_base import DiskWriter

from forebear.train.curate import licences
from forebear.train.curate.decontaminate import GoldenIndex
from forebear.train.curate.optout import OptOutList
from forebear.train.curate.params import LicenceParams
from forebear.train.curate.sources import normal_form


class Shard(PipelineStep):
    """Reads the one file that belongs to a task, whatever the others hold.

    datatrove's reader deals out the files that are there, and passes over lines that it cannot
    read; a task whose input was dropped whole has no file, and would get its neighbour's.
    """

    type = "📖 - READER"
    name = "shard"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """The documents of this task."""
        del data, world_size
        for row in read_lines(self.folder / f"{rank:05d}.jsonl"):
            yield Document(row.get("text", ""), row["id"], metadata=row["metadata"])


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file that this stage wrote; none where there is no file."""
    if file.exists():
        with file.open("rb") as stream:
            for line in stream:
                yield orjson.loads(line)


class OptOut(BaseFilter):
    """Drops what its owners reserve from training."""

    name = "opt_out"

    def __init__(self, listed: OptOutList, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.listed = listed

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether nobody reserves ``doc``, with the kind of entry when somebody does."""
        reason = self.listed.reason(doc.metadata["source"], doc.metadata.get("url", ""))
        return (False, reason) if reason is not None else True


class Licence(BaseFilter):
    """Drops documents whose licence is not on the allow-list."""

    name = "licence"

    def __init__(self, wanted: LicenceParams, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.allowed = frozenset(wanted.allow)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether ``doc`` may be used, with its licence when not."""
        licence = doc.metadata["licence"]
        return True if licences.is_allowed(licence, self.allowed) else (False, licence)


class Extraction(BaseFilter):
    """Turns web pages into their main text; drops those that have none."""

    name = "extraction"

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether ``doc`` holds text."""
        if doc.metadata.pop("html", False):
            from forebear.train.curate.web import page_text

            doc.text = page_text(doc.text)
        return True if doc.text.strip() else (False, "no_text")


class Nfc(BaseFormatter):
    """Brings texts to Unicode NFC and plain line ends."""

    name = "NFC"

    def format(self, text: str) -> str:
        """``text`` in its normal form."""
        return normal_form(text)


class Fingerprint(PipelineStep):
    """Notes the SHA-256 of each text and its place, one line each, for the search for copies.

    datatrove's own search for exact copies cuts the hash to 64 bits, which at a billion documents
    drops one that is none.
    """

    type = "🫂 - DEDUP"
    name = "fingerprint"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The documents, unchanged."""
        del world_size
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{rank:05d}").open("wb") as stream:
            for place, doc in enumerate(data or ()):
                digest = hashlib.sha256(doc.text.encode()).hexdigest()
                stream.write(f"{digest} {rank:05d} {place:010d}\n".encode())
                yield doc


class OnlyRoles(PipelineStep):
    """Empties the texts of all other roles, so that MinHash gives them no signature."""

    type = "🔻 - FILTER"
    name = "roles"

    def __init__(self, roles: tuple[str, ...]) -> None:
        super().__init__()
        self.roles = roles

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """As many documents as came in, in their order."""
        del rank, world_size
        for doc in data or ():
            if doc.metadata["role"] not in self.roles:
                doc.text = ""
            yield doc


class Decontamination(BaseFilter):
    """Drops texts that hold a golden code or repeat an item of an eval set."""

    name = "decontamination"

    def __init__(self, index: GoldenIndex, exclusion_writer: DiskWriter) -> None:
        super().__init__(exclusion_writer)
        self.index = index

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether ``doc`` is clean, with the reason when not."""
        reason = self.index.reason(doc.text)
        return (False, reason) if reason is not None else True
