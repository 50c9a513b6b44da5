"""The graph of links: which stage made what, from which files, back to the sources.

Edges are formed on (path, digest), never on a bare digest: empty and ``{}`` files are equal
everywhere. Verifies no signature.

Rests on: provenance page, sections 3 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from forebear.evidence.store import Evidence
from forebear.formats.layout import SOURCE
from forebear.formats.link import CMD, PARAMS, is_virtual


@dataclass
class Node:
    """One artifact and where it came from.

    Attributes:
        path: artifact name, ``tree:`` names among them.
        digest: SHA-256.
        producer: stage with it among its products, ``source``, or None when no link tells.
        materials: what that stage was made from; empty for a source and for what is shown above.
        again: the producer stands further up already.
    """

    path: str
    digest: str
    producer: str | None
    materials: list[Node] = field(default_factory=list)
    again: bool = False


def producers(evidence: Evidence, path: str, digest: str) -> list[str]:
    """Stages with this artifact among their products; the source step counts."""
    return [
        name for name, signed in evidence.links.items() if signed.link.products.get(path) == digest
    ]


def broken_edges(evidence: Evidence, stage: str) -> Iterator[tuple[str, str]]:
    """Materials of a stage that are not what their producer made, as (path, plain words)."""
    by_path: dict[str, str] = {}
    for name, signed in evidence.links.items():
        for path in signed.link.products:
            if name != stage:
                by_path[path] = name
    for path, digest in sorted(evidence.links[stage].link.materials.items()):
        producer = by_path.get(path)
        if producer is None:
            continue
        made = evidence.links[producer].link.products[path]
        if made != digest:
            yield path, _words(stage, producer, path)


def _words(stage: str, producer: str, path: str) -> str:
    if path.startswith(CMD):
        return f"stage {stage!r} ran another command than the owner attested"
    if path.startswith(PARAMS):
        return f"stage {stage!r} ran with other params than the owner attested"
    if producer == SOURCE:
        return f"stage {stage!r} read a {path} that is not the source the owner attested"
    return f"stage {stage!r} read a {path} that is not the one that stage {producer!r} produced"


def ancestors(evidence: Evidence, path: str, digest: str) -> Node:
    """The artifact with everything that it was made of, down to sources."""
    return _node(evidence, path, digest, seen=set())


def find(evidence: Evidence, wanted: str) -> list[tuple[str, str]]:
    """Artifacts, as (path, digest), that ``wanted`` may mean: a path, a folder, or a digest."""
    found: set[tuple[str, str]] = set()
    for signed in evidence.links.values():
        for path, digest in {**signed.link.materials, **signed.link.products}.items():
            if wanted in {path, digest} or path == f"tree:{wanted}":
                found.add((path, digest))
    return sorted(found)


def _node(evidence: Evidence, path: str, digest: str, seen: set[str]) -> Node:
    made_by = producers(evidence, path, digest)
    node = Node(path, digest, made_by[0] if made_by else None)
    if node.producer is None or node.producer == SOURCE:
        return node
    if node.producer in seen:
        node.again = True
        return node
    seen.add(node.producer)
    materials = evidence.links[node.producer].link.materials
    trees = tuple(
        f"{name.removeprefix('tree:')}/" for name in materials if name.startswith("tree:")
    )
    for name, hexed in sorted(materials.items()):
        # files of a listed tree are covered by its digest
        if name.startswith(trees) or (is_virtual(name) and not name.startswith("tree:")):
            continue
        node.materials.append(_node(evidence, name, hexed, seen))
    return node
