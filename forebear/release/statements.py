"""What the owner says about a release: provenance of each checkpoint, the gate, the whole.

Builds payloads from verified links and signs nothing by itself. It claims SLSA Build L1 and no
more, and invents no field that a link does not hold.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from forebear.formats import strictjson
from forebear.formats.layout import LINKS
from forebear.formats.link import PARAMS, TREE
from forebear.formats.statement import (
    RECORDER,
    RELEASE,
    SLSA_PROVENANCE,
    STAGE_BUILD,
    TEST_RESULT,
    Statement,
    descriptor,
)
from forebear.pipeline import Out
from forebear.release.chain import SignedLink

_LEDGER = "root.json"


def provenance(signed: SignedLink, out: Out, link_name: str) -> Statement:
    """SLSA provenance of one checkpoint.

    Args:
        signed: link of the stage that wrote it.
        out: the checkpoint.
        link_name: name of the link in the release.
    """
    link, record = signed.link, signed.record
    products = link.products
    inside = sorted(name for name in products if name.startswith(f"{out.path}/"))
    subjects = [f"{TREE}{out.path}", *inside] if out.is_dir else [out.path]
    link_digest = hashlib.sha256(signed.data).hexdigest()
    return Statement(
        subjects=tuple((name, products[name]) for name in subjects),
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
                },
                "resolvedDependencies": _dependencies(signed),
            },
            "runDetails": {
                "builder": {"id": f"{RECORDER}#{signed.keyid}"},
                "metadata": {
                    "invocationId": link_digest,
                    "startedOn": record.get("started", ""),
                    "finishedOn": record.get("ended", ""),
                },
                "byproducts": [
                    descriptor(link_name, link_digest),
                    *_others(signed, out),
                ],
            },
        },
    )


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
        lists[kind].append(f"{pair.get('task')} against {pair.get('reference', pair.get('vs'))}")
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
    gate: Mapping[str, Any],
    documents: str,
) -> Statement:
    """The statement that holds one release together.

    Args:
        parts: ``SHA256SUMS``, layout, pipeline, every bundle and link, by path in the release.
        serial: number of the release.
        gate: value of ``gate.json``.
        documents: ``draft`` or ``final``.
    """
    return Statement(
        subjects=tuple((name, hashlib.sha256(parts[name]).hexdigest()) for name in sorted(parts)),
        predicate_type=RELEASE,
        predicate={
            "serial": serial,
            "previous": None,
            "gate": {"verdict": gate["verdict"], "candidateTree": gate["candidate_tree"]},
            "documents": documents,
            "profile": gate.get("profile", "default"),
        },
    )


def _dependencies(signed: SignedLink) -> list[dict[str, Any]]:
    """Every dep by name and digest, then the commit."""
    found = [
        descriptor(name, digest)
        for name, digest in sorted(signed.link.materials.items())
        if not name.startswith(("cmd:", "params:", LINKS))
    ]
    git = signed.record.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    if isinstance(commit, str):
        found.append({"digest": {"gitCommit": commit}, "uri": "git+workspace"})
    return found


def _others(signed: SignedLink, out: Out) -> Sequence[dict[str, Any]]:
    """Metrics and the ledger root, as far as the stage wrote them."""
    metrics = {other.path for other in signed.stage.outs if other.metric}
    return [
        descriptor(name, digest)
        for name, digest in sorted(signed.link.products.items())
        if (name in metrics or name.endswith(f"/ledger/{_LEDGER}"))
        and not name.startswith(f"{out.path}/")
    ]
