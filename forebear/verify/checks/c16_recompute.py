"""C16: what was computed again, here or by others, and came out the same.

Asked for by stage, a merge is recomputed from its inputs with the installed learning library, never
with code of the release, and compared with what the stage's link signs. Asked for ``weights``,
every checkpoint is held to its parents: it must differ from them, parent and adapter must add up,
merges must recompute. What is not asked for, not here or not possible is unchecked and says why;
reproductions that others attested are told, and pass nothing by themselves.

Rests on: provenance page, section 10.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from forebear.errors import (
    EnvironmentFailure,
    ForebearError,
    FormatError,
    MissingExtra,
    PathError,
    SignatureError,
)
from forebear.evidence import worker
from forebear.evidence.disk import FOLDER, kind_of
from forebear.evidence.reproduction import parse_reproduction
from forebear.evidence.store import Evidence, SignedLink
from forebear.evidence.weights import SUFFIX, first_difference
from forebear.formats.link import TREE
from forebear.formats.statement import REPRODUCTION, parse_bundle, parse_statement
from forebear.hashing.digest import hash_tree
from forebear.pipeline import Stage
from forebear.signing.policy import TrustPolicy
from forebear.verify.products import signed_params
from forebear.verify.result import Failed, Finding, Passed, Unchecked, Verdict
from forebear.verify.trust import Unknown, signer_of

WEIGHTS = "weights"
_NOT_ASKED = "nothing was recomputed: it was not asked for"


@dataclass(slots=True)
class _Said:
    """What came of all that was asked."""

    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


class _Unknown(Exception):  # noqa: N818  # no error: it stays unchecked
    """Why something cannot be computed again here."""


def check_recomputed(evidence: Evidence, policy: TrustPolicy) -> Verdict:
    """Unchecked, since nobody asked; with what others attest."""
    return Unchecked("; ".join([_NOT_ASKED, *_attested(evidence, policy)]))


def recompute(evidence: Evidence, policy: TrustPolicy, asked: tuple[str, ...]) -> Verdict:
    """The stages, and ``weights``, that the auditor asks for."""
    said = _Said()
    for name in dict.fromkeys(asked):
        if name == WEIGHTS:
            _hold_to_parents(evidence, said)
        else:
            _recompute_stage(evidence, evidence.pipeline.stage(name), said)
    told = _attested(evidence, policy)
    if said.findings:
        return Failed(tuple(said.findings))
    if said.unchecked or not said.held:
        held = [f"{'; '.join(said.held)}"] if said.held else []
        return Unchecked("; ".join([*said.unchecked, *held, *told]) or "there is no checkpoint")
    return Passed("; ".join([*said.held, *told]))


# ── merges ─────────────────────────────────────────────────────────────────────────────────────


def _recompute_stage(evidence: Evidence, stage: Stage, said: _Said) -> None:
    try:
        findings = _merge(evidence, stage)
    except (_Unknown, MissingExtra, EnvironmentFailure, FormatError, PathError) as error:
        said.unchecked.append(f"{stage.name}: {_words(error)}")
        return
    if findings is None:
        said.unchecked.append(
            f"{stage.name}: is no merge that can be recomputed from its inputs alone; "
            f"in the repository `forebear reproduce {stage.name}` runs it again"
        )
        return
    said.findings += findings
    if not findings:
        said.held.append(f"{stage.name}: recomputed from its inputs to the same bytes")


def _merge(evidence: Evidence, stage: Stage) -> list[Finding] | None:
    """Findings about a merge; None for a stage that is none."""
    signed = _link(evidence, stage)
    request = {
        "argv": list(signed.link.command),
        "params": signed_params(signed),
        "root": str(evidence.root),
        "inputs": [],
    }
    probed = worker.ask("recompute", {**request, "probe": True}, needed_for="recomputing")
    if probed.get("unsupported"):
        return None
    inputs = [str(path) for path in probed["reads"]]
    _require_inputs(evidence, signed, inputs)
    with tempfile.TemporaryDirectory(prefix="forebear-recompute-") as work:
        answer = worker.ask(
            "recompute",
            {**request, "inputs": inputs, "work": work},
            needed_for=f"recomputing stage {stage.name!r}",
            threads=_threads(signed),
        )
        out, folder = str(answer["out"]), Path(str(answer["folder"]))
        digest = hash_tree(folder).digest
        if digest == signed.link.products.get(f"{TREE}{out}"):
            return []
        return [_first_difference(evidence, signed, out, folder, answer["versions"])]


def _require_inputs(evidence: Evidence, signed: SignedLink, paths: Sequence[str]) -> None:
    """Refuses to go on unless the folders that the stage read lie here as it read them.

    Raises:
        _Unknown: one does not, with its digest.
    """
    missing = []
    for path in paths:
        try:
            _require_here(evidence, path, signed.link.materials.get(f"{TREE}{path}"))
        except _Unknown as error:
            missing.append(str(error))
    if missing:
        raise _Unknown("; ".join(missing))


def _require_here(evidence: Evidence, path: str, digest: str | None) -> None:
    if digest is None:
        raise _Unknown(f"the link does not name tree:{path}")
    folder = evidence.root / path
    if kind_of(folder) != FOLDER:
        raise _Unknown(f"needs tree:{path} (sha256 {digest}), which is not here")
    if hash_tree(folder).digest != digest:
        raise _Unknown(f"needs tree:{path} (sha256 {digest}), and what lies here is another")


def _first_difference(
    evidence: Evidence, signed: SignedLink, out: str, folder: Path, versions: object
) -> Finding:
    """The first file that differs, and in it the first tensor where that can be told."""
    again = {f"{out}/{path}": digest for path, digest in hash_tree(folder).files.items()}
    signs = {
        name: digest for name, digest in signed.link.products.items() if name.startswith(f"{out}/")
    }
    names = sorted(
        name for name in again.keys() | signs.keys() if again.get(name) != signs.get(name)
    )
    weights = [name for name in names if name.endswith(SUFFIX)]
    path = (weights or names or [out])[0]
    text = f"is not what the merge of stage {signed.stage!r} gives"
    if weights and kind_of(evidence.root / out) == FOLDER:
        try:
            difference = first_difference(folder, evidence.root / out)
        except (FormatError, EnvironmentFailure) as error:
            text += f": {error.what}"
        else:
            text += f": {difference}" if difference else ""
    used = ", ".join(f"{name} {version}" for name, version in sorted(dict(versions).items())) if (
        isinstance(versions, dict)
    ) else ""  # fmt: skip
    return Finding(path, f"{text} (recomputed with {used})")


def _threads(signed: SignedLink) -> str | None:
    """Threads that a person had set for the stage; they can move bits."""
    record = signed.link.byproducts.get("forebear")
    machine = record.get("machine") if isinstance(record, dict) else None
    asked = machine.get("threads_asked") if isinstance(machine, dict) else None
    return asked if isinstance(asked, str) and asked.isdecimal() else None


# ── every checkpoint and its parents ───────────────────────────────────────────────────────────


def _hold_to_parents(evidence: Evidence, said: _Said) -> None:
    n_before = len(said.held)
    for stage in evidence.pipeline.stages:
        parents = _models_read(evidence, stage)
        for out in (out.path for out in stage.outs if out.kind == "model"):
            if parents:
                _hold(evidence, stage, out, parents, said)
    if len(said.held) == n_before and not said.findings and not said.unchecked:
        said.unchecked.append("no stage makes a checkpoint of another")


def _hold(evidence: Evidence, stage: Stage, out: str, parents: Sequence[str], said: _Said) -> None:
    try:
        signed = _link(evidence, stage)
        if len(parents) > 1 or _reads_adapter(signed):
            merged = _merge(evidence, stage)
            if merged is not None:
                said.findings += merged
                said.held += [f"{out} is the merge of {_listed(parents)}"] if not merged else []
                return
        _require_here(evidence, out, signed.link.products.get(f"{TREE}{out}"))
        _require_inputs(evidence, signed, parents)
        adapter = _adapter(evidence, stage, signed)
        answer = worker.ask(
            "compare",
            {
                "do": "edge",
                "child": str(evidence.root / out),
                "parents": [str(evidence.root / path) for path in parents],
                "adapter": str(evidence.root / adapter) if adapter else None,
            },
            needed_for="comparing weights",
        )
    except (_Unknown, ForebearError) as error:
        said.unchecked.append(f"{out}: {_words(error)}")
        return
    findings = [
        Finding(out, f"repeats the weights of {path}: stage {stage.name!r} taught it nothing")
        for path in parents
        if str(evidence.root / path) in answer["repeats"]
    ]
    held = f"{out} differs from {_listed(parents)}"
    judged = answer["adapter"]
    if adapter and isinstance(judged, dict):
        if judged["status"] == "differs":
            what = f"tensor {judged['tensor']} {judged['what']}"
            findings.append(Finding(out, f"is not {parents[0]} plus {adapter}: {what}"))
        elif judged["status"] == "unknown":
            said.unchecked.append(f"{out}: {judged['reason']}")
        else:
            held += f" by exactly {adapter}"
    said.findings += findings
    said.held += [] if findings else [held]


def _reads_adapter(signed: SignedLink) -> bool:
    return any(name.endswith("/adapter_config.json") for name in signed.link.materials)


def _adapter(evidence: Evidence, stage: Stage, signed: SignedLink) -> str | None:
    """The out that is an adapter, told by its files; None when no out is one."""
    for out in stage.outs:
        if f"{out.path}/adapter_config.json" in signed.link.products:
            _require_here(evidence, out.path, signed.link.products.get(f"{TREE}{out.path}"))
            return out.path
    return None


def _models_read(evidence: Evidence, stage: Stage) -> list[str]:
    """Deps of the stage that are checkpoints of other stages."""
    models = {
        out.path for other in evidence.pipeline.stages for out in other.outs if out.kind == "model"
    }
    return [dep for dep in stage.deps if dep in models]


def _link(evidence: Evidence, stage: Stage) -> SignedLink:
    signed = evidence.links.get(stage.name)
    if signed is None:
        raise _Unknown("its link is missing")
    return signed


# ── what others attest ─────────────────────────────────────────────────────────────────────────


def _attested(evidence: Evidence, policy: TrustPolicy) -> list[str]:
    """Reproductions among the later statements, in words, each with its signer."""
    return [line for path in evidence.later for line in _told(evidence, policy, path)]


def _told(evidence: Evidence, policy: TrustPolicy, path: str) -> Iterator[str]:
    data = evidence.read(path)
    statement = parse_statement(parse_bundle(data, where=path).envelope.payload, where=path)
    if statement.predicate_type != REPRODUCTION:
        return
    try:
        found = parse_reproduction(statement, where=path)
        signer = signer_of(data, policy, where=path)
    except (FormatError, SignatureError, MissingExtra) as error:
        yield f"{path} counts for nothing: {error.what}"
        return
    signed = evidence.links.get(found.stage)
    if signed is None or any(
        signed.link.products.get(name) != digest for name, digest in found.original.items()
    ):
        yield f"{path} is about another run of stage {found.stage!r}"
    elif isinstance(signer, Unknown):
        yield f"{path} says that {found.stage} came out {found.verdict}, but {signer.reason}"
    elif found.keyid != signed.envelope.keyid or _keyid(data, path) == found.keyid:
        yield f"{path}: {found.stage} came out {found.verdict}, by the key of the original itself"
    else:
        changed = f" with other params ({', '.join(sorted(found.changed_params))})"
        yield (
            f"attested by {signer.name}: {found.stage} run again"
            f"{changed if found.changed_params else ''} came out {found.verdict}"
        )


def _keyid(data: bytes, path: str) -> str:
    return parse_bundle(data, where=path).envelope.keyid


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(PurePosixPath(path).as_posix() for path in paths)


def _words(error: Exception) -> str:
    if isinstance(error, MissingExtra):
        return f"{error.what} ({error.fix})"
    return str(error).replace("\n  fix: ", "; ") if not isinstance(error, ForebearError) else (
        f"{error.where}: {error.what}" if error.where else error.what
    )  # fmt: skip
