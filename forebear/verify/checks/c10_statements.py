"""C10: the statements tell the same story as the links, down to the sources.

Starts at each checkpoint's tree and follows the statements alone; what they lead to must be what
the links lead to, and must end at what the owner declared as sources. Cycles, unknown origins and
several producers are findings. Whether the statements are signed is C8's affair.

Rests on: provenance page, section 7, "Walk from statements alone".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from forebear.errors import FormatError
from forebear.evidence.claims import Claim, Claims, ClaimWalk, parse_claim
from forebear.evidence.graph import Artifact
from forebear.evidence.names import bundle_role, is_ledger_root, stage_bundle
from forebear.evidence.store import Evidence, SignedLink
from forebear.formats.layout import ATTEST, LINKS, SOURCE
from forebear.formats.link import CMD, PARAMS, TREE
from forebear.formats.statement import SLSA_PROVENANCE
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Verdict, counted, failed


def check_statements(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Each statement against its stage's link; then both graphs, from the checkpoints down."""
    del policy
    findings: list[Finding] = []
    claims: list[Claim] = []
    for path in evidence.bundles:
        try:
            claims += _claims(evidence, path)
        except FormatError as error:
            findings.append(Finding(path, error.what))
    known = Claims(claims)
    for claim in claims:
        findings += _check_claim(evidence, claim)
    findings += _check_coverage(evidence, known)
    starts = _starts(evidence)
    walk = known.walk(starts)
    findings += _check_walk(evidence, walk)
    findings += _compare(walk, _walk_links(evidence, starts))
    note = (
        f"from {counted(len(starts), 'checkpoint')} {counted(len(claims), 'statement')} lead to "
        f"{counted(len(walk.roots), 'source artifact')}, as the links do"
    )
    return failed(findings, note)


def _claims(evidence: Evidence, path: str) -> Iterator[Claim]:
    """The claim in a bundle that holds provenance; nothing for any other."""
    statement = evidence.statement(path)
    if statement.predicate_type == SLSA_PROVENANCE:
        yield parse_claim(statement, where=path)


def _check_claim(evidence: Evidence, claim: Claim) -> Iterator[Finding]:
    """One statement against the link of the stage that it names."""
    role = bundle_role(claim.path)
    stage = role.stage if role else ""
    if role and role.out:
        producer = evidence.pipeline.producer(role.out)
        stage = producer.name if producer else ""
    if claim.stage != stage:
        yield Finding(claim.path, f"is about stage {claim.stage!r}, where {stage!r} belongs")
    signed = evidence.links.get(claim.stage)
    if signed is None:
        yield Finding(claim.path, f"is about stage {claim.stage!r}, of which no link is here")
        return
    products = signed.link.products
    for name in sorted(claim.subjects):
        if products.get(name) != claim.subjects[name]:
            yield Finding(claim.path, f"names {name}, which stage {claim.stage!r} did not produce")
    if claim.invocation != signed.digest:
        yield Finding(claim.path, f"is about another run of stage {claim.stage!r}")
    yield from _check_dependencies(evidence, claim, signed)


def _check_dependencies(evidence: Evidence, claim: Claim, signed: SignedLink) -> Iterator[Finding]:
    stage = claim.stage
    read = {name: digest for name, digest in signed.link.materials.items()
            if not name.startswith((CMD, PARAMS))}  # fmt: skip
    for name in _differing(read, claim.read):
        if name not in claim.read:
            text = f"leaves out {name}, which stage {stage!r} read"
        elif name not in read:
            text = f"names {name}, which stage {stage!r} did not read"
        else:
            text = f"names another {name} than stage {stage!r} read"
        yield Finding(claim.path, text)
    upstream = _upstream(evidence, signed)
    for name in _differing({one.path: one.digest for one in upstream}, claim.upstream):
        yield Finding(claim.path, f"does not name the link upstream as it is here: {name}")
    for one in upstream:
        roots = {name: digest for name, digest in one.link.products.items()
                 if is_ledger_root(name)}  # fmt: skip
        if one.path in claim.ledgers and claim.ledgers[one.path] != roots:
            yield Finding(claim.path, f"names another ledger than stage {one.stage!r} wrote")
    record = signed.link.byproducts.get("forebear")
    git = record.get("git") if isinstance(record, dict) else None
    commit = git.get("commit") if isinstance(git, dict) else None
    if claim.commit != commit:
        yield Finding(claim.path, f"names another commit than the link of stage {stage!r}")


def _upstream(evidence: Evidence, signed: SignedLink) -> list[SignedLink]:
    """Links of the stages that made what this one read; the owner's own step is none."""
    graph = evidence.graph
    names = {
        name
        for artifact in signed.link.materials.items()
        for name in graph.producers(*artifact)
        if name not in {SOURCE, signed.stage}
    }
    return [evidence.links[name] for name in sorted(names)]


def _check_coverage(evidence: Evidence, claims: Claims) -> Iterator[Finding]:
    """Every product of every stage is the subject of a statement about that stage."""
    for name, signed in evidence.links.items():
        if name in {SOURCE, ATTEST}:
            continue
        covered: set[str] = set()
        for claim in claims.by_stage.get(name, ()):
            covered |= claim.subjects.keys()
        for path in sorted(signed.link.products.keys() - covered):
            yield Finding(stage_bundle(name), f"no statement says that stage {name!r} made {path}")


def _starts(evidence: Evidence) -> list[Artifact]:
    """What is shipped and every checkpoint, as its stage's link names it."""
    shipped = {out.path for _, out in evidence.shipped}
    found: list[Artifact] = []
    for stage in evidence.pipeline.stages:
        signed = evidence.links.get(stage.name)
        if signed is None or stage.name == ATTEST:
            continue
        for out in stage.outs:
            name = f"{TREE}{out.path}" if out.is_dir else out.path
            if (out.path in shipped or out.kind == "model") and name in signed.link.products:
                found.append((name, signed.link.products[name]))
    return found


def _check_walk(evidence: Evidence, walk: ClaimWalk) -> Iterator[Finding]:
    """The way from statements alone: to sources, to each by one road, and never round."""
    source = evidence.links.get(SOURCE)
    sources: Mapping[str, str] = source.link.products if source else {}
    for name, digest in sorted(walk.roots):
        if sources.get(name) != digest:
            yield Finding(name, f"{name} has no known origin: no statement is about it, and it is "
                          "no source that the owner attested")  # fmt: skip
    for (name, _), stages in sorted(walk.several.items()):
        makers = " and ".join(repr(stage) for stage in stages)
        yield Finding(name, f"{name} is claimed by more than one stage: {makers}")
    for names in walk.cycles:
        yield Finding(names[0], f"was made of its own products: {' from '.join(names)}")


def _walk_links(evidence: Evidence, starts: list[Artifact]) -> set[tuple[str, str, str, str]]:
    """Edges that the links lead to, in the form of :attr:`ClaimWalk.edges`."""
    graph = evidence.graph
    edges: set[tuple[str, str, str, str]] = set()
    seen: set[str] = set()
    waiting = [name for start in starts for name in graph.producers(*start)]
    while waiting:
        stage = waiting.pop()
        if stage in seen or stage == SOURCE:
            continue
        seen.add(stage)
        for name, digest in graph.links[stage].materials.items():
            if name.startswith((CMD, PARAMS, LINKS)):
                continue
            made_by = [one for one in graph.producers(name, digest) if one != SOURCE]
            edges.update((stage, name, digest, one) for one in made_by or ("",))
            waiting += made_by
    return edges


def _compare(walk: ClaimWalk, links: set[tuple[str, str, str, str]]) -> Iterator[Finding]:
    for stage, name, _, made_by in sorted(links - walk.edges):
        origin = f"made by {made_by!r}" if made_by else "a source"
        yield Finding(
            name, f"the links say that {stage!r} read {name}, {origin}; the statements do not"
        )
    for stage, name, _, made_by in sorted(walk.edges - links):
        origin = f"made by {made_by!r}" if made_by else "a source"
        yield Finding(
            name, f"the statements say that {stage!r} read {name}, {origin}; the links do not"
        )


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
