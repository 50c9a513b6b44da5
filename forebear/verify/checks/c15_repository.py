"""C15: the repository still is what was attested: pipeline, lock, sources and commit.

Only in a repository, and only where DVC is installed: a release says nothing about it.

Rests on: provenance page, sections 4, 6 and 11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from forebear.errors import ForebearError
from forebear.evidence.disk import FILE, FOLDER, kind_of
from forebear.evidence.store import Evidence
from forebear.formats.layout import ATTEST, SOURCE
from forebear.formats.link import is_virtual
from forebear.hashing.digest import hash_files
from forebear.pipeline import DVC_FILE, Pipeline, Stage, load_pipeline
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Failed, Finding, Passed, Unchecked, Verdict

LOCK = "dvc.lock"
_MAX_LOCK_BYTES = 64 * 1024 * 1024


def check_repository(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """``dvc.yaml``, ``dvc.lock`` and sources as they are now, against what was attested."""
    del policy
    if evidence.kind != "repository":
        return Unchecked("a release does not show the repository it came from")
    if find_spec("dvc") is None:
        return Unchecked("DVC is not installed: pip install 'forebear[train]'")
    findings = [
        *_check_pipeline(evidence),
        *_check_lock(evidence),
        *_check_sources(evidence),
    ]
    if findings:
        return Failed(tuple(findings))
    return _judge_commit(evidence)


def _check_pipeline(evidence: Evidence) -> Iterator[Finding]:
    try:
        now = _by_name(load_pipeline(evidence.root))
    except ForebearError as error:
        yield Finding(DVC_FILE, f"the pipeline cannot be read: {error}")
        return
    then = _by_name(evidence.pipeline)
    for name in sorted(now.keys() | then.keys()):
        if name not in then:
            yield Finding(DVC_FILE, f"stage {name!r} is new since the release was attested")
        elif name not in now:
            yield Finding(DVC_FILE, f"stage {name!r} is gone since the release was attested")
        elif now[name] != then[name]:
            what = ", ".join(_differing(now[name], then[name]))
            yield Finding(
                DVC_FILE, f"stage {name!r} changed since the release was attested: {what}"
            )


def _by_name(pipeline: Pipeline) -> dict[str, Stage]:
    """Stages without what is read from the disk, and without the owner's own step."""
    return {
        stage.name: replace(stage, outs=tuple(replace(out, is_dir=None) for out in stage.outs))
        for stage in (*pipeline.stages, *pipeline.sources)
        if stage.name != SOURCE
    }


def _differing(now: Stage, then: Stage) -> list[str]:
    names = ("cmd", "deps", "params", "outs", "meta", "frozen", "wdir", "origin")
    return [name for name in names if getattr(now, name) != getattr(then, name)]


def _check_lock(evidence: Evidence) -> Iterator[Finding]:
    import yaml

    file = evidence.root / LOCK
    if kind_of(file) != FILE or file.stat().st_size > _MAX_LOCK_BYTES:
        yield Finding(LOCK, "is missing, or no file that can be read")
        return
    try:
        value = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, RecursionError, ValueError):
        yield Finding(LOCK, "is not YAML")
        return
    stages = value.get("stages") if isinstance(value, dict) else None
    now: Mapping[str, Any] = stages if isinstance(stages, dict) else {}
    then = evidence.pipeline_value.get("lock")
    attested: Mapping[str, Any] = then if isinstance(then, dict) else {}
    for name in sorted((now.keys() | attested.keys()) - {ATTEST}):
        if now.get(name) != attested.get(name):
            yield Finding(LOCK, f"the section of stage {name!r} is not the one that was attested")


def _check_sources(evidence: Evidence) -> Iterator[Finding]:
    """Files that no stage produces, as they lie in the working tree now."""
    if SOURCE not in evidence.links:
        yield Finding("links/source.*.link", "the owner's link cannot be read")
        return
    products = evidence.links[SOURCE].link.products
    attested = {path: digest for path, digest in products.items() if not is_virtual(path)}
    here = [path for path in sorted(attested) if _regular(evidence, path)]
    found = dict(zip(here, hash_files([evidence.place(path) for path in here]), strict=True))
    for path in sorted(attested):
        if path not in found:
            yield Finding(path, f"the source file {path} is gone since the release was attested")
        elif found[path] != attested[path]:
            yield Finding(path, f"the source file {path} changed since the release was attested")
    for out in (out for stage in evidence.pipeline.sources for out in stage.outs):
        entries = evidence.out_entries(out.path) if out.is_dir else None
        for path, kind in (entries or {}).items():
            if kind != FOLDER and path not in attested:
                yield Finding(path, f"the source file {path} is new since the release was attested")


def _regular(evidence: Evidence, path: str) -> bool:
    return kind_of(evidence.place(path)) == FILE


def _judge_commit(evidence: Evidence) -> Verdict:
    record = evidence.links[SOURCE].link.byproducts.get("forebear")
    about: Mapping[str, Any] = record if isinstance(record, dict) else {}
    git = about.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    if about.get("committed") is not True or not isinstance(commit, str):
        return Unchecked("pipeline and sources are as attested, but they were not all committed")
    return Passed(f"pipeline, lock and sources are as attested at commit {commit:.12}")
