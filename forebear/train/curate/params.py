"""Section ``curate`` of the params: sources, selection, golden set, filters, executor.

A filter that is left out is off. Imports nothing heavy, so that all sections can be validated at
once.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from forebear.train.stage import StageParams

ICD10CM = "simple-icd-10-cm"
PYDOC = "pydoc_data.topics"

Role = Literal["domain", "replay", "instruction", "preference", "eval"]
Kind = Literal["package", "jsonl", "parquet", "warc", "hub"]

# SPDX: one identifier, or identifiers joined by operators.
_LICENCE = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NEEDED = {
    "package": ("package", "version"),
    "jsonl": ("path",),
    "parquet": ("path",),
    "warc": ("path",),
    "hub": ("repo", "revision", "split"),
}
_LOCATION = ("package", "version", "path", "repo", "revision", "split", "config")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FieldParams(_Part):
    """Names of the fields of a row, where a source has names of its own.

    Attributes:
        text: one field, or several that are joined by newlines.
        licence: the row's own SPDX identifier; the source's where left out.
        url: where the document stood.
    """

    text: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    prompt: str = "prompt"
    answer: str = "answer"
    licence: str | None = None
    url: str | None = "url"


class SourceParams(_Part):
    """One declared source.

    Attributes:
        id: name of the source in ids, ledger and documents.
        kind: ``package`` (``package``, ``version``), ``jsonl``, ``parquet``, ``warc`` (``path``: a
            file, or a folder whose files are read in order), ``hub`` (``repo``, ``revision`` as a
            commit of 40 hex digits, ``split``, and ``config`` where the data set has several).
        licence: SPDX identifier; a source without one is refused.
        role: what its documents are used for; ``eval`` is held against all others and used for
            nothing else.
        fields: where its rows name things differently.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    kind: Kind
    package: str | None = None
    version: str | None = None
    path: str | None = None
    repo: str | None = None
    revision: str | None = None
    split: str | None = None
    config: str | None = None
    fields: FieldParams = FieldParams()
    licence: str
    modality: Literal["text"]
    role: Role
    publisher: str = Field(min_length=1)
    collected_from: str = Field(pattern=r"^\d{4}(-\d{2}){0,2}$")
    collected_to: str = Field(pattern=r"^\d{4}(-\d{2}){0,2}$")

    @field_validator("licence")
    @classmethod
    def _is_spdx(cls, value: str) -> str:
        if not is_spdx(value):
            raise ValueError("a source needs a licence, as an SPDX identifier")
        return value

    @field_validator("revision")
    @classmethod
    def _is_pinned(cls, value: str | None) -> str | None:
        if value is not None and _COMMIT.fullmatch(value) is None:
            raise ValueError(
                "must be a commit of 40 hex digits; a branch or tag may move, so paste the commit "
                "that it stands for"
            )
        return value

    @model_validator(mode="after")
    def _has_location(self) -> SourceParams:
        missing = [name for name in _NEEDED[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"a {self.kind} source needs {' and '.join(missing)}")
        allowed = {*_NEEDED[self.kind], *(["config"] if self.kind == "hub" else [])}
        foreign = [name for name in _LOCATION if getattr(self, name) and name not in allowed]
        if foreign:
            raise ValueError(f"a {self.kind} source has no {' and no '.join(foreign)}")
        if self.kind == "package" and self.package not in {ICD10CM, PYDOC}:
            raise ValueError(f"no reader for this package; there are {ICD10CM} and {PYDOC}")
        return self


def is_spdx(value: str) -> bool:
    """Whether ``value`` is one SPDX identifier, or several joined by AND, OR and WITH."""
    return _LICENCE.fullmatch(value) is not None


class OwnSetParams(_Part):
    """A golden set of one's own: JSON lines, each with ``id``, ``prompt`` and ``answer``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,39}$")
    path: str = Field(min_length=1)


class GoldenParams(_Part):
    """Sizes of the golden set's cells; below 50 items no gate can pass.

    Attributes:
        n: codes held out of categories that are trained.
        unseen: categories held out whole, a code of each; as many as there are, at most a fifth.
        seen: trained codes that are asked for in the golden set's words.
        own: further sets, measured as ``own_NAME``.
    """

    n: int = Field(ge=4)
    unseen: int = Field(default=100, ge=0)
    seen: int = Field(default=100, ge=0)
    own: tuple[OwnSetParams, ...] = Field(default=(), strict=False)

    @field_validator("own")
    @classmethod
    def _names_differ(cls, value: tuple[OwnSetParams, ...]) -> tuple[OwnSetParams, ...]:
        names = [one.name for one in value]
        if len(set(names)) != len(names):
            raise ValueError("two golden sets have the same name")
        return value


class DecontaminationParams(_Part):
    """N-gram length in words, and the share of an item's n-grams that makes a hit."""

    ngram: int = Field(default=13, ge=5)
    max_overlap: float = Field(default=0.5, gt=0, le=1)


class QualityParams(_Part):
    """Thresholds of the quality filter, in words and shares of words or lines.

    The domain's documents are one line long, so the usual limits (50 words at least) would drop
    them all; the rules are those of Gopher, the limits are ours.
    """

    min_words: int = Field(default=2, ge=1)
    max_words: int = Field(default=20_000, ge=1)
    max_mean_word_length: float = Field(default=15.0, gt=1)
    min_alphabetic_words: float = Field(default=0.4, ge=0, le=1)
    max_duplicate_lines: float = Field(default=0.5, ge=0, le=1)


FilteredRole = Literal["domain", "replay"]


class _Filter(_Part):
    """A filter for running text.

    Attributes:
        roles: whose documents it looks at; the others pass.
    """

    roles: tuple[FilteredRole, ...] = Field(
        default=("domain", "replay"), min_length=1, strict=False
    )


class LicenceParams(_Part):
    """SPDX identifiers whose documents are kept; of ``A OR B`` one is enough, of ``AND`` all."""

    allow: tuple[str, ...] = Field(min_length=1, strict=False)

    @field_validator("allow")
    @classmethod
    def _are_identifiers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if re.fullmatch(r"[A-Za-z0-9.+-]+", entry) is None:
                raise ValueError(f"{entry!r} is no SPDX identifier")
        return value


class LanguageParams(_Filter):
    """Languages to keep (ISO 639), and the least probability that a text is in one of them."""

    keep: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] = Field(
        min_length=1, strict=False
    )
    min_score: float = Field(default=0.65, ge=0, le=1)


class GopherParams(_Filter):
    """Quality and repetition rules of Rae et al. 2021, appendix A.1.1, with their limits.

    ``max_repetition`` scales the paper's limits on repeated lines, paragraphs and n-grams;
    ``None`` leaves them unasked.
    """

    min_words: int = Field(default=50, ge=1)
    max_words: int = Field(default=100_000, ge=1)
    min_mean_word_length: float = Field(default=3, ge=0)
    max_mean_word_length: float = Field(default=10, ge=1)
    min_alphabetic_words: float = Field(default=0.8, ge=0, le=1)
    min_stop_words: int = Field(default=2, ge=0)
    max_repetition: float | None = Field(default=1.0, gt=0)


class C4Params(_Filter):
    """Rules of Raffel et al. 2020, section 2.2: lines that are no sentences go, then the rest.

    Texts are changed by it: only the lines that pass are kept.
    """

    min_sentences: int = Field(default=5, ge=1)
    min_words_per_line: int = Field(default=3, ge=1)
    terminal_punctuation: bool = True
    drop_curly_bracket: bool = True


class FineWebParams(_Filter):
    """Rules of Penedo et al. 2024 (FineWeb), section 3.4, with their limits."""

    min_punctuated_lines: float = Field(default=0.12, ge=0, le=1)
    max_short_lines: float = Field(default=0.67, ge=0, le=1)
    short_line_length: int = Field(default=30, ge=1)
    max_duplicate_characters: float = Field(default=0.01, ge=0, le=1)
    max_newlines_per_word: float = Field(default=0.3, ge=0)


PiiKind = Literal["email", "ip", "phone", "card", "iban"]


class PiiParams(_Part):
    """What is replaced by a placeholder, in every role."""

    kinds: tuple[PiiKind, ...] = Field(
        default=("email", "ip", "phone", "card", "iban"), min_length=1, strict=False
    )


class NearCopyParams(_Filter):
    """MinHash: n-gram length in words; buckets and hashes in each set the threshold.

    Texts that share a share s of their n-grams meet with probability 1 - (1 - s^hashes)^buckets:
    the defaults find half the pairs at 0.72, and 92 % at 0.8.
    """

    ngram: int = Field(default=5, ge=1)
    buckets: int = Field(default=14, ge=1)
    hashes_per_bucket: int = Field(default=8, ge=1)


class ExecutorParams(_Part):
    """Where datatrove runs; outs do not depend on it.

    Attributes:
        kind: ``local`` processes, ``slurm`` job arrays, or tasks of a ``ray`` cluster.
        tasks: how many run at the same time.
        shard_mib: input of one task, which bounds its memory.
        partition, time_limit: of the Slurm jobs.
        environment: shell line that makes ``python`` the right one on a Slurm node.
        cpus_per_task, mem_per_cpu_gib: what a task asks for, of Slurm and Ray.
        address: of the Ray cluster.
    """

    kind: Literal["local", "slurm", "ray"] = "local"
    tasks: int = Field(default=1, ge=1)
    shard_mib: float = Field(default=16.0, gt=0, le=4096)
    partition: str | None = None
    time_limit: str = Field(default="08:00:00", pattern=r"^(\d+-)?\d{1,2}(:\d{2}){1,2}$")
    environment: str = ""
    cpus_per_task: int = Field(default=1, ge=1)
    mem_per_cpu_gib: int = Field(default=4, ge=1)
    address: str = "auto"

    @model_validator(mode="after")
    def _has_partition(self) -> ExecutorParams:
        if self.kind == "slurm" and not self.partition:
            raise ValueError("slurm needs a partition")
        return self


class CurateParams(StageParams):
    """Section ``curate`` of the params.

    Attributes:
        chapters: first letters of the codes to use, as ``K`` or ``A-F``; all when left out.
        max_categories: three-character categories to use, spread evenly over the chapters.
        max_documents: codes to use, spread evenly over those categories.
        instruction_rows: title-to-code rows to write, spread evenly over those categories.
        letter_rows: how many of them get a second row that asks for the code's letter alone.
        max_bad_fraction: share of malformed rows of one source up to which the run goes on.
        licences, language, quality, gopher, c4, fineweb, pii, near_copies: filters, in the order
            in which a text meets them; each is off when left out or null, but ``quality``.
        drop_samples: dropped documents kept per filter, for inspection.
    """

    sources: tuple[SourceParams, ...] = Field(min_length=1, strict=False)
    chapters: tuple[str, ...] | None = Field(default=None, strict=False)
    max_categories: int = Field(default=220, ge=4)
    max_documents: int = Field(default=3000, ge=16)
    instruction_rows: int = Field(default=4000, ge=1)
    letter_rows: int = Field(default=0, ge=0)
    max_bad_fraction: float = Field(default=0.0, ge=0, le=1)
    golden: GoldenParams
    licences: LicenceParams | None = None
    language: LanguageParams | None = None
    quality: QualityParams | None = QualityParams()
    gopher: GopherParams | None = None
    c4: C4Params | None = None
    fineweb: FineWebParams | None = None
    pii: PiiParams | None = None
    near_copies: NearCopyParams | None = None
    decontamination: DecontaminationParams = DecontaminationParams()
    executor: ExecutorParams = ExecutorParams()
    drop_samples: int = Field(default=20, ge=0)

    @field_validator("chapters")
    @classmethod
    def _letters(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for entry in value or ():
            if re.fullmatch(r"[A-Z](?:-[A-Z])?", entry) is None or entry[0] > entry[-1]:
                raise ValueError(f"{entry!r} is neither a letter nor a range like A-F")
        return value

    @model_validator(mode="after")
    def _ids_differ(self) -> CurateParams:
        ids = [source.id for source in self.sources]
        if len(set(ids)) != len(ids):
            raise ValueError("two sources have the same id")
        return self
