"""Section ``curate`` of the params: sources, selection, golden set, filters.

Imports nothing heavy, so that all sections can be validated at once.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from forebear.train.stage import StageParams

ICD10CM = "simple-icd-10-cm"
PYDOC = "pydoc_data.topics"

Role = Literal["domain", "replay", "instruction"]

# SPDX: one identifier, or identifiers joined by operators.
_LICENCE = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SourceParams(_Part):
    """One declared source.

    Attributes:
        id: name of the source in ids, ledger and documents.
        kind: ``package`` (``package`` and ``version`` are given) or ``jsonl`` (``path`` is given).
        licence: SPDX identifier; a source without one is refused.
        role: what its documents are used for.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    kind: Literal["package", "jsonl"]
    package: str | None = None
    version: str | None = None
    path: str | None = None
    licence: str
    modality: Literal["text"]
    role: Role
    publisher: str = Field(min_length=1)
    collected_from: str = Field(pattern=r"^\d{4}(-\d{2}){0,2}$")
    collected_to: str = Field(pattern=r"^\d{4}(-\d{2}){0,2}$")

    @field_validator("licence")
    @classmethod
    def _is_spdx(cls, value: str) -> str:
        if _LICENCE.fullmatch(value) is None:
            raise ValueError("a source needs a licence, as an SPDX identifier")
        return value

    @model_validator(mode="after")
    def _has_location(self) -> SourceParams:
        if self.kind == "package" and not (self.package and self.version):
            raise ValueError("a package source needs package and version")
        if self.kind == "package" and self.package not in {ICD10CM, PYDOC}:
            raise ValueError(f"no reader for this package; there are {ICD10CM} and {PYDOC}")
        if self.kind == "jsonl" and not self.path:
            raise ValueError("a jsonl source needs path")
        return self


class GoldenParams(_Part):
    """Size of the golden set; below 50 items no gate can pass."""

    n: int = Field(ge=4)


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


class CurateParams(StageParams):
    """Section ``curate`` of the params.

    Attributes:
        chapters: first letters of the codes to use, as ``K`` or ``A-F``; all when left out.
        max_categories: three-character categories to use, spread evenly over the chapters.
        max_documents: codes to use, spread evenly over those categories.
        instruction_rows: title-to-code rows to write, spread evenly over those categories.
        letter_rows: how many of them get a second row that asks for the code's letter alone.
        max_bad_fraction: share of malformed rows of one file up to which the run goes on.
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
    quality: QualityParams = QualityParams()
    decontamination: DecontaminationParams = DecontaminationParams()
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
