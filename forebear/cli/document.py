"""``forebear document``: writes the documents, or says what they still lack."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forebear.documents.build import Inputs
    from forebear.documents.check import DocumentFinding

SCHEMA = "forebear.document-check/v0"
_STAGE = "document"


@click.command(name="document")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to, instead of the one that dvc.yaml declares.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing; list what is missing or weak.")
@click.option("--strict", is_flag=True, help="Count warnings as failures.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def command(*, out: Path | None, check: bool, strict: bool, as_json: bool) -> int:
    """Write the model card and the hub card from signed evidence and declarations.

    Missing statements by people are shown as MISSING, and the exit code is then 1. Evidence that
    is not what its link signs stops the command, and nothing is written.

    \b
    Example:
      forebear document --check
    """  # noqa: D301  # click reads the backspace
    from forebear.documents.build import build_documents, write_documents
    from forebear.documents.check import check_documents
    from forebear.pipeline import find_root

    root = find_root()
    inputs, declared_out = _inputs(root)
    facts, files = build_documents(inputs)
    folder = out if out is not None else root / declared_out
    if not check:
        write_documents(files, folder)
    findings = check_documents(facts)
    failed = any(finding.severity == "error" or strict for finding in findings)
    if as_json:
        body = {
            "schema": SCHEMA,
            "ok": not failed,
            "draft": facts.draft,
            "findings": [finding.to_json() for finding in findings],
        }
        click.echo(json.dumps(body, ensure_ascii=False, sort_keys=True))
    else:
        _show(findings, None if check else folder, n_files=len(files), draft=facts.draft)
    return 1 if failed else 0


def _show(
    findings: list[DocumentFinding], folder: Path | None, *, n_files: int, draft: bool
) -> None:
    for finding in findings:
        click.echo(str(finding))
    if folder is not None:
        click.echo(f"{n_files} {'drafts' if draft else 'files'} in {folder}")
    elif not findings:
        click.echo("nothing is missing")


def _inputs(root: Path) -> tuple[Inputs, Path]:
    """What the ``document`` stage of dvc.yaml reads, and the folder it writes to.

    Raises:
        ConfigError: there is no such stage, or its command lacks an option.
    """
    from forebear.documents.build import inputs_of
    from forebear.errors import ConfigError
    from forebear.pipeline import inner_argv, load_pipeline

    stage = load_pipeline(root).stage(_STAGE)
    words = inner_argv(stage)
    out = next((value for word, value in itertools.pairwise(words) if word == "--out"), None)
    if out is None:
        raise ConfigError("the command lacks --out", where=f"dvc.yaml: {_STAGE}.cmd")
    return inputs_of(words, root, stage.params), Path(out)
