"""The graph of links: which stage made what, from which files, and what was made of it.

Edges are formed on (path, digest), never on a bare digest: empty and ``{}`` files are equal
everywhere. An index is built once; every walk is a loop, so that ten thousand stages in a row are
no deeper than one. Verifies no signature.

Rests on: provenance page, sections 3 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from forebear.formats.layout import LINKS, SOURCE
from forebear.formats.link import CMD, PARAMS, TREE, Link

if TYPE_CHECKING:
    from forebear.evidence.store import Evidence

Artifact = tuple[str, str]
Direction = Literal["back", "forward"]
Origin = Literal["stage", "source", "link", "parts", "unknown"]

_PREFIX = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact met on a walk.

    Attributes:
        path: artifact name, ``tree:`` names among them; empty for a stage that wrote nothing.
        digest: SHA-256.
        depth: steps from where the walk began.
        parent: index of the row that led here; None where the walk began.
        via: stage between this row and its parent; empty where the walk began.
        origin: ``stage``, ``source``, ``link`` (of a stage), ``parts`` (a folder that spans several
            outs; its files follow by themselves) or ``unknown``.
        made_by: stages with it among their products.
        again: what lies beyond is shown further up already.
        broken: plain words when ``via`` read something else here than its producer made.
    """

    path: str
    digest: str
    depth: int
    parent: int | None
    via: str
    origin: Origin
    made_by: tuple[str, ...]
    again: bool = False
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Walk:
    """Everything that was met, each row after the one that led to it.

    Attributes:
        direction: ``back`` to the sources, or ``forward`` to all that was made of it.
        rows: depth first, sorted by name at each step.
        broken: every broken edge that was met, as (stage, path, plain words), the first one first.
    """

    direction: Direction
    rows: tuple[Row, ...]
    broken: tuple[tuple[str, str, str], ...]

    @property
    def unknown(self) -> tuple[Row, ...]:
        """Rows of which no link tells the origin."""
        return tuple(row for row in self.rows if row.origin == "unknown")


class Graph:
    """Who made and who read what, over a set of links.

    Args:
        links: by stage; the ``source`` step is one of them.
    """

    def __init__(self, links: Mapping[str, Link]) -> None:
        self.links = {name: links[name] for name in sorted(links)}

    def producers(self, path: str, digest: str) -> tuple[str, ...]:
        """Stages with this artifact among their products; the source step counts."""
        return tuple(
            name for name in self._made.get(path, ()) if self.links[name].products[path] == digest
        )

    def consumers(self, path: str, digest: str) -> tuple[str, ...]:
        """Stages with this artifact among their materials."""
        return tuple(
            name for name in self._read.get(path, ()) if self.links[name].materials[path] == digest
        )

    def broken_edges(self, stage: str) -> Iterator[tuple[str, str]]:
        """Materials of a stage that are not what their producer made, as (path, plain words)."""
        for path, digest in sorted(self.links[stage].materials.items()):
            made_by = [name for name in self._made.get(path, ()) if name != stage]
            if made_by and all(self.links[name].products[path] != digest for name in made_by):
                yield path, _words(stage, made_by[0], path)

    def find(self, wanted: str) -> tuple[Artifact, ...]:
        """Artifacts that ``wanted`` may mean: a name, a folder, a digest or 12 digits of one."""
        found: set[Artifact] = set()
        as_digest = _PREFIX.fullmatch(wanted) is not None
        for link in self.links.values():
            for artifacts in (link.materials, link.products):
                for name in (wanted, f"{TREE}{wanted}"):
                    if name in artifacts:
                        found.add((name, artifacts[name]))
                if as_digest:
                    found.update(one for one in artifacts.items() if one[1].startswith(wanted))
        return tuple(sorted(found))

    def inputs(self, stage: str) -> tuple[Artifact, ...]:
        """What a stage read, without command and params, and without the files of a known tree."""
        materials = self.links[stage].materials
        known = {name for name, digest in materials.items()
                 if name.startswith(TREE) and self.producers(name, digest)}  # fmt: skip
        return tuple(
            (name, materials[name])
            for name in sorted(materials)
            if not name.startswith((CMD, PARAMS)) and not _inside(name, known)
        )

    def outputs(self, stage: str) -> tuple[Artifact, ...]:
        """What a stage wrote, without the files of its trees."""
        products = self.links[stage].products
        trees = {name for name in products if name.startswith(TREE)}
        return tuple(
            (name, products[name]) for name in sorted(products) if not _inside(name, trees)
        )

    def back(self, starts: Iterable[Artifact]) -> Walk:
        """Walk from these artifacts to everything that they were made of."""
        rows: list[Row] = []
        broken: list[tuple[str, str, str]] = []
        seen: set[str] = set()
        words: dict[str, dict[str, str]] = {}
        waiting: list[tuple[Artifact, int, int | None, str]] = [
            (one, 0, None, "") for one in reversed(tuple(starts))
        ]
        while waiting:
            (path, digest), depth, parent, via = waiting.pop()
            made_by = self.producers(path, digest)
            stages = [name for name in made_by if name != SOURCE]
            fresh = [name for name in stages if name not in seen]
            rows.append(
                Row(path, digest, depth, parent, via, self._origin(path, via, made_by), made_by,
                    again=bool(stages) and not fresh, broken=words.get(via, {}).get(path, ""))
            )  # fmt: skip
            here = len(rows) - 1
            seen.update(fresh)
            for name in reversed(fresh):
                words[name] = dict(self.broken_edges(name))
                waiting += [(one, depth + 1, here, name) for one in reversed(self.inputs(name))]
            for name in fresh:
                broken += [(name, path, text) for path, text in words[name].items()]
        return Walk("back", tuple(rows), tuple(broken))

    def forward(self, starts: Iterable[Artifact]) -> Walk:
        """Walk from these artifacts to everything that was made of them."""
        rows: list[Row] = []
        seen: set[str] = set()
        waiting: list[tuple[Artifact, int, int | None, str]] = [
            (one, 0, None, "") for one in reversed(tuple(starts))
        ]
        while waiting:
            (path, digest), depth, parent, via = waiting.pop()
            readers = self._readers(path, digest, via) if path else ()
            fresh = [name for name in readers if name not in seen]
            made_by = (via,) if via else self.producers(path, digest)
            origin: Origin = "stage" if via else self._origin(path, via, made_by)
            rows.append(
                Row(path, digest, depth, parent, via, origin, made_by,
                    again=bool(readers) and not fresh)
            )  # fmt: skip
            here = len(rows) - 1
            seen.update(fresh)
            for name in reversed(fresh):
                outputs = self.outputs(name) or (("", ""),)
                waiting += [(one, depth + 1, here, name) for one in reversed(outputs)]
        return Walk("forward", tuple(rows), ())

    @cached_property
    def _made(self) -> dict[str, tuple[str, ...]]:
        """Stages by the names of their products. One producer is the rule: its tuple is shared."""
        made: dict[str, tuple[str, ...]] = {}
        for name, link in self.links.items():
            alone = (name,)
            for path in link.products:
                made[path] = (*made[path], name) if path in made else alone
        return made

    @cached_property
    def _read(self) -> dict[str, list[str]]:
        """Stages by the names of their materials."""
        read: dict[str, list[str]] = {}
        for name, link in self.links.items():
            for path in link.materials:
                read.setdefault(path, []).append(name)
        return read

    def _origin(self, path: str, via: str, made_by: tuple[str, ...]) -> Origin:
        if made_by:
            return "source" if made_by == (SOURCE,) else "stage"
        if path.startswith(LINKS):
            return "link"
        materials = self.links[via].materials if via else {}
        spans = path.startswith(TREE) and path not in self._made
        if spans and any(_inside(name, {path}) for name in materials):
            return "parts"
        return "unknown"

    def _readers(self, path: str, digest: str, made_by: str) -> tuple[str, ...]:
        """Stages that read the artifact, or a single file of it when it is a tree."""
        found = dict.fromkeys(self.consumers(path, digest))
        if path.startswith(TREE):
            for name, inner in self._files(path, digest, made_by):
                found.update(dict.fromkeys(self.consumers(name, inner)))
        return tuple(sorted(found))

    def _files(self, tree: str, digest: str, made_by: str) -> Iterator[Artifact]:
        """Files of a tree, as the link that names it lists them."""
        start = f"{tree.removeprefix(TREE)}/"
        name = made_by or next(iter(self.producers(tree, digest)), "")
        if name:
            artifacts = self.links[name].products
        else:
            reader = next(iter(self.consumers(tree, digest)), "")
            artifacts = self.links[reader].materials if reader else {}
        return (one for one in artifacts.items() if one[0].startswith(start))


def broken_edges(evidence: Evidence, stage: str) -> Iterator[tuple[str, str]]:
    """As :meth:`Graph.broken_edges`, for the links of some evidence."""
    return evidence.graph.broken_edges(stage)


def _inside(name: str, trees: set[str]) -> bool:
    """Whether a file lies in one of these trees; looks at its own folders only."""
    at = name.rfind("/")
    while at > 0:
        if f"{TREE}{name[:at]}" in trees:
            return True
        at = name.rfind("/", 0, at)
    return False


def _words(stage: str, producer: str, path: str) -> str:
    if path.startswith(CMD):
        return f"stage {stage!r} ran another command than the owner attested"
    if path.startswith(PARAMS):
        return f"stage {stage!r} ran with other params than the owner attested"
    if producer == SOURCE:
        return f"stage {stage!r} read a {path} that is not the source the owner attested"
    return f"stage {stage!r} read a {path} that is not the one that stage {producer!r} produced"
