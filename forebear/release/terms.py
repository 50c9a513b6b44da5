"""What must hold before the owner signs: the owner's terms, the gate, the documents, the cargo.

Refuses a release whose gate did not pass or judged another checkpoint, drafts that are called
final, a release that carries nothing, and one that is not younger than the release before it.

Rests on: provenance page, sections 4 and 7.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, GateError
from forebear.evidence.names import is_own_name
from forebear.formats import strictjson
from forebear.formats.layout import shipped_outs
from forebear.formats.link import TREE
from forebear.formats.statement import Statement
from forebear.gate import waiver
from forebear.pipeline import Out, Pipeline
from forebear.release import statements
from forebear.release.chain import SignedLink
from forebear.signing.keys import PublicKey
from forebear.signing.signer import verify_envelope

NO_DOCUMENTS = "none"
PASSED = ("PASS", "PASS_WITH_WAIVERS")

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the owner decides about a release.

    Attributes:
        serial: number of the release, higher than that of the previous one.
        documents: ``draft`` or ``final``.
        expires_days: how long the layout holds.
        allow_smoke: whether a smoke run, whose gate decides nothing, may be signed.
        previous: ``serial`` of the release before and ``sha256`` of its ``release.sigstore.json``.

    Raises:
        ConfigError: ``previous`` has another form, or its serial is not below ``serial``.
    """

    serial: int = 1
    documents: str = "draft"
    expires_days: int = 365
    allow_smoke: bool = False
    previous: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.previous is None:
            return
        fault = _previous_fault(self.previous, self.serial)
        if fault:
            raise ConfigError(
                fault,
                where="params.yaml: attest.previous",
                fix="sha256sum RELEASE/release.sigstore.json, of the release before this one",
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's report and the statement about it."""

    gate: Mapping[str, Any]
    statement: Statement


def require_gate(  # noqa: PLR0913, PLR0917  # all that the verdict is judged by
    root: Path,
    pipeline: Pipeline,
    links: Sequence[SignedLink],
    disk: Mapping[str, str],
    gate: str,
    terms: Terms,
) -> Verdict:
    """The gate's verdict, when it passed and is about the checkpoint that is shipped."""
    path = f"{gate}/gate.json"
    data = read_file(root, path)
    value = strictjson.parse_canonical(data, where=path)
    if not isinstance(value, dict):
        raise FormatError("must be a JSON object", where=path)
    if disk.get(path) != hashlib.sha256(data).hexdigest():
        raise GateError("is no product of a recorded stage", where=path, fix="dvc repro")
    verdict = str(value.get("verdict"))
    if verdict not in PASSED and not (verdict == "SMOKE" and terms.allow_smoke):
        raise GateError(
            f"the verdict is {verdict}, so no release is signed",
            where=path,
            fix="see `dvc metrics show` and the pairs in the file"
            if verdict != "SMOKE"
            else "a smoke run decides nothing; to rehearse a release, set attest.allow_smoke",
        )
    out, recorded = _candidate(pipeline, links)
    name = f"{TREE}{out.path}"
    tree = value.get("candidate_tree")
    if not isinstance(tree, str) or tree != recorded or tree != disk.get(name):
        raise GateError(
            "judged another checkpoint than the one that is shipped",
            where=f"{path}: candidate_tree, {out.path}",
            fix="dvc repro",
        )
    return Verdict(value, statements.gate_result(path, data, (name, tree)))


def require_waivers(
    folder: Path, gate: Mapping[str, Any], owner: PublicKey, *, now: datetime
) -> None:
    """Every waiver that the verdict rests on is the owner's, in force and about this verdict.

    Args:
        folder: of ``gate.json``; its waivers lie in a folder below it.
        gate: value of ``gate.json``.
        owner: who may have signed waivers.
        now: with a time zone.

    Raises:
        GateError: one is not.
        FormatError: a file is no waiver, or the verdict has no form.
        EnvironmentFailure: a file cannot be read.
    """
    found = waiver.unfit(
        gate,
        waiver.without_waivers(gate),
        waiver.load_waivers(folder / waiver.FOLDER),
        verify=lambda envelope: verify_envelope(envelope, owner),
        now=now,
    )
    for name, fault in found:
        raise GateError(
            f"a waiver does not hold: {fault}",
            where=name,
            fix="have it signed again, or train until the gate passes",
        )


def _candidate(pipeline: Pipeline, links: Sequence[SignedLink]) -> tuple[Out, str]:
    """The shipped checkpoint furthest down the pipeline, and its tree in its stage's link."""
    shipped = {out.path for _, out in shipped_outs(pipeline)}
    for signed in reversed(links):
        for out in signed.stage.outs:
            if out.path in shipped and out.kind == "model" and out.is_dir:
                return out, signed.link.products[f"{TREE}{out.path}"]
    raise ConfigError(
        "ships no checkpoint",
        where="dvc.yaml",
        fix="mark the final checkpoint with `type: model`, or list it under meta.forebear.ship",
    )


def read_file(root: Path, path: str) -> bytes:
    """Bytes of a file in the repository.

    Raises:
        EnvironmentFailure: it cannot be read.
    """
    try:
        return (root / path).read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot be read: {error.strerror}", where=path, fix="dvc repro"
        ) from error


def require_documents(root: Path, documents: str | None, terms: Terms) -> str:
    """How the documents stand: ``draft``, ``final`` or ``none``; refuses to call drafts final."""
    if documents is None:
        if terms.documents == "final":
            raise ConfigError(
                "there are no documents that could be final",
                where="params.yaml: attest.documents",
                fix="give attest the folder of the documents, or leave this out",
            )
        return NO_DOCUMENTS
    if terms.documents != "final":
        return terms.documents
    value = strictjson.parse(read_file(root, f"{documents}/documents.json"), where="documents.json")
    if not isinstance(value, dict) or value.get("draft") is not False:
        raise GateError(
            "the documents are drafts, so they cannot be released as final",
            where="documents.json",
            fix="forebear document --check shows what is missing; or set attest.documents: draft",
        )
    _require_approvals(root, documents)
    return terms.documents


def _require_approvals(root: Path, documents: str) -> None:
    """Refuses documents that somebody whose approval is required has not approved as they are.

    Raises:
        GateError: an approval is missing, out of date, rejected or badly signed.
    """
    name = f"{documents}/facts.json"
    if not (root / name).exists():
        return  # documents that are not ours know of no approval
    facts = strictjson.parse(read_file(root, name), where="facts.json")
    given = facts.get("approvals", []) if isinstance(facts, dict) else []
    open_ones = [
        f"{one.get('role')}: {one.get('status')}"
        for one in given
        if isinstance(one, dict) and one.get("status") != "valid"
    ]
    if open_ones:
        raise GateError(
            f"the documents are not approved as they are ({', '.join(sorted(open_ones))})",
            where="facts.json",
            fix="forebear document approve --role ROLE --decision approve, then dvc repro; "
            "or set attest.documents: draft",
        )


def require_shipped(pipeline: Pipeline) -> None:
    """Something is shipped, and nothing where the release keeps its own files.

    Raises:
        ConfigError: not so.
    """
    shipped = [out.path for _, out in shipped_outs(pipeline)]
    if not shipped:
        raise ConfigError(
            "the release would carry nothing",
            where="dvc.yaml",
            fix="mark an out with `type: model`, or list it under meta.forebear.ship of its stage",
        )
    for path in filter(is_own_name, shipped):
        raise ConfigError(
            "cannot be shipped: a release keeps its own files there",
            where=f"dvc.yaml: {path}",
            fix="write it to another folder",
        )


def _previous_fault(previous: Mapping[str, Any], serial: int) -> str:
    """What is wrong with the name of the release before; empty when nothing is."""
    if previous.keys() != {"serial", "sha256"}:
        return "previous must have exactly the keys serial and sha256"
    before, digest = previous["serial"], previous["sha256"]
    if isinstance(before, bool) or not isinstance(before, int) or before < 0:
        return "the previous serial must be a whole number"
    if not isinstance(digest, str) or not _HEX.fullmatch(digest):
        return "the previous sha256 must be 64 lower-case hex digits"
    return "" if before < serial else f"serial {serial} is not above the previous one, {before}"
