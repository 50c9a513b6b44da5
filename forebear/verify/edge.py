"""The first broken edge of a report, in words for people who do not program.

Findings come check by check; whoever must act wants to know where in the pipeline the trouble
starts, and what rests on it. Says nothing that no finding says.

Rests on: provenance page, section 11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from forebear.errors import ConfigError, FormatError
from forebear.evidence.store import Evidence
from forebear.formats.layout import SOURCE
from forebear.pipeline import Pipeline, Stage
from forebear.verify.result import CORE, CheckResult, Failed, Finding, Report

_LINK = re.compile(r"links/([^/]+?)(?:\.[0-9a-f]{8}|\.\*)?\.link")
_FOLDERS = ("attestations/stages/", "attestations/", "manifests/")
_SUFFIXES = (".provenance.sigstore.json", "/provenance.sigstore.json", "/ledger.sigstore.json",
             "/model.sig", ".sha256")  # fmt: skip
_SHOWN = 4


def first_broken_edge(report: Report, evidence: Evidence) -> str:
    """One line about the finding that lies furthest up the pipeline; empty when nothing failed."""
    every = list(_findings(report))
    if not every:
        return ""
    # where files and links do not hold, statements about them cannot: those are consequences
    found = [pair for pair in every if pair[0].id in CORE] or every
    try:
        pipeline = evidence.pipeline
    except (FormatError, ConfigError):
        return _without_stage(*found[0])
    order = [SOURCE, *(stage.name for stage in pipeline.stages)]
    placed = [
        (order.index(stage), result, finding)
        for result, finding in found
        if (stage := _stage_of(finding, pipeline)) in order
    ]
    if not placed:
        return _without_stage(*found[0])
    index, result, finding = min(placed, key=lambda entry: entry[0])
    name = order[index]
    where = "the sources that the owner vouches for" if name == SOURCE else f"stage '{name}'"
    said = f"First broken edge: {where}: {_said(finding)} ({result.id})"
    doubted = _made_from(name, pipeline)
    if not doubted:
        return f"{said}; nothing in the release is made from it"
    shown = ", ".join(doubted[:_SHOWN])
    more = f" and {len(doubted) - _SHOWN} more" if len(doubted) > _SHOWN else ""
    return f"{said}; everything made from it is in doubt: {shown}{more}"


def _findings(report: Report) -> Iterator[tuple[CheckResult, Finding]]:
    for result in report.results:
        if isinstance(result.verdict, Failed):
            for finding in result.verdict.findings:
                yield result, finding


def _without_stage(result: CheckResult, finding: Finding) -> str:
    return (
        f"First broken edge: {result.title}: {_said(finding)} ({result.id}); "
        "the whole release is in doubt"
    )


def _said(finding: Finding) -> str:
    text = finding.text.removesuffix(".")
    return text if finding.path in text else f"{finding.path}: {text}"


def _stage_of(finding: Finding, pipeline: Pipeline) -> str | None:
    """The stage that a finding is about; None when it is about the release as a whole."""
    path = finding.path
    link = _LINK.match(path)
    if link is not None:
        return link[1]
    names = {stage.name for stage in pipeline.stages}
    if path in names:
        return path
    for folder in _FOLDERS:
        if path.startswith(folder):
            path = path.removeprefix(folder)
            for suffix in _SUFFIXES:
                path = path.removesuffix(suffix)
            if path in names:
                return path
            break
    path = path.partition(": ")[0].removeprefix("tree:")
    producer = pipeline.producer(path)
    if producer is not None:
        return producer.name
    sources = (out.path for stage in pipeline.sources for out in stage.outs)
    inside = any(path == out or path.startswith(f"{out}/") for out in sources)
    return SOURCE if inside else None


def _made_from(name: str, pipeline: Pipeline) -> list[str]:
    """Names of the stages that read what ``name`` wrote, at once or through others."""
    if name == SOURCE:
        return [stage.name for stage in pipeline.stages]
    doubted = {name}
    for stage in pipeline.stages:
        if any(producer.name in doubted for producer in _read_from(stage, pipeline)):
            doubted.add(stage.name)
    return [stage.name for stage in pipeline.stages if stage.name in doubted - {name}]


def _read_from(stage: Stage, pipeline: Pipeline) -> Sequence[Stage]:
    return [producer for dep in stage.deps for producer in pipeline.producers(dep)]
