"""Facts of models that wrote training text: who they are, on what terms, how much was kept.

The stage's figures and its signed params say what ran; whether a model is on the market, and where
the summary of its own training data is, only its user can declare. A checkpoint of this pipeline is
told from others by its digest: some link here signs it.

Source: compliance page, section 9.1 (generator) and D5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebear.documents.ancestors import ownership
from forebear.documents.evidence import RUN, Evidence, SignedFile, pointer
from forebear.documents.fields import GENERATORS
from forebear.documents.values import Row, Tables, Value, not_applicable, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = "data.generators"
_OURS = not_applicable("a checkpoint of this pipeline")
_DECLARED = ("provider", "on_market", "summary_url")


def collect_generators(
    tables: Tables, evidence: Evidence, declared: Mapping[str, tuple[Row, ...]]
) -> None:
    """Adds ``data.generators``: one row per stage that trains on text which a model wrote."""
    said = {row.key: row.cells for row in declared.get(GENERATORS, ())}
    rows = []
    for stage in evidence.stages:
        figures = evidence.metrics(stage)
        if figures is None:
            continue
        if figures.get("/teacher") is not None:
            rows.append(_teacher_row(evidence, stage, figures, said))
        elif figures.get("/pairs_from_policy") or figures.get("/policy_tree"):
            rows.append(_policy_row(evidence, stage, figures))
    tables[TABLE] = tuple(rows)


def _teacher_row(
    evidence: Evidence,
    stage: str,
    figures: SignedFile,
    said: Mapping[str, Mapping[str, Value]],
) -> Row:
    link = evidence.link(stage)
    at = pointer(*RUN, "params", stage, "teacher")
    name = str(figures.get("/teacher/model", "/teacher/name"))
    cells = {
        "set": figures.value("/yield/kept", reason="not counted").model_copy(
            update={"value": f"{stage}-trajectories", "method": f"named {stage}-trajectories"}
        )
        if figures.get("/yield/kept") is not None
        else unknown("the stage counts no trajectories"),
        "model": figures.value("/teacher/model", "/teacher/name"),
        "name": figures.value("/teacher/name"),
        "revision": figures.value(
            "/teacher/accessed", "/teacher/revision", "/teacher/tree", reason="not recorded"
        ),
        "digest": figures.value("/teacher/tree", reason="the model is not here to be hashed"),
        "kind": figures.value("/teacher/kind"),
        "terms": link.value(f"{at}/terms", reason="no terms are recorded"),
        "training_on_output": figures.value(
            "/teacher/training_on_output",
            reason="not recorded",
        ) if figures.get("/teacher/training_on_output") is not None
        else link.value(f"{at}/training_on_output", reason="not recorded"),
        "accepted": figures.value("/yield/kept", unit="answers"),
        "answers": figures.value("/yield/answers", unit="answers"),
        "prompts": figures.value("/sampling/prompts", unit="prompts"),
        "verifier": link.value(pointer(*RUN, "params", stage, "verifier")),
        "temperature": link.value(pointer(*RUN, "params", stage, "temperature")),
        **_ownership(evidence, figures, "/teacher/tree"),
    }  # fmt: skip
    ours = cells["own"].value is True
    mine = said.get(name, said.get(str(figures.get("/teacher/name")), {}))
    lacking = unknown("not declared; the data owner can supply it")
    for column in _DECLARED:
        cells[column] = _OURS if ours else mine.get(column, lacking)
    if cells["terms"].value is None and "terms" in mine:
        cells["terms"] = mine["terms"]
    return Row(key=stage, cells=cells)


def _policy_row(evidence: Evidence, stage: str, figures: SignedFile) -> Row:
    """A stage whose own starting checkpoint wrote the answers that were ordered."""
    counted = figures.value("/pairs", reason="not counted")
    cells = {
        "set": counted.model_copy(
            update={"value": f"{stage}-pairs", "method": f"named {stage}-pairs"}
        ) if counted.value is not None else counted,
        "digest": figures.value("/policy_tree", reason="not recorded"),
        "revision": figures.value("/policy_tree", reason="not recorded"),
        "kind": figures.value("/policy_tree", reason="not recorded").model_copy(
            update={"value": "checkpoint", "method": "named checkpoint"}
        ) if figures.get("/policy_tree") else unknown("not recorded"),
        "terms": _OURS,
        "training_on_output": _OURS,
        "accepted": figures.value("/pairs_from_policy", unit="pairs"),
        "answers": figures.value("/sampling/answers", unit="answers", reason="not counted"),
        "prompts": figures.value("/sampling/prompts", unit="prompts", reason="not counted"),
        "verifier": evidence.link(stage).value(pointer(*RUN, "params", stage, "verifier")),
        "temperature": evidence.link(stage).value(pointer(*RUN, "params", stage, "temperature")),
        **_ownership(evidence, figures, "/policy_tree"),
        **dict.fromkeys(_DECLARED, _OURS),
    }  # fmt: skip
    cells["model"] = cells["name"] = cells["made_by"]
    return Row(key=stage, cells=cells)


def _ownership(evidence: Evidence, figures: SignedFile, at: str) -> dict[str, Value]:
    """Whether a stage of this pipeline made the model, and which."""
    digest = figures.get(at)
    producer = evidence.tree_producer(digest) if isinstance(digest, str) else None
    if producer is None:
        outside = unknown("no stage here made it")
        return {"own": outside, "made_by": outside}
    return {
        "own": ownership(evidence, digest),
        "made_by": evidence.link(producer[0]).value("/name"),
    }
