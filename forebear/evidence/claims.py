"""What SLSA provenance claims, as a graph of its own: subjects, and what they were made of.

Reads statements alone, so that the walk from a checkpoint to its sources needs no link. Believes
nothing: the signatures are for others to check, and claims that break the form are refused.

Rests on: provenance page, section 7, "Walk from statements alone".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from forebear.errors import FormatError
from forebear.evidence.graph import Artifact
from forebear.formats.layout import LINKS
from forebear.formats.link import TREE
from forebear.formats.statement import Statement

URI_GIT = "git+workspace"


@dataclass(frozen=True, slots=True)
class Claim:
    """One provenance statement.

    Attributes:
        path: of its bundle.
        stage: that made the subjects.
        subjects: name and digest of each.
        read: deps by name; links that the stage read as files are among them.
        upstream: digest of the link of each stage that made a dep, by the link's name.
        ledgers: ledger roots that the links upstream are annotated with, by the link's name.
        commit: git commit, None when there is none.
        invocation: digest of the stage's own link.
    """

    path: str
    stage: str
    subjects: Mapping[str, str]
    read: Mapping[str, str]
    upstream: Mapping[str, str]
    ledgers: Mapping[str, Mapping[str, str]]
    commit: str | None
    invocation: str


@dataclass(slots=True)
class ClaimWalk:
    """What was met on the way from some artifacts to the sources.

    Attributes:
        edges: (stage, dep, digest, stage that made it; empty for a root of the walk's end).
        roots: artifacts that no statement is about.
        several: artifacts that more than one stage claims to have made.
        cycles: stages that need their own products, each as the names along the way.
    """

    edges: set[tuple[str, str, str, str]] = field(default_factory=set)
    roots: set[Artifact] = field(default_factory=set)
    several: dict[Artifact, tuple[str, ...]] = field(default_factory=dict)
    cycles: list[tuple[str, ...]] = field(default_factory=list)


def parse_claim(statement: Statement, *, where: str) -> Claim:
    """What a statement with the predicate type of SLSA provenance claims.

    Raises:
        FormatError: a field is missing, of the wrong type or said twice.
    """
    found = _Dependencies()
    try:
        build = statement.predicate["buildDefinition"]
        stage = _text(build["externalParameters"]["stage"])
        invocation = _text(statement.predicate["runDetails"]["metadata"]["invocationId"])
        for entry in build["resolvedDependencies"]:
            found.add(entry)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"is no provenance of ours: {error!a}", where) from error
    return Claim(
        path=where,
        stage=stage,
        subjects=dict(statement.subjects),
        read=found.read,
        upstream=found.upstream,
        ledgers=found.ledgers,
        commit=found.commit,
        invocation=invocation,
    )


class _Dependencies:
    """``resolvedDependencies``, sorted by kind."""

    def __init__(self) -> None:
        self.read: dict[str, str] = {}
        self.upstream: dict[str, str] = {}
        self.ledgers: dict[str, Mapping[str, str]] = {}
        self.commit: str | None = None

    def add(self, entry: Any) -> None:
        if "uri" in entry:
            if (
                entry["uri"] != URI_GIT
                or self.commit is not None
                or entry.keys() != {"uri", "digest"}
            ):
                raise ValueError("the only address may be the commit's, once")
            self.commit = str(entry["digest"]["gitCommit"])
            return
        target = self.upstream if "annotations" in entry else self.read
        name, digest = _descriptor(entry)
        if name in target:
            raise ValueError(f"{name!a} stands there twice")
        target[name] = digest
        if "annotations" in entry:
            self.ledgers[name] = dict(map(_descriptor, entry["annotations"].get("ledger", ())))


def _descriptor(entry: Any) -> Artifact:
    if entry["digest"].keys() != {"sha256"}:
        raise ValueError("each dependency has one digest, sha256")
    return _text(entry["name"]), _text(entry["digest"]["sha256"])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


class Claims:
    """All provenance of a release, indexed by subject.

    Args:
        claims: in any order; several about one stage add up.
    """

    def __init__(self, claims: Iterable[Claim]) -> None:
        self.by_stage: dict[str, list[Claim]] = {}
        self._made: dict[Artifact, tuple[str, ...]] = {}
        for claim in claims:
            self.by_stage.setdefault(claim.stage, []).append(claim)
            for artifact in claim.subjects.items():
                made = self._made.get(artifact, ())
                if claim.stage not in made:
                    self._made[artifact] = (*made, claim.stage)

    def walk(self, starts: Iterable[Artifact]) -> ClaimWalk:
        """Follows every dep to the statements about it, until none is left.

        A stage's deps are those of all its statements. A loop, not a recursion.
        """
        walk = ClaimWalk()
        on_way: dict[str, None] = {}
        done: set[str] = set()
        waiting: list[tuple[str, Iterator[str]]] = []

        def enter(stages: Iterable[str]) -> None:
            waiting.append(("", iter(tuple(stages))))

        for start in starts:
            enter(self._makers(start, walk))
            while waiting:
                stage, rest = waiting[-1]
                following = next(rest, None)
                if following is None:
                    waiting.pop()
                    on_way.pop(stage, None)
                    done.add(stage)
                elif following in on_way:
                    names = list(on_way)
                    walk.cycles.append((*names[names.index(following) :], following))
                elif following not in done:
                    on_way[following] = None
                    waiting.append((following, iter(self._expand(following, walk))))
        return walk

    def _makers(self, artifact: Artifact, walk: ClaimWalk) -> tuple[str, ...]:
        made = self._made.get(artifact, ())
        if not made:
            walk.roots.add(artifact)
        elif len(made) > 1:
            walk.several[artifact] = made
        return made

    def _expand(self, stage: str, walk: ClaimWalk) -> list[str]:
        """Stages that made what this one read; its edges are noted."""
        found: dict[str, None] = {}
        for claim in self.by_stage[stage]:
            for artifact in claim.read.items():
                if artifact[0].startswith(LINKS):
                    continue  # no edge: a forced re-run changes a link, though not its products
                if self._spans(artifact, claim):
                    walk.edges.add((stage, *artifact, ""))
                    continue
                made = self._makers(artifact, walk)
                found.update(dict.fromkeys(made))
                walk.edges.update((stage, *artifact, name) for name in made or ("",))
        return list(found)

    def _spans(self, artifact: Artifact, claim: Claim) -> bool:
        """Whether this is a folder over several outs: no subject, but each of its files is one."""
        name = artifact[0]
        if not name.startswith(TREE) or artifact in self._made:
            return False
        start = f"{name.removeprefix(TREE)}/"
        inside = [one for one in claim.read.items() if one[0].startswith(start)]
        return any(one in self._made for one in inside)
