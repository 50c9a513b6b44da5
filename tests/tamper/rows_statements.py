"""Rows about statements, the graph they tell, the release as a whole, and what was added later."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from typing import Any

from forebear.formats.statement import APPROVAL, Statement
from forebear.release.owner import sign_bundle
from tests.support.release import CHECKPOINT
from tests.tamper.case import Case
from tests.tamper.matrix import row

PROVENANCE = f"attestations/{CHECKPOINT}/provenance.sigstore.json"
OF_BASE = "attestations/data/base/checkpoint/provenance.sigstore.json"
OF_STAGE = "attestations/stages/sft.provenance.sigstore.json"
RELEASE = "release.sigstore.json"

Dependencies = list[dict[str, Any]]


@row("58", "C10")
def valid_statement_of_another_checkpoint(case: Case) -> None:
    shutil.copy(case.file(OF_BASE), case.file(PROVENANCE))


@row("58b", "C10")
def valid_statement_of_another_stage(case: Case) -> None:
    shutil.copy(case.file("attestations/stages/base.provenance.sigstore.json"), case.file(OF_STAGE))


@row("58c", "C8", "C10")
def valid_statement_of_another_run(case: Case) -> None:
    """The stage was run again to other weights, and the owner's older statement was kept."""

    def other_run(statement: dict[str, Any]) -> None:
        for subject in statement["subject"]:
            subject["digest"]["sha256"] = "1" * 64

    case.change_payload(OF_STAGE, other_run, signer=case.built.owner)


@row("59", "C10")
def dependency_removed_by_signer(case: Case) -> None:
    _change_dependencies(case, PROVENANCE, lambda deps: deps.pop(_at(deps, "stages/sft.py")))


@row("59b", "C10")
def tree_dependency_removed_by_signer_from_every_statement(case: Case) -> None:
    for path in (PROVENANCE, OF_STAGE):
        for name in ("tree:data/base/checkpoint", "data/base/checkpoint/config.json",
                     "data/base/checkpoint/model.safetensors",
                     "data/base/checkpoint/sub/empty.txt"):  # fmt: skip
            _change_dependencies(case, path, lambda deps, name=name: deps.pop(_at(deps, name)))


@row("59c", "C10")
def dependency_exchanged_by_signer(case: Case) -> None:
    _change_dependencies(
        case,
        OF_STAGE,
        lambda deps: deps[_at(deps, "tree:data/base/checkpoint")]["digest"].update(sha256="1" * 64),
    )


@row("59d", "C10")
def dependency_invented_by_signer(case: Case) -> None:
    extra = {"name": "data/extra.jsonl", "digest": {"sha256": "1" * 64}}
    _change_dependencies(case, OF_STAGE, lambda deps: deps.append(extra))


@row("59e", "C10")
def link_upstream_exchanged_by_signer(case: Case) -> None:
    def exchange(deps: Dependencies) -> None:
        for dep in deps:
            if "annotations" in dep:
                dep["digest"]["sha256"] = "1" * 64

    _change_dependencies(case, PROVENANCE, exchange)


@row("59f", "C10")
def commit_exchanged_by_signer(case: Case) -> None:
    _change_dependencies(
        case, PROVENANCE, lambda deps: deps[_at(deps, None)]["digest"].update(gitCommit="1" * 40)
    )


@row("59g", "C10")
def statement_of_a_stage_left_out(case: Case) -> None:
    case.file(OF_STAGE).unlink()


@row("59h", "C10")
def predicate_without_form(case: Case) -> None:
    case.change_payload(
        PROVENANCE,
        lambda statement: statement["predicate"].update(buildDefinition=[]),
        signer=case.built.owner,
    )


def _change_dependencies(case: Case, path: str, change: Callable[[Dependencies], object]) -> None:
    def inside(statement: dict[str, Any]) -> None:
        change(statement["predicate"]["buildDefinition"]["resolvedDependencies"])

    case.change_payload(path, inside, signer=case.built.owner)


def _at(deps: Dependencies, name: str | None) -> int:
    return next(at for at, dep in enumerate(deps) if dep.get("name") == name)


# ── the release as a whole ─────────────────────────────────────────────────────────────────────


def _predicate(**changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.change_payload(
            RELEASE, lambda one: one["predicate"].update(changes), signer=case.built.owner
        )

    return change


@row("38b", "C11")
def serial_not_above_the_previous(case: Case) -> None:
    _predicate(previous={"serial": 1, "sha256": "0" * 64})(case)


@row("38c", "C11")
def malformed_previous(case: Case) -> None:
    _predicate(previous={"serial": 0, "sha256": "0"})(case)


@row("38d", "C11")
def serial_that_is_no_number(case: Case) -> None:
    _predicate(serial=True)(case)


@row("38e", "C8")
def release_statement_of_a_recorder(case: Case) -> None:
    """C11 rests on C8, which refuses it."""
    case.change_payload(
        RELEASE, lambda one: one["predicate"].update(serial=9), signer=case.built.recorder
    )


@row("63d", "C11")
def other_owner_key_in_the_release(case: Case) -> None:
    case.change_payload(
        RELEASE,
        lambda one: one["subject"].remove(
            next(subject for subject in one["subject"] if subject["name"] == "owner.pub")
        ),
        signer=case.built.owner,
    )


@row("77", "C11")
def declaration_edited_without_a_new_release(case: Case) -> None:
    """The owner edits a declared file and signs ``source`` anew, but no release."""
    name = "trust/README.md"
    case.change_payload(
        "links/source",
        lambda link: link["products"][name].update(sha256="1" * 64),
        signer=case.built.owner,
    )


# ── what was added later ───────────────────────────────────────────────────────────────────────


def add_later(case: Case, statement: Statement, name: str = "x", **signer: Any) -> None:
    """Puts a statement into ``later/``, signed by the owner unless ``signer`` says otherwise."""
    file = case.folder / "later" / f"{name}.sigstore.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(sign_bundle(signer.get("signer", case.built.owner), statement, where=name))


@row("81a", "C11")
def later_statement_about_nothing_here(case: Case) -> None:
    add_later(case, Statement((("tree:x", "0" * 64),), APPROVAL, {}))


@row("81b", "C11")
def later_statement_about_another_release(case: Case) -> None:
    add_later(case, Statement(((RELEASE, "0" * 64),), APPROVAL, {}))


@row("81c", "C1")
def later_file_that_is_no_bundle(case: Case) -> None:
    file = case.folder / "later" / "x.sigstore.json"
    file.parent.mkdir()
    file.write_text("{}\n")


@row("81d", "C4")
def other_file_in_later(case: Case) -> None:
    file = case.folder / "later" / "x.txt"
    file.parent.mkdir()
    file.write_text("x")


@row("81e", "C4")
def folder_in_later(case: Case) -> None:
    file = case.folder / "later" / "y" / "x.sigstore.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}\n")


@row("81f", "C8")
def later_statement_edited_after_signing(case: Case) -> None:
    (case.folder / "later").mkdir()
    shutil.copy(case.file(PROVENANCE), case.folder / "later" / "x.sigstore.json")
    case.change_payload("later/x.sigstore.json", lambda one: one["predicate"].update(more=1))


@row("81g", "C11")
def approval_that_is_missing(case: Case) -> None:
    case.policy = {"owner_threshold": 2}


@row("81h", "C11")
def approval_by_the_signer_themselves(case: Case) -> None:
    case.policy = {"owner_threshold": 2}
    _approve(case, case.built.owner)


@row("81i", "C11")
def approval_by_a_recorder(case: Case) -> None:
    case.policy = {"owner_threshold": 2}
    _approve(case, case.built.recorder)


def _approve(case: Case, signer: Any) -> None:
    digest = hashlib.sha256(case.file(RELEASE).read_bytes()).hexdigest()
    add_later(case, Statement(((RELEASE, digest),), APPROVAL, {}), signer=signer)
