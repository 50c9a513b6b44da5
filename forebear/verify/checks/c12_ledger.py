"""C12: the ledger's rows are in order and complete: their counts and roots are those of root.json.

A ledger is a product ``…/ledger/root.json`` of any stage, its rows beside it. The root that counts
is the one in the stage's link; a copy on disk and a ledger statement must be that one. Where rows
are not here, a root is all there is, and the check says so: order then rests on whoever checked it
with the rows. Reads rows as a stream, never whole.

Rests on: provenance page, sections 9 and 11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from forebear.errors import ForebearError
from forebear.evidence import disk
from forebear.evidence.names import ledger_bundle
from forebear.evidence.store import MAX_METADATA_BYTES, Evidence
from forebear.formats import strictjson
from forebear.formats.statement import LEDGER
from forebear.ledger.outs import ledger_roots
from forebear.ledger.proof import Descriptor, parse_descriptor
from forebear.ledger.rowfile import ROOT_FILE, TREES, Tree, scan
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Failed, Finding, Passed, Unchecked, Verdict, counted


@dataclass
class _Looked:
    """What was found of all ledgers."""

    findings: list[Finding] = field(default_factory=list)
    root_only: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Recorded:
    """One ledger, as the link of its stage names it."""

    stage: str
    path: str
    digest: str
    products: Mapping[str, str]


def check_ledger(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Recomputes every ledger whose rows are here, and holds roots to the links."""
    del policy
    links = {name: signed.link for name, signed in evidence.links.items()}
    looked = _Looked()
    ledgers = [
        _Recorded(stage, path, digest, links[stage].products)
        for stage, path, digest in ledger_roots(links)
    ]
    for recorded in ledgers:
        _look(evidence, recorded, looked)
    if looked.findings:
        return Failed(tuple(looked.findings))
    if not ledgers:
        return Unchecked("no stage of this pipeline keeps a ledger (a product …/ledger/root.json)")
    if looked.root_only:
        return Unchecked("; ".join([*looked.root_only, *looked.notes]))
    return Passed("; ".join(looked.notes))


def _look(evidence: Evidence, recorded: _Recorded, looked: _Looked) -> None:
    path = recorded.path
    looked.findings += _check_statement(evidence, path, recorded.digest)
    if not _is_here(evidence, path):
        told = ", and the owner's statement tells it" if evidence.has(ledger_bundle(path)) else ""
        looked.root_only.append(
            f"root only: {path} and its rows are not here; its digest stands in the link of "
            f"stage {recorded.stage!r}{told}"
        )
        return
    data = disk.read_regular(evidence.place(path), where=path, max_bytes=MAX_METADATA_BYTES)
    if hashlib.sha256(data).hexdigest() != recorded.digest:
        what = f"{path} is not the root that stage {recorded.stage!r} recorded in its link"
        looked.findings.append(Finding(path, what))
    try:
        descriptor = parse_descriptor(data, where=path)
    except ForebearError as error:
        looked.findings.append(Finding(path, error.what))
        return
    for tree in TREES:
        _look_at_rows(evidence, recorded, descriptor, tree, looked)


def _look_at_rows(
    evidence: Evidence,
    recorded: _Recorded,
    descriptor: Descriptor,
    tree: Tree,
    looked: _Looked,
) -> None:
    path = f"{recorded.path.removesuffix(ROOT_FILE)}{tree}.jsonl"
    if not _is_here(evidence, path):
        looked.root_only.append(f"root only: the rows {path} are not here")
        return
    try:
        index = scan(evidence.place(path), tree, where=path)
    except ForebearError as error:
        looked.findings.append(Finding(path, f"{error.where}: {error.what}"))
        return
    found, said = index.describe(), descriptor.value[tree]
    for name in ("documents", "leaves", "copies"):
        if found[name] != said[name]:
            what = f"has {found[name]} {name}, {ROOT_FILE} says {said[name]}"
            looked.findings.append(Finding(path, what))
    if found["root"] != said["root"]:
        what = f"the rows have another root than {ROOT_FILE}: a row was changed"
        looked.findings.append(Finding(path, what))
    if index.digest != recorded.products.get(path):
        looked.findings.append(Finding(path, f"{path} is not the file that the link names"))
    looked.notes.append(
        f"{counted(index.leaves - 2, 'document')} of {path} in order, root recomputed"
    )


def _is_here(evidence: Evidence, path: str) -> bool:
    return (evidence.out_entries(path) or {}).get(path) == disk.FILE


def _check_statement(evidence: Evidence, path: str, digest: str) -> Iterator[Finding]:
    """The owner's ledger statement, where there is one, tells the roots that the link names."""
    name = ledger_bundle(path)
    if not evidence.has(name):
        return
    statement = evidence.statement(name)
    if statement.predicate_type != LEDGER:
        yield Finding(name, "is no statement about a ledger")
    elif hashlib.sha256(strictjson.dumps(dict(statement.predicate))).hexdigest() != digest:
        yield Finding(name, f"tells other roots than the link, which names {path} by its digest")
