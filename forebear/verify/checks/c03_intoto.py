"""C3: links signed by the right keys, every rule obeyed: as we read them, and as in-toto does.

Stock in-toto receives a private copy of the bytes that were parsed strictly before, and both
readings must agree. Where a layout is so large that stock in-toto would need gigabytes, ours stands
alone, and the note says so. Inspections are never run: they are commands that a release brings
along, and C4 does their work.

Rests on: in-toto specification v1.0, section 5.2; provenance page, section 6.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forebear.errors import ForebearError
from forebear.evidence.graph import broken_edges
from forebear.evidence.store import LAYOUT, OWN_LINK, Evidence
from forebear.formats.link import PAYLOAD_TYPE
from forebear.formats.rules import broken_rule
from forebear.signing.keys import PublicKey, parse_public
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import verify_envelope
from forebear.verify.result import Finding, Verdict, failed

# Stock in-toto copies its queue of artifacts for every rule: this many entries take about a second.
MAX_STOCK_COST = 20_000_000
MAX_STOCK_ARTIFACTS = 200_000


def check_in_toto(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Signature, threshold and rules of every step, by our reading and by in-toto's verifylib."""
    findings = list(_check_links(evidence))
    if findings:
        return failed(findings, "")
    ours = [*_check_signatures(evidence), *_check_rules(evidence)]
    steps = f"{len(evidence.layout.steps)} steps hold under in-toto's rules"
    if not _stock_can(evidence):
        return failed(ours, f"{steps}; too many for stock in-toto, which was not asked")
    # in-toto logs each step at INFO and expected-command mismatches at WARNING; C6 reports those
    logging.getLogger("in_toto").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="forebear-") as folder:
        layout = _copy(evidence, Path(folder))
        findings += _check_steps(evidence, policy, layout, folder)
    return failed(findings or ours, f"{steps}, and stock in-toto agrees")


def _stock_can(evidence: Evidence) -> bool:
    n_artifacts = cost = 0
    for step in evidence.layout.steps:
        link = evidence.links[step.name].link
        n_artifacts += len(link.materials) + len(link.products)
        cost += len(step.materials) * len(link.materials) + len(step.products) * len(link.products)
    return n_artifacts <= MAX_STOCK_ARTIFACTS and cost <= MAX_STOCK_COST


def _check_signatures(evidence: Evidence) -> Iterator[Finding]:
    """One finding per link that no key of its step signed."""
    for step in evidence.layout.steps:
        link = evidence.links[step.name]
        if link.envelope.keyid not in step.keyids:
            yield Finding(
                link.path,
                f"the link of stage {step.name!r} is signed by key {link.envelope.keyid:.8}, "
                "which the layout does not allow to sign it",
            )
            continue
        try:
            verify_envelope(
                link.envelope, parse_public(evidence.layout.keys[link.envelope.keyid], where=LAYOUT)
            )
        except ForebearError as error:
            yield Finding(link.path, f"the link of stage {step.name!r}: {error.what}")


def _check_rules(evidence: Evidence) -> Iterator[Finding]:
    def products_of(name: str) -> Mapping[str, str] | None:
        signed = evidence.links.get(name)
        return signed.link.products if signed else None

    for step in evidence.layout.steps:
        link = evidence.links[step.name].link
        created = link.products.keys() - link.materials.keys()
        for kind, rules, artifacts in (
            ("materials", step.materials, link.materials),
            ("products", step.products, link.products),
        ):
            broken = broken_rule(rules, artifacts, created, products_of)
            if broken is not None:
                yield from _explain_rule(evidence, step.name, kind, broken)


def _check_links(evidence: Evidence) -> Iterator[Finding]:
    """Links of all steps and of no other, each readable and a link, not a layout."""
    steps = {step.name for step in evidence.layout.steps}
    for name in sorted(steps):
        if name not in evidence.links:
            state = "cannot be read" if name in evidence.link_files else "is missing"
            yield Finding(f"links/{name}.*.link", f"the link of stage {name!r} {state}")
        elif evidence.links[name].envelope.payload_type != PAYLOAD_TYPE:
            yield Finding(evidence.links[name].path, f"is not signed as {PAYLOAD_TYPE}")
    for name in sorted(evidence.link_files.keys() - steps):
        yield Finding(evidence.link_files[name][0], "is the link of a stage that nobody declared")


def _copy(evidence: Evidence, folder: Path) -> Any:
    """The layout as in-toto's object, and all links under the names that it looks for."""
    from in_toto.models.metadata import Metadata

    for name, link in evidence.links.items():
        keyid8 = link.envelope.keyid[:8]
        if link.path != OWN_LINK:  # the file's name claims a key, which in-toto then holds it to
            keyid8 = link.path.removesuffix(".link").rpartition(".")[2]
        (folder / f"{name}.{keyid8}.link").write_bytes(evidence.read(link.path))
    file = folder / LAYOUT
    file.write_bytes(evidence.read(LAYOUT))
    return Metadata.load(str(file))


def _check_steps(
    evidence: Evidence, policy: TrustPolicy, metadata: Any, folder: str
) -> Iterator[Finding]:
    from in_toto import verifylib
    from in_toto.exceptions import (
        LinkNotFoundError,
        RuleVerificationError,
        SignatureVerificationError,
        ThresholdVerificationError,
    )

    owner = policy.require_owner(evidence.layout_envelope.keyid)
    layout = metadata.get_payload()
    try:
        verifylib.verify_metadata_signatures(metadata, {owner.keyid: _key_dict(owner)})
        found = verifylib.load_links_for_layout(layout, folder)
        chain = verifylib.verify_link_signature_thresholds(layout, found)
        verifylib.verify_threshold_constraints(layout, chain)
        links = verifylib.reduce_chain_links(
            {name: {key: link.get_payload() for key, link in by_key.items()}
             for name, by_key in chain.items()}
        )  # fmt: skip
    except (LinkNotFoundError, ThresholdVerificationError, SignatureVerificationError) as error:
        yield from _explain_signatures(evidence, str(error))
        return
    for step in layout.steps:
        for kind, rules in (
            ("materials", step.expected_materials),
            ("products", step.expected_products),
        ):
            try:
                verifylib.verify_item_rules(step.name, kind, rules, links)
            except RuleVerificationError as error:
                yield from _explain_rule(evidence, step.name, kind, str(error))


def _key_dict(key: PublicKey) -> dict[str, Any]:
    """The key as in-toto takes it: its own key class as a dict, and the id inside."""
    found: dict[str, Any] = {"keyid": key.keyid, **key.to_securesystemslib().to_dict()}
    return found


def _explain_signatures(evidence: Evidence, said: str) -> Iterator[Finding]:
    """One finding per link whose signature does not hold; in-toto stops at the first."""
    found = list(_check_signatures(evidence))
    yield from found or [Finding("links", f"in-toto: {said.splitlines()[0]}")]


def _explain_rule(evidence: Evidence, stage: str, kind: str, said: str) -> Iterator[Finding]:
    """The broken edges of a stage in plain words; in-toto's own when there are none to name."""
    edges = list(broken_edges(evidence, stage)) if kind == "materials" else []
    for path, text in edges:
        yield Finding(path, text)
    if not edges:
        first = said.split("Full trace", maxsplit=1)[0].strip().replace("\n", " ")
        yield Finding(evidence.links[stage].path, f"{kind} of stage {stage!r}: in-toto: {first}")
