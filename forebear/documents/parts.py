"""The parts that both bills list: their shapes and their references.

Source: compliance page, section 8, D8 and D9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from forebear.documents.reading import Cells

RELEASE, FINAL = "release", "model"
Role = Literal["final", "base", "checkpoint", "teacher", "judge"]
Lines = tuple[tuple[str, str], ...]
# facts and tables that both bills show
SHOWN = {
    "model.name", "model.version", "model.digest", "model.licence", "model.licence_url",
    "model.params_total", "model.params_active", "model.context_length", "model.vocab_size",
    "model.architecture", "model.architecture_family", "model.release_date", "model.ancestors",
    "model.checkpoints", "model.files", "provider.legal_name", "provider.contact", "use.users",
    "use.intended", "use.out_of_scope", "use.summary", "use.software", "limit.known",
    "limit.found", "data.sets", "data.files", "data.selection", "eval.results", "eval.judges",
    "train.stages", "train.flop_modification", "train.flop_modification_cumulative",
    "train.flop_base", "train.flop_cumulative", "train.forgetting",
    "train.energy_modification", "release.changes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a bill lists.

    Attributes:
        ref: its reference, the same in both bills; unique.
        digest: SHA-256 of the file, or of the manifest of the directory; None for what is remote.
        cells: the row it was read from.
        lines: what its figures rest on.
    """

    ref: str
    name: str
    version: str
    licence: str | None
    licence_url: str | None
    digest: str | None
    supplier: str | None
    url: str | None
    cells: Cells
    lines: Lines


@dataclass(frozen=True, slots=True)
class FilePart(Part):
    """A file of the final model; ``name`` is its path."""

    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DataSet(Part):
    """A data set.

    Attributes:
        trains: whether it was trained on; False for one that only tests.
        files: digests of the corpus files that hold it, by path.
        made_of: keys of the sets that a stage of this pipeline made it of.
    """

    trains: bool = True
    files: tuple[tuple[str, str], ...] = ()
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Library(Part):
    """A pinned library; a program of ours has no ``purl``."""

    purl: str = ""


@dataclass(frozen=True, slots=True)
class Model(Part):
    """A model.

    Attributes:
        remote: whether its files are nowhere in this release, so that it has no digest.
        parents: references of the models it was made from.
        sets: references of the data sets it was trained on.
        approach: how it was trained, in CycloneDX's words; None where that is unknown.
    """

    role: Role = "checkpoint"
    remote: bool = False
    parents: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    approach: str | None = None
    architecture: str | None = None
    family: str | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """All parts of a release.

    Attributes:
        undisclosed: one data set for each model whose training data are not told.
    """

    final: Model
    others: tuple[Model, ...]
    sets: tuple[DataSet, ...]
    undisclosed: tuple[DataSet, ...]
    libraries: tuple[Library, ...]
    files: tuple[FilePart, ...]

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model, the final one first."""
        return (self.final, *self.others)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part, files included."""
        return (*self.models, *self.sets, *self.undisclosed, *self.libraries, *self.files)


def reference(*words: str) -> str:
    """A reference made of these words; different words give different references."""
    return "/".join(quote(word, safe="-._~@:+") for word in words)
