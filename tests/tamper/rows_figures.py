"""Rows 73 to 77: results, verdicts, waivers and documents that are not what they seem.

Most rows deceive an honest owner: a stage's outs are edited before its link is signed, so that the
whole release is signed over the lie and every other check holds. Only looking into the files helps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from forebear.documents.build import FACTS, INDEX, render_documents, write_documents
from forebear.documents.values import Facts
from forebear.gate.report import compare, metrics
from forebear.gate.runs import load_run
from forebear.gate.settings import GateSettings
from forebear.gate.verdict import decide
from forebear.hashing.digest import hash_tree
from tests.support.full_release import (
    CHECKPOINT,
    DOCUMENTS,
    PARAMS,
    VERDICT,
    Edit,
    add_waiver,
    edit_json,
    edit_text,
    write_json,
    write_run,
    write_verdict,
)

GATE = f"{VERDICT}/gate.json"
CARD = "model-card.oecd.md"
STRICT = {"required": {"mc4": {"vs": "base", "min_gain": 0.9}}}  # not reached: INCONCLUSIVE


@dataclass(frozen=True)
class Lie:
    """One way to deceive an owner.

    Attributes:
        id: row of the design, with a letter.
        check: the check that must fail, and the only one that may.
        edit: what is edited, by stage.
        where: file that the first finding must name.
        says: text that some finding must hold.
        params: as for ``build_full_release``.
    """

    id: str
    check: str
    edit: Mapping[str, Edit]
    where: str
    says: str
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _tree(repo: Path, path: str = CHECKPOINT) -> str:
    return hash_tree(repo / path).digest


def _both(*edits: Edit) -> Edit:
    def edit(repo: Path) -> None:
        for one in edits:
            one(repo)

    return edit


def _weak_results(repo: Path) -> None:
    write_run(repo, "final", _tree(repo), right=30)


def _gate(**changes: Any) -> Edit:
    return edit_json(GATE, lambda gate: gate.update(changes))


def _judged_as_shipped(repo: Path) -> None:
    _gate(candidate_tree=_tree(repo))(repo)


def _other_margins(repo: Path) -> None:
    write_verdict(repo, {**PARAMS["eval"], "margins": {"mc4": 0.5}})


def _one_reference_left_out(repo: Path) -> None:
    _gate(references=[], pairs=[])(repo)


SEARCHED = {"contamination": {"max_rate": {"golden": 0.0, "default": 0.01}}}
CONTAMINATION = f"{VERDICT}/contamination.json"


def searched(*ids: str, gate_ids: tuple[str, ...] | None = None) -> Edit:
    """The verdict after a search of the training texts.

    Args:
        ids: items that ``contamination.json`` says were found.
        gate_ids: those that the gate was told of; the same when left out.
    """

    def edit(repo: Path) -> None:
        said, told = (
            {"schema": "forebear/contamination/v1", "sets": {"mc4": {"all": list(found)}}}
            for found in (ids, ids if gate_ids is None else gate_ids)
        )
        write_json(repo / CONTAMINATION, said)
        runs = [load_run(repo / "data/measure" / name) for name in ("final", "base")]
        settings = GateSettings.model_validate({**PARAMS["eval"], **SEARCHED})
        write_json(repo / GATE, decide(runs[0], runs[1:], settings, told))
        write_json(repo / f"{VERDICT}/comparison.json", compare(runs[0], runs[1:], settings, told))

    return edit


def against_previous(changes: Mapping[str, Any]) -> Edit:
    """The verdict that takes the base for the previous release, as its own run calls itself."""

    def edit(repo: Path) -> None:
        ours, base = (load_run(repo / "data/measure" / name) for name in ("final", "base"))
        others = [replace(base, name="previous")]
        settings = GateSettings.model_validate({**PARAMS["eval"], **changes})
        gate, comparison = decide(ours, others, settings), compare(ours, others, settings)
        write_json(repo / GATE, gate)
        write_json(repo / f"{VERDICT}/comparison.json", comparison)
        write_json(repo / "data/eval/metrics.json", metrics(gate, comparison))

    return edit


def document_edit(name: str, old: str, new: str) -> Edit:
    """A shipped document edited, and the index made to agree."""

    def reindex(repo: Path) -> None:
        digest = hashlib.sha256((repo / DOCUMENTS / name).read_bytes()).hexdigest()

        def change(index: dict[str, Any]) -> None:
            for entry in index["documents"]:
                if entry["path"] == name:
                    entry["sha256"] = digest

        edit_json(f"{DOCUMENTS}/{INDEX}", change)(repo)

    return _both(edit_text(f"{DOCUMENTS}/{name}", old, new), reindex)


def facts_edit(change: Callable[[dict[str, Any]], object]) -> Edit:
    """The facts edited, and every document rendered from the edited ones."""

    def edit(repo: Path) -> None:
        value = json.loads((repo / DOCUMENTS / FACTS).read_bytes())
        change(value)
        write_json(repo / DOCUMENTS / FACTS, value)
        facts = Facts.model_validate_json((repo / DOCUMENTS / FACTS).read_bytes())
        write_documents(render_documents(facts), repo / DOCUMENTS)

    return edit


def _result(facts: dict[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = facts["tables"]["eval.results"][0]["cells"]
    return cells


def _flatter(facts: dict[str, Any]) -> None:
    _result(facts)["candidate_score"]["value"] = 0.95


def _narrow(facts: dict[str, Any]) -> None:
    _result(facts)["candidate_score"]["interval"]["low"] = 0.83


def _cite_another_place(facts: dict[str, Any]) -> None:
    cells = _result(facts)
    cells["reference_score"] = cells["candidate_score"]


def _leave_out(facts: dict[str, Any]) -> None:
    facts["values"]["train.cpu_seconds"] = {"kind": "unknown", "reason": "not recorded"}


def _shrink_a_sum(facts: dict[str, Any]) -> None:
    value = facts["values"]["train.wall_seconds"]
    value["value"] -= 1


def _invent_a_file(facts: dict[str, Any]) -> None:
    ref = facts["values"]["model.architecture"]["evidence"][0]
    ref.update(path="../../etc/hostname", pointer="")


def _claim_for_documents(facts: dict[str, Any]) -> None:
    facts["values"]["data.ledger.kept_documents"]["value"] = 99


LIES = [
    Lie(
        "73a-results-of-another-checkpoint", "C13",
        {
            "measure@final": lambda repo: write_run(
                repo, "final", _tree(repo, "data/sft/checkpoint")
            ),
            "eval": _judged_as_shipped,
        },
        "data/measure/final/run.json", "did not read",
    ),
    Lie(
        "73b-results-of-the-base-counted-as-anothers", "C13",
        {"measure@base": lambda repo: write_run(repo, "base", "a" * 64)},
        "data/measure/base/run.json", "did not read",
    ),
    Lie(
        "74a-verdict-edited-to-pass", "C13",
        {"measure@final": _weak_results, "eval": _gate(verdict="PASS")},
        GATE, "verdict is 'PASS', the results give 'FAIL'",
    ),
    Lie(
        "74b-whole-verdict-of-better-results", "C13",
        {
            "measure@final": _weak_results,
            "eval": _both(
                lambda repo: write_run(repo, "final", _tree(repo)),
                lambda repo: write_verdict(repo, PARAMS["eval"]),
                _weak_results,
            ),
        },
        GATE, "the results give 'FAIL'",
    ),
    Lie("74c-other-margins", "C13", {"eval": _other_margins}, GATE, "does not follow"),
    Lie("74d-reference-left-out", "C13", {"eval": _one_reference_left_out}, GATE, "other runs"),
    Lie(
        "74e-one-number", "C13",
        {"eval": edit_json(GATE, lambda gate: gate["pairs"][0].update(lower=0.6))},
        GATE, "pairs[0] differs",
    ),
    Lie(
        "74f-golden-items-in-the-training-texts-kept-from-the-gate", "C13",
        {"eval": searched("q0001", gate_ids=())}, CONTAMINATION, "not what the verdict names",
        {"eval": SEARCHED},
    ),
    Lie(
        "74g-training-texts-never-searched", "C13",
        {"eval": lambda repo: write_verdict(repo, PARAMS["eval"])},
        GATE, "the results give 'INCONCLUSIVE'", {"eval": SEARCHED},
    ),
    Lie(
        "76a-figure-in-a-card", "C14",
        {"document": document_edit(CARD, "134.5 million", "13.5 million")},
        f"{DOCUMENTS}/{CARD}", "model.params_total",
    ),
    Lie(
        "76b-figure-in-a-table", "C14",
        {"document": document_edit("README.md", " 0.833 (", " 0.933 (")},
        f"{DOCUMENTS}/README.md", "eval.results['Title to code, one sibling",
    ),
    Lie(
        "76c-figure-in-the-json-card", "C14",
        {"document": document_edit("model-card.oecd.json", "134515008", "134515009")},
        f"{DOCUMENTS}/model-card.oecd.json", "model.params_total",
    ),
    Lie(
        "76d-fact-and-all-documents", "C14", {"document": facts_edit(_flatter)},
        f"{DOCUMENTS}/{FACTS}", "eval.results[mc4:acc:base].candidate_score",
    ),
    Lie(
        "76e-interval", "C14", {"document": facts_edit(_narrow)},
        f"{DOCUMENTS}/{FACTS}", "interval whose low",
    ),
    Lie(
        "76f-figure-of-another-place", "C14", {"document": facts_edit(_cite_another_place)},
        f"{DOCUMENTS}/{FACTS}", "eval.results[mc4:acc:base].reference_score",
    ),
    Lie(
        "76g-figure-left-out", "C14", {"document": facts_edit(_leave_out)},
        f"{DOCUMENTS}/{FACTS}", "train.cpu_seconds: is left out",
    ),
    Lie(
        "76h-sum", "C14", {"document": facts_edit(_shrink_a_sum)},
        f"{DOCUMENTS}/{FACTS}", "train.wall_seconds",
    ),
    Lie(
        "76i-evidence-outside-the-release", "C14", {"document": facts_edit(_invent_a_file)},
        f"{DOCUMENTS}/{FACTS}", "model.architecture",
    ),
    Lie(
        "76j-count-of-the-ledger", "C14", {"document": facts_edit(_claim_for_documents)},
        f"{DOCUMENTS}/{FACTS}", "data.ledger.kept_documents",
    ),
    Lie(
        "76k-sentence-added", "C14",
        {"document": document_edit(CARD, "\n---\n", "\nIt is certified.\n---\n")},
        f"{DOCUMENTS}/{CARD}", "certified",
    ),
]  # fmt: skip

WAIVED = {"eval": add_waiver}
