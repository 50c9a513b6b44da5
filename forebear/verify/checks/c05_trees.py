"""C5: every ``tree:`` is the digest of the files that its own link lists; link copies are the ones.

Stock in-toto compares names and digests and cannot know that a tree digest stands for the files
beside it. Links are materials of later stages, so the shipped copies are held to those digests.

Rests on: provenance page, sections 1 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from forebear.errors import ForebearError
from forebear.evidence.store import Evidence, SignedLink
from forebear.formats.layout import LINKS
from forebear.formats.link import TREE, is_virtual
from forebear.hashing.digest import tree_digest
from forebear.pipeline import link_path
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Verdict, failed


def check_trees(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Recomputes each tree digest of each link, and compares link copies with materials."""
    del policy
    findings: list[Finding] = []
    n_trees = 0
    for signed in evidence.links.values():
        for kind, artifacts in (
            ("materials", signed.link.materials),
            ("products", signed.link.products),
        ):
            n_trees += sum(name.startswith(TREE) for name in artifacts)
            findings += _check_artifacts(signed, kind, artifacts)
        findings += _check_link_copies(evidence, signed)
    return failed(findings, f"{n_trees} tree digests recomputed from their files")


def _check_artifacts(
    signed: SignedLink, kind: str, artifacts: Mapping[str, str]
) -> Iterator[Finding]:
    inside: dict[str, dict[str, str]] = {
        name.removeprefix(TREE): {} for name in artifacts if name.startswith(TREE)
    }
    for path, digest in artifacts.items():
        if not is_virtual(path):
            for folder in _folders(path):
                if folder in inside:
                    inside[folder][path[len(folder) + 1 :]] = digest
    for folder, files in inside.items():
        name = f"{TREE}{folder}"
        try:
            computed = tree_digest(files)
        except ForebearError as error:
            yield Finding(signed.path, f"{name} in the {kind}: {error.what}")
            continue
        if computed != artifacts[name]:
            yield Finding(
                signed.path,
                f"stage {signed.stage!r}: {name} in the {kind} is not the digest of the "
                f"{len(files)} files listed below it",
            )


def _folders(path: str) -> Iterator[str]:
    """Every folder that the file lies in, the innermost first."""
    at = path.rfind("/")
    while at > 0:
        yield path[:at]
        at = path.rfind("/", 0, at)


def _check_link_copies(evidence: Evidence, signed: SignedLink) -> Iterator[Finding]:
    for name, recorded in signed.link.materials.items():
        if not name.startswith(LINKS):
            continue
        stage = name.removeprefix(LINKS).removesuffix(".link")
        other = evidence.links.get(stage)
        if other is not None and name == link_path(stage) and recorded != other.digest:
            yield Finding(
                other.path,
                f"{other.path} is not the link that stage {signed.stage!r} read as {name}",
            )
