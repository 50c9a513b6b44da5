"""Collects the facts: evidence, release params and declarations become values.

Each stage's figures are found through its signed link, so no path stands here. A figure that a
stage did not record is unknown, with the reason. What follows from values (totals, licences, which
duties may apply) is derived from them alone, in :mod:`forebear.documents.rules`, so that a verifier
can derive it again.

Source: compliance page, sections 1, 3 and 9.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from forebear.documents.ancestors import collect_ancestors
from forebear.documents.compute import collect_training
from forebear.documents.data import collect_data
from forebear.documents.evaluation import EvalFiles, collect_evaluation
from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer, value_of
from forebear.documents.generators import collect_generators
from forebear.documents.labels import collect_labels
from forebear.documents.legal import LegalFile, load_legal
from forebear.documents.lineage import collect_lineage
from forebear.documents.rules import FAMILIES, apply_rules, conditional
from forebear.documents.values import (
    EvidenceFile,
    Facts,
    Row,
    Tables,
    Value,
    Values,
    not_applicable,
    unknown,
)
from forebear.formats import strictjson
from forebear.formats.link import PARAMS, params_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebear.documents.declarations import Declarations


class ReleaseParams(BaseModel):
    """What the release is called; the ``document`` section of the params.

    Attributes:
        name: name of the model, as it shall be published.
        version: semantic version of the release.
        notes: what is new, one line each.
        previous: SHA-256 of the previous release's ``documents.json``; none for a first release.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=96, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$")
    notes: tuple[str, ...] = Field(default=(), strict=False)
    previous: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


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


def collect_facts(  # noqa: PLR0913  # each named once by the caller
    evidence: Evidence,
    sources: Sources,
    *,
    own_stage: str,
    params: Mapping[str, Any],
    declarations: Declarations,
    legal: LegalFile | None = None,
) -> Facts:
    """All facts of one release.

    Args:
        evidence: the checked links and files.
        sources: the files with a meaning of their own.
        own_stage: name of the stage that writes the documents.
        params: that stage's resolved params, as its link will sign them.
        declarations: what people declared.
        legal: constants of the law; those that ship with Forebear when left out.
    """
    law = legal or load_legal()
    release = _params_file(own_stage, params)
    values: Values = {}
    tables: Tables = {}
    _collect_model(values, tables, evidence, sources, release)
    collect_training(values, tables, evidence, declarations.tables)
    collect_data(values, tables, evidence, sources.ledger, declarations.tables)
    collect_generators(tables, evidence, declarations.tables)
    collect_evaluation(values, tables, EvalFiles(evidence, sources.gate, sources.comparison))
    tables["limit.allowances"] = _allowances(evidence)
    values.update(declarations.values)
    tables.update(declarations.tables)
    collect_lineage(values, tables, evidence)
    collect_labels(values, tables, evidence)
    apply_rules(values, tables, law)
    files = [file.file() for file in [*evidence.used(), release]]
    missing = [*declarations.missing, *conditional(values, tables, declarations.missing)]
    return Facts(
        document_time=evidence.newest,
        evidence_root=evidence_root(files, declarations.sha256),
        declarations_sha256=declarations.sha256,
        legal_version=law.version,
        legal_sha256=law.sha256,
        evidence=tuple(files),
        values=values,
        tables=tables,
        missing=tuple(sorted(missing, key=lambda one: one.field)),
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
    values["release.previous"] = (
        release.value("/document/previous")
        if release.get("/document/previous") is not None
        else not_applicable("no previous release is named, so this is the first")
    )
    final = _final_model(evidence, sources.gate)
    values["model.digest"] = (
        unknown("no measured checkpoint is the output of a signed stage")
        if final is None
        else evidence.link(final[0]).value(pointer("products", final[1], "sha256"))
    )
    tables["model.files"] = () if final is None else _model_files(evidence, *final)
    figures = None if final is None else evidence.metrics(final[0])
    config = None if final is None else evidence.inside(*final, "config.json")
    base = value_of(sources.base, "the base stage left no description")
    own = base if figures is None else figures.value
    configured = base if config is None else config.value
    _collect_shape(values, own, base, configured)
    values["use.chat_template_sha256"] = base("/chat_template_sha256")
    _collect_base(values, base)
    values["train.forgetting"] = evidence.search("/validation/forgetting")
    tables["model.ancestors"] = collect_ancestors(evidence, sources.base)
    tables["use.software"] = _software(evidence, sources.gate)


def _collect_shape(values: Values, own: Any, base: Any, configured: Any) -> None:
    """Sizes and formats: what the final stage counted, else its configuration, else the base's."""
    counted = own("/n_params", unit="parameters")
    values["model.params_total"] = (
        counted if counted.kind == "computed" else base("/parameters/total", unit="parameters")
    )
    active = own("/n_params_active", unit="parameters")
    values["model.params_active"] = (
        active if active.kind == "computed" else base("/parameters/active", unit="parameters")
    )
    stored = own("/dtype")
    values["model.dtype"] = stored if stored.kind == "computed" else base("/dtype")
    for name, of_config, of_base, unit in (
        ("architecture", "/architectures/0", "/architecture", None),
        ("context_length", "/max_position_embeddings", "/context_length", "tokens"),
        ("vocab_size", "/vocab_size", "/vocabulary", "entries"),
    ):
        found = configured(of_config, unit=unit)
        values[f"model.{name}"] = found if found.kind == "computed" else base(of_base, unit=unit)
    for name, at, unit in (
        ("layers", "/num_hidden_layers", "layers"),
        ("hidden_size", "/hidden_size", None),
        ("attention_heads", "/num_attention_heads", "heads"),
        ("experts", "/num_local_experts", "experts"),
    ):
        values[f"model.{name}"] = configured(at, unit=unit, reason="not in the configuration")
    family = configured("/model_type", reason="the configuration names no type")
    known = FAMILIES.get(str(family.value))
    values["model.architecture_family"] = (
        family.model_copy(update={"value": known, "method": "family by model type"})
        if known
        else unknown("the configuration's type is not in the table of families")
    )
    values["model.max_input"] = values["model.max_output"] = values["model.context_length"]


def _collect_base(values: Values, base: Any) -> None:
    """What is known of the original model."""
    values["model.base.name"] = base("/repo")
    values["model.base.revision"] = base("/revision", reason="the source has no revision")
    values["model.base.licence"] = base("/licence")
    values["model.base.languages"] = base("/languages")
    values["model.base.signature"] = base("/upstream_signature")
    values["model.base.tuned"] = base("/instruction_tuned/evidence")


def _final_model(evidence: Evidence, gate: SignedFile | None) -> tuple[str, str] | None:
    """Stage and directory product of the checkpoint that the gate judged."""
    digest = None if gate is None else gate.get("/candidate_tree")
    return evidence.tree_producer(digest) if isinstance(digest, str) else None


def _model_files(evidence: Evidence, stage: str, tree: str) -> tuple[Row, ...]:
    """The files of the released checkpoint with their digests."""
    link = evidence.link(stage)
    folder = tree.partition(":")[2]
    rows = []
    for path in evidence.products(stage):
        if path.startswith(f"{folder}/"):
            sha256 = link.value(pointer("products", path, "sha256"))
            name = sha256.model_copy(
                update={"value": path, "method": "name of the key",
                        "evidence": (link.ref(pointer("products", path)),)}
            )  # fmt: skip
            rows.append(Row(key=path[len(folder) + 1 :], cells={"path": name, "sha256": sha256}))
    return tuple(rows)


def _software(evidence: Evidence, gate: SignedFile | None) -> tuple[Row, ...]:
    """Libraries that ran the measured checkpoint, with their versions."""
    name = None if gate is None else gate.get("/candidate")
    for stage in evidence.stages:
        run = evidence.named(stage, "run.json")
        tasks = None if run is None or run.get("/name") != name else run.get("/tasks")
        if run is None or not isinstance(tasks, dict):
            continue
        found: dict[str, Row] = {}
        for task in sorted(tasks):
            at = pointer("tasks", task, "identity", "software")
            listed = run.get(at)
            for library in sorted(listed if isinstance(listed, dict) else {}):
                place = f"{at}{pointer(library)}"
                label = Value(kind="computed", value=library, method="name of the key",
                              evidence=(run.ref(place),))  # fmt: skip
                found.setdefault(
                    library, Row(key=library, cells={"name": label, "version": run.value(place)})
                )
        return tuple(found[key] for key in sorted(found))
    return ()


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
