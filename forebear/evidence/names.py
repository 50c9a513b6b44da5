"""Names inside a release: which file is what, for those who write one and those who judge it.

Knows paths alone and reads nothing. A name that no rule knows has no role, and whoever judges the
release says so.

Rests on: provenance page, section 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from forebear.formats.layout import ATTEST, LINKS, SUMS
from forebear.formats.statement import LEDGER, RELEASE, SLSA_PROVENANCE, TEST_RESULT

PIPELINE = "pipeline.json"
LAYOUT = "root.layout"
OWNER = "owner.pub"
RELEASE_BUNDLE = "release.sigstore.json"
ATTESTATIONS = "attestations/"
MANIFESTS = "manifests/"
LATER = "later/"
GATE_BUNDLE = f"{ATTESTATIONS}gate.sigstore.json"
LEDGER_ROOT = "ledger/root.json"
BUNDLE_SUFFIX = ".sigstore.json"

_STAGES = f"{ATTESTATIONS}stages/"
_OF_STAGE = ".provenance.sigstore.json"
_OF_OUT = "/provenance.sigstore.json"
_OF_LEDGER = "/ledger.sigstore.json"
_ATTEST_LINK = re.compile(rf"{LINKS}{ATTEST}\.[0-9a-f]{{8}}\.link")
_LATER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")


@dataclass(frozen=True, slots=True)
class Role:
    """What a bundle in a release must be.

    Attributes:
        predicate_type: the only one that it may hold.
        stage: whose products it is about; empty when it is about something else.
        out: the checkpoint that it is about; empty likewise.
        ledger: path of the ``root.json`` that it is about; empty likewise.
    """

    predicate_type: str
    stage: str = ""
    out: str = ""
    ledger: str = ""


_SINGLE = {RELEASE_BUNDLE: Role(RELEASE), GATE_BUNDLE: Role(TEST_RESULT)}


def stage_bundle(stage: str) -> str:
    """Where the provenance of everything that a stage wrote lies."""
    return f"{_STAGES}{stage}{_OF_STAGE}"


def checkpoint_bundle(out: str) -> str:
    """Where the provenance of one checkpoint lies."""
    return f"{ATTESTATIONS}{out}{_OF_OUT}"


def ledger_bundle(root_json: str) -> str:
    """Where the statement about a ledger's ``root.json`` lies."""
    return f"{ATTESTATIONS}{root_json.removesuffix('/root.json')}{_OF_LEDGER}"


def is_attest_link(path: str) -> bool:
    """Whether this is the link of ``attest`` itself, which no list that it signs can hold."""
    return _ATTEST_LINK.fullmatch(path) is not None


def is_ledger_root(path: str) -> bool:
    """Whether a product is the root of a document ledger."""
    return path == LEDGER_ROOT or path.endswith(f"/{LEDGER_ROOT}")


def bundle_role(path: str) -> Role | None:
    """What the bundle at ``path`` must be; None when no release of ours holds one there."""
    if path in _SINGLE:
        return _SINGLE[path]
    if not path.startswith(ATTESTATIONS):
        return None
    inner = path.removeprefix(ATTESTATIONS)
    if path.startswith(_STAGES) and path.endswith(_OF_STAGE):
        stage = path.removeprefix(_STAGES).removesuffix(_OF_STAGE)
        return Role(SLSA_PROVENANCE, stage=stage) if stage and "/" not in stage else None
    if inner.endswith(_OF_OUT):
        return Role(SLSA_PROVENANCE, out=inner.removesuffix(_OF_OUT))
    if inner.endswith(_OF_LEDGER):
        root = f"{inner.removesuffix(_OF_LEDGER)}/root.json"
        return Role(LEDGER, ledger=root) if is_ledger_root(root) else None
    return None


def is_later(path: str) -> bool:
    """Whether the file was added after the release was signed, as ``forebear attach`` does."""
    if not (path.startswith(LATER) and path.endswith(BUNDLE_SUFFIX)):
        return False
    return is_later_name(path.removeprefix(LATER).removesuffix(BUNDLE_SUFFIX))


def is_later_name(name: str) -> bool:
    """Whether a later statement may have this name: plain letters, digits, ``. _ @ -``."""
    return len(name) <= 128 and _LATER_NAME.fullmatch(name) is not None


def is_own_name(path: str) -> bool:
    """Whether the release itself uses this place, so that no shipped out may lie there."""
    folders = (LINKS, ATTESTATIONS, MANIFESTS, LATER)
    if path in {PIPELINE, LAYOUT, OWNER, RELEASE_BUNDLE, SUMS, "disk.link"}:
        return True
    return f"{path}/".startswith(folders)
