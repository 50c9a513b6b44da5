"""Collects the facts: evidence, release params and declarations become values.

Each stage's figures are found through its signed link, so no path stands here. A figure that a
stage did not record is unknown, with the reason; nothing is recomputed but sums and maxima over
bound values, which list their inputs.

Source: compliance page, sections 1, 3, 5 (compute) and 9.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from forebear.documents.data import collect_data
from forebear.documents.evaluation import collect_evaluation
from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer, value_of
from forebear.documents.values import (
    EvidenceFile,
    Facts,
    Row,
    Tables,
    Value,
    Values,
    leaf_id,
    not_applicable,
    unknown,
)
from forebear.formats import strictjson
from forebear.formats.link import PARAMS, params_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebear.documents.declarations import Declarations

_MAX_EXACT = 2**53  # larger integers have no canonical JSON form
_NO_TRAINING = "the stage records no training steps, so it updates no parameters"


class ReleaseParams(BaseModel):
    """What the release is called; the ``document`` section of the params.

    Attributes:
        name: name of the model, as it shall be published.
        version: semantic version of the release.
        notes: what is new, one line each.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=96, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$")
    notes: tuple[str, ...] = Field(default=(), strict=False)


class Sources:
    """The files that the caller names; each is None where the repository has none.

    Args:
        base: what the base stage knows of the model it fetched.
        ledger: the ledger's roots.
        gate: the gate's verdict.
        comparison: scores side by side.
    """

    def __init__(
        self,
        *,
        base: SignedFile | None,
        ledger: SignedFile | None,
        gate: SignedFile | None,
        comparison: SignedFile | None,
    ) -> None:
        self.base, self.ledger, self.gate, self.comparison = base, ledger, gate, comparison


def collect_facts(
    evidence: Evidence,
    sources: Sources,
    *,
    own_stage: str,
    params: Mapping[str, Any],
    declarations: Declarations,
) -> Facts:
    """All facts of one release.

    Args:
        evidence: the checked links and files.
        sources: the files with a meaning of their own.
        own_stage: name of the stage that writes the documents.
        params: that stage's resolved params, as its link will sign them.
        declarations: what people declared.
    """
    release = _params_file(own_stage, params)
    values: Values = {}
    tables: Tables = {}
    _collect_model(values, tables, evidence, sources, release)
    _collect_training(values, tables, evidence)
    collect_data(values, tables, evidence, sources.ledger)
    collect_evaluation(values, tables, sources.gate, sources.comparison)
    tables["limit.allowances"] = _allowances(evidence)
    values.update(declarations.values)
    tables.update(declarations.tables)
    files = [file.file() for file in [*evidence.used(), release]]
    return Facts(
        document_time=evidence.newest,
        evidence_root=evidence_root(files, declarations.sha256),
        declarations_sha256=declarations.sha256,
        evidence=tuple(files),
        values=values,
        tables=tables,
        missing=declarations.missing,
    )


def _params_file(own_stage: str, params: Mapping[str, Any]) -> SignedFile:
    """The stage's own params as evidence: the virtual artifact that its link will sign."""
    return SignedFile(
        path=f"{PARAMS}{own_stage}",
        sha256=params_digest(dict(params)),
        content=dict(params),
        link=f"links/{own_stage}.link",
        link_sha256=None,
    )


def evidence_root(files: Sequence[EvidenceFile], declarations: str | None) -> str:
    """Digest over path and digest of every file used, and of the declarations."""
    pairs = [[file.path, file.sha256] for file in files]
    if declarations is not None:
        pairs.append(["declarations", declarations])
    return hashlib.sha256(strictjson.canonical(sorted(pairs))).hexdigest()


def _collect_model(
    values: Values, tables: Tables, evidence: Evidence, sources: Sources, release: SignedFile
) -> None:
    section = "no name is given in the release's parameters"
    values["model.name"] = release.value("/document/name", reason=section)
    values["model.version"] = release.value("/document/version", reason=section)
    values["release.changes"] = release.value("/document/notes", reason="no notes are given")
    final = _final_model(evidence, sources.gate)
    values["model.digest"] = (
        unknown("no measured checkpoint is the output of a signed stage")
        if final is None
        else evidence.link(final[0]).value(pointer("products", final[1], "sha256"))
    )
    figures = None if final is None else evidence.metrics(final[0])
    base = value_of(sources.base, "the base stage left no description")
    own = base if figures is None else figures.value
    counted = own("/n_params", unit="parameters")
    values["model.params_total"] = (
        counted if counted.kind == "computed" else base("/parameters/total", unit="parameters")
    )
    values["model.params_active"] = base("/parameters/active", unit="parameters")
    stored = own("/dtype")
    values["model.dtype"] = stored if stored.kind == "computed" else base("/dtype")
    values["model.architecture"] = base("/architecture")
    values["model.context_length"] = base("/context_length", unit="tokens")
    values["model.vocab_size"] = base("/vocabulary", unit="entries")
    values["use.chat_template_sha256"] = base("/chat_template_sha256")
    values["model.base.languages"] = base("/languages")
    values["model.base.signature"] = base("/upstream_signature")
    values["train.forgetting"] = evidence.search("/validation/forgetting")
    values["model.base.tuned"] = base("/instruction_tuned/evidence")
    tables["model.ancestors"] = _ancestors(evidence, sources.base)


def _final_model(evidence: Evidence, gate: SignedFile | None) -> tuple[str, str] | None:
    """Stage and directory product of the checkpoint that the gate judged."""
    digest = None if gate is None else gate.get("/candidate_tree")
    return evidence.tree_producer(digest) if isinstance(digest, str) else None


def _ancestors(evidence: Evidence, base: SignedFile | None) -> tuple[Row, ...]:
    rows = []
    if base is not None:
        rows.append(
            Row(
                key="base",
                cells={
                    "name": base.value("/repo"),
                    "relation": base.value("/relation"),
                    "revision": base.value("/revision", reason="the source has no revision"),
                    "licence": base.value("/licence"),
                },
            )
        )
    for stage in evidence.stages:
        figures = evidence.metrics(stage)
        if figures is not None and figures.get("/teacher/name") is not None:
            rows.append(
                Row(
                    key=f"teacher:{stage}",
                    cells={
                        "name": figures.value("/teacher/name"),
                        "relation": figures.value("/method"),
                        "revision": figures.value(
                            "/teacher/tree", "/teacher/revision", reason="the teacher has none"
                        ),
                        "licence": figures.value(
                            "/teacher/licence", "/teacher/terms", reason="not recorded"
                        ),
                    },
                )
            )
    return tuple(rows)


def _collect_training(values: Values, tables: Tables, evidence: Evidence) -> None:
    rows = tuple(_stage_row(evidence, stage) for stage in evidence.stages)
    tables["train.stages"] = rows
    flop = "train.flop_modification"
    values[flop] = _total(rows, ("flop",), "FLOP", estimate=True, what="compute")
    values[f"{flop}_cumulative"] = _total(
        rows, ("flop", "flop_sampling"), "FLOP", estimate=True, what="compute"
    )
    values["train.flop_base"] = unknown("no published figure for the original model is recorded")
    values["train.wall_seconds"] = _total(rows, ("wall",), "seconds", what="time")
    values["train.cpu_seconds"] = _total(rows, ("cpu",), "seconds", what="processor time")
    values["train.peak_memory"] = _total(rows, ("memory",), "bytes", what="memory", largest=True)
    values["train.energy_modification"] = _total(rows, ("energy",), "kWh", what="energy")


def _stage_row(evidence: Evidence, stage: str) -> Row:
    link = evidence.link(stage)
    figures = evidence.metrics(stage)
    of = value_of(figures, "the stage writes no figures")

    def run(*names: str, unit: str | None = None) -> Value:
        return link.value(
            pointer(*RUN, *names), reason="not recorded in the stage's link", unit=unit
        )

    trains = figures is not None and figures.get("/flop", "/steps", "/loss_first") is not None
    idle = not_applicable(_NO_TRAINING)
    method = {"method": str(figures.get("/flop_method") or "6·N·D")} if figures else {}
    cells = {
        "name": link.value("/name"),
        "method": of("/method")
        if figures is not None and figures.get("/method") is not None
        else not_applicable("the stage names no method"),
        "tokens": of("/tokens", unit="tokens") if trains else idle,
        "tokens_padded": of("/tokens_padded", unit="tokens") if trains else idle,
        "flop": of("/flop", unit="FLOP", estimate=True, **method) if trains else idle,
        "flop_sampling": of("/sampling/flop", unit="FLOP", estimate=True, **method)
        if figures is not None and figures.get("/sampling/flop") is not None
        else not_applicable("the stage generates no training text"),
        "loss_first": of("/loss_first") if trains else idle,
        "loss_last": of("/loss_last") if trains else idle,
        "steps": of("/steps", unit="steps") if trains else idle,
        "started": run("started"),
        "ended": run("ended"),
        "wall": run("wall_s", unit="seconds"),
        "cpu": run("cpu_s", unit="seconds"),
        "memory": run("max_rss_bytes", unit="bytes"),
        "energy": link.value(
            pointer(*RUN, "energy", "kwh"), unit="kWh", reason="no meter was read"
        ),
        "processor": run("machine", "cpu"),
        "cores": run("machine", "cores", unit="cores"),
        "commit": run("git", "commit"),
        "uncommitted": run("git", "dirty"),
        "confinement": run("confinement", "level"),
    }
    return Row(key=stage, cells=cells)


def _total(  # noqa: PLR0913  # named arguments, each said once per total
    rows: Sequence[Row],
    columns: Sequence[str],
    unit: str,
    *,
    what: str,
    estimate: bool = False,
    largest: bool = False,
) -> Value:
    """Sum (or maximum) over cells that are known; unknown when none is, or any is missing.

    Cells that do not apply add nothing. A sum with an unknown part would be a lower bound that
    looks like a total, so it is shown as unknown.
    """
    cells = [(leaf_id("train.stages", row.key, c), row.cells[c]) for row in rows for c in columns]
    lacking = [name for name, cell in cells if cell.kind == "unknown"]
    known = {name: v for name, cell in cells if isinstance(v := cell.value, (int, float))}
    if lacking or not known:
        n = len(lacking)
        return unknown(f"{what} is not recorded for {n} stage{'s' if n != 1 else ''}")
    return Value(
        kind="computed",
        value=total_of(list(known.values()), largest=largest),
        unit=unit,
        estimate=estimate,
        method="maximum" if largest else "sum",
        inputs=tuple(known),
    )


def total_of(numbers: Sequence[Any], *, largest: bool) -> Any:
    """Sum, or maximum, in the order given; as a float where an integer has no canonical form.

    Raises:
        TypeError: they cannot be added or compared.
    """
    if not numbers:
        raise TypeError("nothing is to be added")
    result = max(numbers) if largest else sum(numbers)
    if isinstance(result, int) and abs(result) >= _MAX_EXACT:
        return float(result)
    return result


def _allowances(evidence: Evidence) -> tuple[Row, ...]:
    """Rules that params set aside, as the links record them."""
    rows = []
    for stage in evidence.stages:
        link = evidence.link(stage)
        at = pointer(*RUN, "allowances")
        listed = link.get(at)
        for number in range(len(listed) if isinstance(listed, list) else 0):
            cells = {
                name: link.value(f"{at}/{number}/{name}", reason="not stated")
                for name in ("rule", "reason", "by")
            }
            cells["stage"] = link.value("/name")
            rows.append(Row(key=f"{stage}:{number}", cells=cells))
    return tuple(rows)
