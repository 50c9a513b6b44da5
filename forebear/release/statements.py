"""What the owner says about a release: provenance of all that was made, the gate, the whole.

Builds payloads from verified links and signs nothing by itself. It claims SLSA Build L1 and no
more, and invents no field that a link does not hold.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from forebear.errors import FormatError
from forebear.evidence.names import RELEASE_BUNDLE, is_ledger_root
from forebear.formats import strictjson
from forebear.formats.layout import LINKS
from forebear.formats.link import CMD, PARAMS, TREE
from forebear.formats.statement import (
    APPROVAL,
    LEDGER,
    RECORDER,
    RELEASE,
    SLSA_PROVENANCE,
    STAGE_BUILD,
    TEST_RESULT,
    Statement,
    descriptor,
)
from forebear.gate.verdict import pair_name
from forebear.pipeline import Out
from forebear.release.chain import SignedLink

APPROVAL_SCHEMA = "forebear.approval/v1"


def provenance(signed: SignedLink, out: Out | None, chain: Chain) -> Statement:
    """SLSA provenance of one checkpoint, or of everything that a stage wrote.

    Args:
        signed: link of the stage that wrote it.
        out: the checkpoint; None for all products of the stage.
        chain: the links of the release, for the links upstream.
    """
    link, record = signed.link, signed.record
    subjects = _subjects(link.products, out)
    return Statement(
        subjects=tuple((name, link.products[name]) for name in subjects),
        predicate_type=SLSA_PROVENANCE,
        predicate={
            "buildDefinition": {
                "buildType": STAGE_BUILD,
                "externalParameters": {
                    "stage": link.name,
                    "command": list(link.command),
                    "params": record.get("params", {}),
                },
                "internalParameters": {
                    "confinement": record.get("confinement"),
                    "environment": record.get("environment"),
                    "params_sha256": link.materials[f"{PARAMS}{link.name}"],
                    "recorder": record.get("recorder"),
                },
                "resolvedDependencies": _dependencies(signed, chain),
            },
            "runDetails": {
                "builder": {"id": f"{RECORDER}#{signed.keyid}"},
                "metadata": {
                    "invocationId": chain.digest(signed),
                    "startedOn": record.get("started", ""),
                    "finishedOn": record.get("ended", ""),
                },
                "byproducts": [
                    descriptor(chain.name(signed), chain.digest(signed)),
                    *_others(signed, out),
                ],
            },
        },
    )


def ledger(path: str, data: bytes) -> Statement:
    """What the ledger's root says about the documents, as the owner's own statement.

    Args:
        path: of ``root.json`` in the repository.
        data: the file.

    Raises:
        FormatError: it is no strict JSON object.
    """
    value = strictjson.parse(data, where=path)
    if not isinstance(value, dict):
        raise FormatError("must be a JSON object", path)
    return Statement(((path, hashlib.sha256(data).hexdigest()),), LEDGER, value)


def gate_result(gate_path: str, gate_bytes: bytes, subject: tuple[str, str]) -> Statement:
    """Test result of the gate for the candidate.

    Args:
        gate_path: of ``gate.json`` in the repository.
        gate_bytes: the file.
        subject: name and digest of the candidate's tree.
    """
    gate = strictjson.parse(gate_bytes, where=gate_path)
    pairs = [pair for pair in gate.get("pairs", []) if isinstance(pair, dict)]
    names = {"PASS": "passedTests", "FAIL": "failedTests"}
    lists: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for pair in pairs:
        kind = names.get(str(pair.get("verdict")), "warnedTests")
        lists[kind].append(pair_name(pair))
    results = {"PASS": "PASSED", "PASS_WITH_WAIVERS": "WARNED"}
    return Statement(
        subjects=(subject,),
        predicate_type=TEST_RESULT,
        predicate={
            "result": results.get(gate["verdict"], "WARNED"),
            "configuration": [
                descriptor(gate_path, hashlib.sha256(gate_bytes).hexdigest()),
            ],
            **{name: sorted(tests) for name, tests in lists.items()},
        },
    )


def release(
    parts: Mapping[str, bytes],
    *,
    serial: int,
    previous: Mapping[str, Any] | None,
    gate: Mapping[str, Any] | None,
    documents: str,
) -> Statement:
    """The statement that holds one release together.

    Args:
        parts: ``SHA256SUMS``, layout, pipeline, owner's key, every bundle and link, by path in the
            release.
        serial: number of the release.
        previous: ``serial`` and ``sha256`` of the statement of the release before.
        gate: value of ``gate.json``; None for a pipeline without a gate.
        documents: ``draft``, ``final`` or ``none``.
    """
    return Statement(
        subjects=tuple((name, hashlib.sha256(parts[name]).hexdigest()) for name in sorted(parts)),
        predicate_type=RELEASE,
        predicate={
            "serial": serial,
            "previous": None if previous is None else dict(previous),
            "gate": None
            if gate is None
            else {"verdict": gate["verdict"], "candidateTree": gate["candidate_tree"]},
            "documents": documents,
            "profile": None if gate is None else gate.get("profile", "default"),
        },
    )


def approval(release_digest: str, note: str) -> Statement:
    """An owner's agreement with a release that another owner signed.

    Args:
        release_digest: SHA-256 of its ``release.sigstore.json``.
        note: anything that the approver wants to say; may be empty.
    """
    return Statement(
        subjects=((RELEASE_BUNDLE, release_digest),),
        predicate_type=APPROVAL,
        predicate={"schema": APPROVAL_SCHEMA, "note": note},
    )


class Chain:
    """The links of one release: how each is named there, and who made what.

    Args:
        links: of every stage but ``attest``.
    """

    def __init__(self, links: Sequence[SignedLink]) -> None:
        self._digests = {id(signed): hashlib.sha256(signed.data).hexdigest() for signed in links}
        self._made: dict[tuple[str, str], list[SignedLink]] = {}
        for signed in links:
            for artifact in signed.link.products.items():
                self._made.setdefault(artifact, []).append(signed)

    def digest(self, signed: SignedLink) -> str:
        """SHA-256 of the link's file."""
        return self._digests[id(signed)]

    def name(self, signed: SignedLink) -> str:
        """Name of the link in the release, as stock in-toto looks for it."""
        return link_name(signed.stage.name, signed.keyid)

    def upstream(self, signed: SignedLink) -> list[SignedLink]:
        """Links of the stages that made what this one read, by stage name."""
        found = {
            one.stage.name: one
            for artifact in signed.link.materials.items()
            for one in self._made.get(artifact, ())
            if one is not signed
        }
        return [found[name] for name in sorted(found)]


def link_name(stage: str, keyid: str) -> str:
    """Name of a link in a release."""
    return f"{LINKS}{stage}.{keyid:.8}.link"


def _subjects(products: Mapping[str, str], out: Out | None) -> list[str]:
    """Names of the products, each tree before its files."""
    names = [
        name
        for name in products
        if out is None or name in {out.path, f"{TREE}{out.path}"} or name.startswith(f"{out.path}/")
    ]
    return sorted(names, key=lambda name: (not name.startswith(TREE), name))


def _dependencies(signed: SignedLink, chain: Chain) -> list[dict[str, Any]]:
    """Every dep by name and digest, then the links upstream with their ledgers, then the commit."""
    found = [
        descriptor(name, digest)
        for name, digest in sorted(signed.link.materials.items())
        if not name.startswith((CMD, PARAMS))
    ]
    for other in chain.upstream(signed):
        roots = [
            descriptor(name, digest)
            for name, digest in sorted(other.link.products.items())
            if is_ledger_root(name)
        ]
        notes: dict[str, Any] = {"stage": other.stage.name}
        if roots:
            notes["ledger"] = roots
        about = descriptor(chain.name(other), chain.digest(other))
        found.append({**about, "annotations": notes})
    git = signed.record.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    if isinstance(commit, str):
        found.append({"digest": {"gitCommit": commit}, "uri": "git+workspace"})
    return found


def _others(signed: SignedLink, out: Out | None) -> list[dict[str, Any]]:
    """Metrics, logs and the ledger root, as far as the stage wrote them."""
    told = {other.path for other in signed.stage.outs if other.metric or other.plot}
    return [
        descriptor(name, digest)
        for name, digest in sorted(signed.link.products.items())
        if (name in told or is_ledger_root(name) or name.rpartition("/")[2].startswith("log."))
        and (out is None or not name.startswith(f"{out.path}/"))
    ]
