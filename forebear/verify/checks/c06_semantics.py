"""C6: what a link says about its run agrees with itself and with the declared pipeline.

Stock in-toto ignores the return value, only warns of another command, and knows no params.

Rests on: provenance page, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from forebear.errors import ForebearError
from forebear.evidence.store import Evidence, SignedLink
from forebear.formats import strictjson
from forebear.formats.layout import SOURCE
from forebear.formats.link import CMD, PARAMS, command_digest, params_digest
from forebear.pipeline import Stage, inner_argv
from forebear.signing.policy import TrustPolicy
from forebear.verify.result import Finding, Verdict, failed


def check_semantics(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Name, return value, command and params of every link."""
    del policy
    findings: list[Finding] = []
    stages = {stage.name: stage for stage in evidence.pipeline.stages}
    for name, signed in evidence.links.items():
        texts = list(_check_name(name, signed))
        if name == SOURCE:
            texts += _check_source(stages, signed)
        elif name in stages:
            texts += _check_run(stages[name], signed)
        findings += [Finding(signed.path, f"stage {name!r}: {text}") for text in texts]
    return failed(findings, f"{len(evidence.links)} links say what their stages declare")


def _check_name(name: str, signed: SignedLink) -> Iterator[str]:
    if signed.link.name != name:
        yield f"the file holds the link of stage {signed.link.name!r}"


def _check_source(stages: Mapping[str, Stage], signed: SignedLink) -> Iterator[str]:
    """The owner's digests of commands and params are those of ``pipeline.json``."""
    for name, stage in stages.items():
        expected = {
            f"{CMD}{name}": command_digest(inner_argv(stage)),
            f"{PARAMS}{name}": params_digest(stage.params),
        }
        for artifact, digest in expected.items():
            if signed.link.products.get(artifact) != digest:
                yield f"{artifact} is not what pipeline.json declares"


def _check_run(stage: Stage, signed: SignedLink) -> Iterator[str]:
    link = signed.link
    returned = link.byproducts.get("return-value")
    if isinstance(returned, bool) or returned != 0:
        yield f"the command ended with return value {returned!r}, not 0"
    if link.command != inner_argv(stage):
        yield "the command in the link is not the one that pipeline.json declares"
    if link.materials.get(f"{CMD}{stage.name}") != command_digest(link.command):
        yield f"the command in the link does not hash to {CMD}{stage.name}"
    yield from _check_params(stage, signed)


def _check_params(stage: Stage, signed: SignedLink) -> Iterator[str]:
    record = signed.link.byproducts.get("forebear")
    text = record.get("params_json") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(text, str):
        yield "the link carries no params"
        return
    try:
        params = strictjson.parse(text.encode(), where="params_json")
        digest = params_digest(params) if isinstance(params, dict) else ""
    except (ForebearError, UnicodeEncodeError) as error:
        yield f"the params in the link cannot be read: {error}"
        return
    if digest != signed.link.materials.get(f"{PARAMS}{stage.name}"):
        yield f"the params in the link do not hash to {PARAMS}{stage.name}"
    if digest != params_digest(stage.params):
        yield "the params in the link are not those that pipeline.json declares"
    if not _same(record.get("params"), params):
        yield "the params in clear are not the params that were hashed"


def _same(clear: Any, value: Any) -> bool:
    """Whether ``clear`` shows ``value``: floats stand as their canonical text.

    ``1.0`` is written ``1``, so a whole number may be shown either way.
    """
    if isinstance(value, dict):
        return (
            isinstance(clear, dict)
            and clear.keys() == value.keys()
            and all(_same(clear[key], inner) for key, inner in value.items())
        )
    if isinstance(value, list):
        return (
            isinstance(clear, list) and len(clear) == len(value) and all(map(_same, clear, value))
        )
    if isinstance(value, int | float) and not isinstance(value, bool) and isinstance(clear, str):
        return clear == strictjson.canonical(value).decode()
    return type(clear) is type(value) and bool(clear == value)
