"""C4: what lies on disk is what the stages produced: disk, manifests, ``SHA256SUMS`` and links.

Every byte is read; no digest cache. In a packed release everything must be listed and nothing may
be extra. In a repository outs that are absent and not shipped are counted, never called checked.

Rests on: provenance page, sections 1 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from forebear.errors import FormatError
from forebear.evidence.disk import FILE, FOLDER
from forebear.evidence.names import is_attest_link, is_later
from forebear.evidence.store import OWN_LINK, RELEASE_BUNDLE, Evidence
from forebear.evidence.sums import parse_sums
from forebear.formats.layout import ATTEST, SUMS
from forebear.formats.link import is_virtual
from forebear.hashing.digest import hash_files
from forebear.pipeline import Out, Stage, link_path
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Verdict, counted, failed

UNLISTED = "is not listed in SHA256SUMS: it does not belong to the release"


def check_disk(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Compares files with manifests, with links and with ``SHA256SUMS``, both ways."""
    del policy
    present, absent = _outs(evidence)
    digests = _hash(evidence, present)
    findings: list[Finding] = []
    for stage, out in present:
        findings += _check_out(evidence, stage, out, digests)
    shipped = {out.path for _, out in evidence.shipped}
    for stage, out in evidence.shipped:
        if (stage, out) in absent:
            findings.append(Finding(out.path, f"the shipped out of stage {stage.name!r} is absent"))
        findings += _check_manifest(evidence, out, digests)
    findings += _check_sums(evidence, digests)
    findings += _check_attested(evidence)
    unshipped = [out.path for _, out in absent if out.path not in shipped]
    note = f"{counted(len(digests), 'file')} compared with what the stages produced"
    if unshipped:
        note += f"; {counted(len(unshipped), 'out')} not here, so not checked on disk"
    return failed(_once(findings), note)


def _outs(evidence: Evidence) -> tuple[list[tuple[Stage, Out]], list[tuple[Stage, Out]]]:
    """Outs that are on disk, and those that are not; links and metadata are looked at apart."""
    present: list[tuple[Stage, Out]] = []
    absent: list[tuple[Stage, Out]] = []
    for stage in evidence.pipeline.stages:
        for out in stage.outs:
            if out.path == link_path(stage) or stage.name == ATTEST:
                continue
            (absent if evidence.out_entries(out.path) is None else present).append((stage, out))
    return present, absent


def _hash(evidence: Evidence, present: list[tuple[Stage, Out]]) -> dict[str, str]:
    """Digest of each regular file below the outs that are present; the rest is C1's finding."""
    paths = sorted(
        {
            path
            for _, out in present
            for path, kind in (evidence.out_entries(out.path) or {}).items()
            if kind == FILE and path.isprintable()
        }
    )
    digests = hash_files([evidence.place(path) for path in paths])
    return dict(zip(paths, digests, strict=True))


def _check_out(
    evidence: Evidence, stage: Stage, out: Out, digests: Mapping[str, str]
) -> Iterator[Finding]:
    if stage.name not in evidence.links:
        yield Finding(out.path, f"the link of stage {stage.name!r} cannot be read")
        return
    products = evidence.links[stage.name].link.products
    expected = _below(products, out.path)
    found = _below(digests, out.path)
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            yield Finding(path, f"{path}, which stage {stage.name!r} produced, is not on disk")
        elif path not in expected:
            yield Finding(path, f"{path} on disk was not produced by stage {stage.name!r}")
        elif found[path] != expected[path]:
            yield Finding(
                path,
                f"{path} on disk is not the file that stage {stage.name!r} produced"
                + _again(evidence, stage),
            )


def _again(evidence: Evidence, stage: Stage) -> str:
    """How to mend it, where that can be done."""
    if evidence.kind != "repository":
        return ""
    return f"; run it again: dvc repro --force --single-item {stage.name}"


def _check_manifest(evidence: Evidence, out: Out, digests: Mapping[str, str]) -> Iterator[Finding]:
    path = f"manifests/{out.path}.sha256"
    found = (evidence.out_entries(out.path) or {}).get(out.path)
    if not evidence.has(path):
        if found == FOLDER:
            yield Finding(path, f"the manifest of {out.path} is missing")
        return
    listed = parse_sums(evidence.read(path), where=path)
    if found == FOLDER:
        listed = {f"{out.path}/{inner}": digest for inner, digest in listed.items()}
    if listed != _below(digests, out.path):
        yield Finding(path, f"the manifest does not list what lies in {out.path}")


def _check_sums(evidence: Evidence, digests: Mapping[str, str]) -> Iterator[Finding]:
    """``SHA256SUMS`` against every file, both ways."""
    shipped = [out.path for _, out in evidence.shipped]
    for path, digest in evidence.sums.items():
        if any(path == out or path.startswith(f"{out}/") for out in shipped):
            found = digests.get(path)
        else:
            found = evidence.digest(path) if evidence.has(path) else None
        if found is None:
            yield Finding(path, f"{path} is listed in SHA256SUMS but is not there")
        elif found != digest:
            yield Finding(path, f"{path} is not the file that SHA256SUMS lists")
    for path, kind in evidence.entries.items():
        if kind != FILE or path in evidence.sums or _may_be_unlisted(evidence, path):
            continue
        if path == "disk.link":
            yield Finding(path, "was left here by in-toto-verify; delete it")
        else:
            yield Finding(path, f"{path} {UNLISTED}")
    for path in sorted(digests):
        inside = any(path == out or path.startswith(f"{out}/") for out in shipped)
        if inside and path not in evidence.sums:
            yield Finding(path, f"{path} {UNLISTED}")


def _may_be_unlisted(evidence: Evidence, path: str) -> bool:
    """What cannot stand in the list: itself, and what was signed after it was written."""
    return path in {SUMS, RELEASE_BUNDLE} or _came_later(evidence, path)


def _came_later(evidence: Evidence, path: str) -> bool:
    """Signed after ``attest`` had ended: its own link, and statements added to a release."""
    if evidence.kind == "repository":
        return path == OWN_LINK
    return is_later(path) or is_attest_link(path)


def _check_attested(evidence: Evidence) -> Iterator[Finding]:
    """Metadata against the products of ``attest``, both ways."""
    if ATTEST not in evidence.links:
        yield Finding(f"links/{ATTEST}.*.link", f"the link of stage {ATTEST!r} cannot be read")
        return
    products = evidence.links[ATTEST].link.products
    folder = _attest_folder(evidence)
    for path, digest in products.items():
        name = path.removeprefix(f"{folder}/")
        if is_virtual(path) or name == path:
            continue
        if not evidence.has(name):
            yield Finding(name, f"{name}, which stage {ATTEST!r} produced, is not there")
        elif evidence.digest(name) != digest:
            yield Finding(name, f"{name} is not the file that stage {ATTEST!r} produced")
    for name in evidence.entries:
        listed = f"{folder}/{name}" in products or _came_later(evidence, name)
        shipped = any(
            name == out.path or name.startswith(f"{out.path}/") for _, out in evidence.shipped
        )
        if evidence.has(name) and not listed and not shipped:
            yield Finding(name, f"{name} was not produced by stage {ATTEST!r}")


def _attest_folder(evidence: Evidence) -> str:
    for out in evidence.pipeline.stage(ATTEST).outs:
        if out.is_dir:
            return out.path
    raise FormatError(f"stage {ATTEST!r} has no directory out", "pipeline.json")


def _below(artifacts: Mapping[str, str], path: str) -> dict[str, str]:
    """Files that are ``path`` or lie below it."""
    return {
        name: digest
        for name, digest in artifacts.items()
        if name == path or name.startswith(f"{path}/")
    }


def _once(findings: list[Finding]) -> list[Finding]:
    """The first finding of each path: it names the edge that matters most."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.path, finding)
    return list(first.values())
