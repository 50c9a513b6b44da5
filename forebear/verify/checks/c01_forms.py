"""C1: every file has the form it must have: strict JSON, path rules, regular files, size limits.

Looks at names and bytes alone; whether anything in them is true is the business of later checks.

Rests on: provenance page, sections 1 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from forebear.errors import ConfigError, EnvironmentFailure, FormatError, PathError
from forebear.evidence.disk import FILE, FOLDER, read_regular
from forebear.evidence.store import LAYOUT, PIPELINE, RELEASE_BUNDLE, Evidence
from forebear.evidence.sums import parse_sums
from forebear.formats import strictjson
from forebear.formats.layout import SUMS
from forebear.formats.pathrule import require_path, require_side_by_side
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Verdict, failed

NEEDED = (PIPELINE, LAYOUT, SUMS, RELEASE_BUNDLE)


def check_forms(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Refuses what breaks a format or a path rule, wherever it lies."""
    del policy
    findings = [Finding(fault.path, fault.what) for fault in evidence.faults]
    if findings:
        return failed(findings, "")
    findings += _check_entries(evidence.entries)
    findings += _check_documents(evidence)
    findings += _check_outs(evidence)
    return failed(findings, f"{len(evidence.entries)} entries have the form they must have")


def _check_entries(kinds: Mapping[str, str]) -> Iterator[Finding]:
    for path, kind in kinds.items():
        try:
            require_path(path)
        except PathError as error:
            yield Finding(ascii(path), error.what)
        if kind not in {FILE, FOLDER}:
            yield Finding(_printable(path), f"is a {kind}; only regular files are evidence")
    try:
        require_side_by_side(path for path, kind in kinds.items() if kind != FOLDER)
    except PathError as error:
        yield Finding("paths", error.what)


def _check_documents(evidence: Evidence) -> Iterator[Finding]:
    """Everything that we wrote, parsed strictly."""
    readers: list[tuple[str, Callable[[], object]]] = [
        (PIPELINE, lambda: evidence.pipeline),
        (LAYOUT, lambda: evidence.layout),
        (SUMS, lambda: evidence.sums),
    ]
    readers += [
        (path, _bundle_reader(evidence, path)) for path in (*evidence.bundles, *evidence.later)
    ]
    if RELEASE_BUNDLE not in evidence.bundles:
        readers.append((RELEASE_BUNDLE, lambda: evidence.read(RELEASE_BUNDLE)))
    for path in evidence.entries:
        if path.startswith("manifests/") and evidence.has(path):
            readers.append((path, _sums_reader(evidence, path)))
        if path.startswith("attestations/") and path.endswith("/model.sig"):
            readers.append((path, _json_reader(evidence, path)))
    # a link that is missing is C3's finding; two for one stage, or a broken one, are ours
    readers += [
        (paths[0], _link_reader(evidence, stage)) for stage, paths in evidence.link_files.items()
    ]
    for path, read in readers:
        yield from _try(path, read)
        if evidence.has(path) and evidence.file(path).stat().st_size == 0:
            yield Finding(path, "is empty")


def _try(path: str, read: Callable[[], object]) -> Iterator[Finding]:
    try:
        read()
    except (FormatError, PathError, ConfigError) as error:
        what = error.what if not error.where or error.where == path else str(error).split("\n")[0]
        yield Finding(path, what)
    except EnvironmentFailure as error:
        yield Finding(path, error.what)


def _link_reader(evidence: Evidence, stage: str) -> Callable[[], object]:
    return lambda: evidence.signed_link(stage)


def _json_reader(evidence: Evidence, path: str) -> Callable[[], object]:
    return lambda: strictjson.parse(evidence.read(path), where=path)


def _sums_reader(evidence: Evidence, path: str) -> Callable[[], object]:
    return lambda: parse_sums(evidence.read(path), where=path)


def _bundle_reader(evidence: Evidence, path: str) -> Callable[[], object]:
    return lambda: evidence.statement(path)


def _check_outs(evidence: Evidence) -> Iterator[Finding]:
    """Names and kinds below every out that lies on disk; metrics are read as strict JSON."""
    try:
        stages = (*evidence.pipeline.stages, *evidence.pipeline.sources)
    except (FormatError, ConfigError):
        return  # a finding already
    for stage in stages:
        for out in stage.outs:
            try:
                found = evidence.out_entries(out.path)
            except PathError as error:
                yield Finding(PIPELINE, f"an out of stage {stage.name!r}: {error.what}")
                continue
            if found is not None and not _below_metadata(evidence, out.path):
                yield from _check_entries(found)
            if out.metric and found and found.get(out.path) == FILE:
                yield from _check_metric(evidence, out.path)


def _check_metric(evidence: Evidence, path: str) -> Iterator[Finding]:
    if path.endswith(".json"):
        yield from _try(
            path,
            lambda: strictjson.parse(
                read_regular(evidence.root / path, where=path, max_bytes=strictjson.MAX_BYTES),
                where=path,
            ),
        )


def _below_metadata(evidence: Evidence, path: str) -> bool:
    """Whether the out was looked at with the metadata already."""
    return evidence.kind == "release" or evidence.folder == evidence.root / path


def _printable(path: str) -> str:
    return path if path.isprintable() else ascii(path)
