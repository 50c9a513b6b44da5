"""C13: the gate's verdict follows from the results of the items, and they are this checkpoint's.

Decides again from the item files and the params that the gate's link signs, and compares bytes. A
result counts only for the checkpoint that the measuring stage read. What stands in the training
texts is taken as the gate's stage signed it, since the texts are not shipped. A smoke run decides
nothing, so it never passes here; results that do not lie here leave the check unchecked.

Rests on: evaluation page, sections 1, 11, 12 and 13.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from forebear.errors import ConfigError, FormatError, SignatureError
from forebear.evidence.names import GATE_BUNDLE, RELEASE_BUNDLE
from forebear.evidence.store import Evidence, SignedLink
from forebear.formats import strictjson
from forebear.formats.dsse import Envelope
from forebear.formats.layout import SOURCE
from forebear.formats.link import PARAMS, TREE, params_digest
from forebear.formats.statement import Statement
from forebear.gate.runs import RUN_FILE, Run, parse_run
from forebear.gate.settings import PREVIOUS, GateSettings
from forebear.gate.verdict import GATE_SCHEMA, PASS, SMOKE, decide, pair_name
from forebear.gate.waiver import (
    FOLDER,
    PASS_WITH_WAIVERS,
    Waiver,
    parse_waiver,
    unfit,
    waive,
)
from forebear.pipeline import Out
from forebear.signing.policy import TrustPolicy
from forebear.signing.signer import verify_envelope
from forebear.verify.products import (
    Absent,
    find_product,
    read_product,
    signed_params,
    tree_digest,
)
from forebear.verify.result import Failed, Finding, Passed, Unchecked, Verdict, counted

_RESULTS = {PASS: "PASSED"}
_CONTAMINATION = "contamination.json"  # beside the verdict


@dataclass(frozen=True, slots=True)
class _Gate:
    """The verdict as shipped, and the run of the stage that wrote it."""

    path: str
    data: bytes
    value: Mapping[str, Any]
    signed: SignedLink

    @property
    def verdict(self) -> str:
        return str(self.value.get("verdict"))


def check_gate(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Statement, candidate, results, settings and waivers of the verdict, then the verdict."""
    released = evidence.statement(RELEASE_BUNDLE).predicate.get("gate")
    if GATE_BUNDLE not in evidence.bundles:
        if released is None:
            return Unchecked("this release has no gate")
        return Failed((Finding(GATE_BUNDLE, "is missing, though the release names a verdict"),))
    statement = evidence.statement(GATE_BUNDLE)
    findings = list(_check_subject(evidence, statement, released))
    try:
        gate = _load_gate(evidence, statement)
        findings += _check_statements(statement, released, gate)
        if not findings and gate.value.get("schema") != GATE_SCHEMA:
            return Unchecked(f"{gate.path} was decided by another gate than {GATE_SCHEMA}")
        runs = _load_runs(evidence, gate)
        findings += _check_runs(evidence, gate, runs)
        again = _decide(gate, runs, _load_contamination(evidence, gate))
        waivers = _load_waivers(evidence, gate)
        findings += _check_waivers(policy, gate, again, waivers)
        findings += _check_verdict(gate, waive(again, waivers))
    except Absent as absent:
        if not findings:
            return Unchecked(f"the verdict cannot be decided again: {absent}")
    except (SignatureError, FormatError, ConfigError) as error:
        findings.append(Finding(error.where or GATE_BUNDLE, error.what))
    if findings:
        return Failed(tuple(findings))
    return _judge(gate, runs, waivers)


def _judge(gate: _Gate, runs: Mapping[str, Run], waivers: list[Waiver]) -> Verdict:
    n_items = sum(len(task.items) for run in runs.values() for task in run.tasks.values())
    again = f"decided again from {counted(n_items, 'result')} of {counted(len(runs), 'run')}"
    if gate.verdict == SMOKE:
        return Unchecked(f"a smoke run decides nothing, though it is as {again}")
    if gate.verdict not in {PASS, PASS_WITH_WAIVERS}:
        return Failed((Finding(gate.path, f"the verdict is {gate.verdict}: not to be released"),))
    label = gate.value.get("label")
    note = f"{gate.verdict} {again}" + (f" ({label})" if label else "")
    for waiver in waivers:
        note += f"; {waiver.terms['task']} waived by {waiver.terms['approver']} until "
        note += str(waiver.expires)
    return Passed(note)


# ── what was signed about the verdict ──────────────────────────────────────────────────────────


def _check_subject(evidence: Evidence, statement: Statement, released: object) -> Iterator[Finding]:
    """Both statements are about the checkpoint that is shipped."""
    out = _shipped_checkpoint(evidence)
    if out is None:
        yield Finding(GATE_BUNDLE, "the release ships no checkpoint that it could be about")
        return
    name = f"{TREE}{out.path}"
    tree = tree_digest(evidence, name)
    if tree is None or statement.subjects != ((name, tree),):
        yield Finding(GATE_BUNDLE, f"is about another checkpoint than the shipped {out.path}")
    if not isinstance(released, dict) or released.get("candidateTree") != tree:
        yield Finding(RELEASE_BUNDLE, "names the verdict on another checkpoint than it ships")


def _load_gate(evidence: Evidence, statement: Statement) -> _Gate:
    configuration = statement.predicate.get("configuration")
    entry = configuration[0] if isinstance(configuration, list) and configuration else None
    path = entry.get("name") if isinstance(entry, dict) else None
    digest = entry.get("digest") if isinstance(entry, dict) else None
    if not isinstance(path, str) or not isinstance(digest, dict):
        raise FormatError("names no file with the verdict", GATE_BUNDLE)
    product = find_product(evidence, path)
    if digest.get("sha256") != product.digest:
        raise SignatureError(
            f"is about another verdict than the one that stage {product.signed.stage!r} wrote",
            GATE_BUNDLE,
        )
    data = read_product(evidence, path)
    value = strictjson.parse_canonical(data, where=path)
    if not isinstance(value, dict):
        raise FormatError("is no verdict: must be an object", path)
    return _Gate(path, data, value, product.signed)


def _check_statements(statement: Statement, released: object, gate: _Gate) -> Iterator[Finding]:
    """The owner's statements say what the verdict says."""
    tree = gate.value.get("candidate_tree")
    if [digest for _, digest in statement.subjects] != [tree]:
        yield Finding(gate.path, "judges another checkpoint than the one that is shipped")
    if released != {"verdict": gate.verdict, "candidateTree": tree}:
        yield Finding(RELEASE_BUNDLE, f"names another verdict than {gate.path}: {gate.verdict}")
    said = statement.predicate.get("result")
    if said != _RESULTS.get(gate.verdict, "WARNED"):
        yield Finding(GATE_BUNDLE, f"says {said!a}, the verdict is {gate.verdict}")
    lists: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    kinds = {"PASS": "passedTests", "FAIL": "failedTests"}
    pairs = gate.value.get("pairs")
    for pair in pairs if isinstance(pairs, list) else []:
        if isinstance(pair, dict):
            kind = kinds.get(str(pair.get("verdict")), "warnedTests")
            lists[kind].append(pair_name(pair))
    for name, tests in lists.items():
        if statement.predicate.get(name) != sorted(tests):
            yield Finding(GATE_BUNDLE, f"{name} are not those of {gate.path}")


def _shipped_checkpoint(evidence: Evidence) -> Out | None:
    """The one furthest down the pipeline, as ``attest`` takes it."""
    models = [out for _, out in evidence.shipped if out.kind == "model" and out.is_dir]
    return models[-1] if models else None


# ── the results ────────────────────────────────────────────────────────────────────────────────


def _load_runs(evidence: Evidence, gate: _Gate) -> dict[str, Run]:
    """Every run that the gate's stage read, by its folder."""
    materials = gate.signed.link.materials
    folders = sorted(
        name.removesuffix(f"/{RUN_FILE}") for name in materials if name.endswith(f"/{RUN_FILE}")
    )
    runs = {}
    for folder in folders:

        def read(name: str, folder: str = folder) -> bytes:
            path = f"{folder}/{name}"
            product = find_product(evidence, path)
            if materials.get(path) != product.digest:
                raise SignatureError(
                    f"is not the file that stage {gate.signed.stage!r} read", where=path
                )
            return read_product(evidence, path)

        run = parse_run(read, where=folder)
        runs[folder] = replace(run, name=_name_of(gate, run))
    return runs


def _name_of(gate: _Gate, run: Run) -> str:
    """What the verdict calls the run: its own name, or ``previous`` for an earlier release's."""
    previous = {
        entry.get("run_sha256") for entry in _entries(gate) if entry.get("name") == PREVIOUS
    }
    return PREVIOUS if run.run_sha256 in previous else run.name


def _load_contamination(evidence: Evidence, gate: _Gate) -> Mapping[str, Any] | None:
    """What the gate's stage found in the training texts, as the verdict names it."""
    digest = gate.value.get("contamination_sha256")
    if digest is None:
        return None
    path = f"{gate.path.rpartition('/')[0]}/{_CONTAMINATION}"
    data = read_product(evidence, path)
    value = strictjson.parse_canonical(data, where=path)
    if hashlib.sha256(data).hexdigest() != digest or not isinstance(value, dict):
        raise SignatureError("is not what the verdict names", path)
    return value


def _check_runs(evidence: Evidence, gate: _Gate, runs: Mapping[str, Run]) -> Iterator[Finding]:
    """Each run is about the checkpoint that was measured; the candidate's is the shipped one."""
    names = sorted(run.name for run in runs.values())
    if sorted([_candidate(gate), *_references(gate)]) != names:
        yield Finding(gate.path, f"compares other runs than those that were read: {names}")
    for folder, run in runs.items():
        yield from _check_measured(evidence, folder, run)
        if run.name == _candidate(gate) and run.tree != gate.value.get("candidate_tree"):
            yield Finding(
                f"{folder}/{RUN_FILE}",
                f"holds the results of checkpoint {run.tree:.12}…, not of the one that is judged",
            )


def _candidate(gate: _Gate) -> str:
    return str(gate.value.get("candidate"))


def _references(gate: _Gate) -> list[str]:
    """Names of the runs that the verdict compares with, in its order."""
    return [str(entry.get("name")) for entry in _entries(gate)]


def _entries(gate: _Gate) -> list[dict[str, Any]]:
    listed = gate.value.get("references")
    entries = listed if isinstance(listed, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _check_measured(evidence: Evidence, folder: str, run: Run) -> Iterator[Finding]:
    where = f"{folder}/{RUN_FILE}"
    signed = find_product(evidence, where).signed
    if signed.stage == SOURCE:
        return  # a run of an earlier release, for which the owner vouches
    read = {
        name: digest
        for name, digest in signed.link.materials.items()
        if name.startswith(TREE) and _is_model(evidence, name)
    }
    if run.tree not in read.values():
        yield Finding(
            where,
            f"says that it is about checkpoint {run.tree:.12}…, which stage {signed.stage!r} did "
            "not read",
        )
    for name, digest in read.items():
        if tree_digest(evidence, name) != digest:
            yield Finding(where, f"stage {signed.stage!r} measured another {name} than was made")


def _is_model(evidence: Evidence, name: str) -> bool:
    path = name.removeprefix(TREE)
    return any(
        out.path == path and out.kind == "model"
        for stage in evidence.pipeline.stages
        for out in stage.outs
    )


# ── settings, waivers, verdict ─────────────────────────────────────────────────────────────────


def _load_waivers(evidence: Evidence, gate: _Gate) -> list[Waiver]:
    """The waivers that lie beside the verdict, as its stage used them."""
    folder = f"{gate.path.rpartition('/')[0]}/{FOLDER}/"
    paths = sorted(path for path in gate.signed.link.products if path.startswith(folder))
    return [parse_waiver(read_product(evidence, path), where=path) for path in paths]


def _check_waivers(
    policy: TrustPolicy, gate: _Gate, again: Mapping[str, Any], waivers: list[Waiver]
) -> Iterator[Finding]:
    def verify(envelope: Envelope) -> None:
        verify_envelope(envelope, policy.require_owner(envelope.keyid))

    for name, fault in unfit(gate.value, again, waivers, verify=verify, now=policy.time()):
        yield Finding(f"{gate.path}: waiver {name}", fault)


def _decide(
    gate: _Gate, runs: Mapping[str, Run], contamination: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The verdict from the results, in the order in which the file names the runs."""
    by_name = {run.name: run for run in runs.values()}
    lacking = sorted({_candidate(gate), *_references(gate)} - by_name.keys())
    if lacking:
        raise FormatError(f"compares runs that were not read: {', '.join(lacking)}", gate.path)
    references = [by_name[name] for name in _references(gate)]
    settings = _settings(gate.signed)
    return decide(by_name[_candidate(gate)], references, settings, contamination)


def _check_verdict(gate: _Gate, expected: Mapping[str, Any]) -> Iterator[Finding]:
    if strictjson.dumps(dict(expected)) != gate.data:
        yield Finding(gate.path, f"does not follow from the results: {_first(expected, gate)}")


def _settings(signed: SignedLink) -> GateSettings:
    """Margins and requirements, from the params that the link signs."""
    from pydantic import ValidationError

    params = signed_params(signed)
    stage = signed.stage
    if params_digest(params) != signed.link.materials.get(f"{PARAMS}{stage}"):
        raise SignatureError("shows other params than those that it signs", signed.path)
    section = params.get(stage.partition("@")[0])
    fields = section if isinstance(section, dict) else {}
    try:
        return GateSettings.model_validate(
            {key: value for key, value in fields.items() if key in GateSettings.model_fields}
        )
    except ValidationError as error:
        raise ConfigError(f"the gate's params do not hold: {error}", signed.path) from error


def _first(expected: Mapping[str, Any], gate: _Gate) -> str:
    """The first field that differs, the verdict before all others."""
    for name in ["verdict", *sorted(expected.keys() | gate.value.keys())]:
        ours, theirs = expected.get(name), gate.value.get(name)
        if ours == theirs:
            continue
        if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            number = next(n for n, one in enumerate(ours) if one != theirs[n])
            return f"{name}[{number}] differs"
        return f"{name} is {str(theirs)[:60]!a}, the results give {str(ours)[:60]!a}"
    return "it is written otherwise"
