"""``forebear document``: writes the documents, or says what they still lack."""

from __future__ import annotations

import importlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebear.documents.build import Inputs
    from forebear.documents.check import DocumentFinding
    from forebear.documents.values import Facts, Value

SCHEMA = "forebear.document-check/v1"
_STAGE = "document"
_FORMATS = ("md", "html", "json", "pdf")
_ASKED = ("md", "html", "json")  # without --format; PDF needs a library of its own
_UNCHECKED = 3
_IDS = tuple(f"D{number}" for number in range(1, 14))


class _Group(click.Group):
    """Finds its one subcommand when it is called, so that help imports nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return ["approve"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name != "approve":
            return None
        found = importlib.import_module("forebear.cli.approve").command
        return found if isinstance(found, click.Command) else None


@click.group(
    name="document", cls=_Group, invoke_without_command=True,
    epilog="Example: forebear document --check",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to, instead of the one that dvc.yaml declares.",
)  # fmt: skip
@click.option(
    "--only", metavar="ID,...", help="Documents to write, as in D1,D5; all when left out."
)
@click.option("--format", "formats", metavar="md,html,json,pdf", help="Forms to write.")
@click.option("--lang", default="en", show_default=True, help="Language of the labels.")
@click.option("--check", is_flag=True, help="Write nothing; list what is missing or weak.")
@click.option("--strict", is_flag=True, help="Count warnings as failures; ask the validators.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.option("--explain", metavar="FIELD", help="Where a value comes from, and who supplies it.")
@click.option("--schema", "schema", metavar="NAME", help="A JSON Schema, to standard output.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    out: Path | None,
    only: str | None,
    formats: str | None,
    lang: str,
    check: bool,
    strict: bool,
    as_json: bool,
    explain: str | None,
    schema: str | None,
) -> int:
    """Write the documents of a release from signed evidence and declarations.

    Missing statements by people are shown as MISSING, and the exit code is then 1. Evidence that
    is not what its link signs stops the command, and nothing is written. Exit code 3: nothing
    failed, but something asked for stayed unchecked, for a validator is not installed.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    if schema is not None:
        return _schema(schema)
    from forebear.documents.build import collect
    from forebear.documents.registry import render_formats
    from forebear.errors import ForebearError
    from forebear.pipeline import find_root

    root = find_root()
    inputs, declared_out, restricted = _inputs(root)
    inputs = replace(inputs, language=lang)
    wanted = _wanted(only, formats)
    try:
        collected = collect(inputs)
    except ForebearError as error:
        found = _evidence_finding(error)
        if found is None or not (check or as_json):
            raise
        return _report([found], [], None, draft=True, strict=strict, as_json=as_json)
    facts = collected.facts
    if explain is not None:
        return _explain(facts, explain)
    files = render_formats(facts, language=lang) if check and not strict else collected.render(lang)
    findings, unchecked = _findings(facts, files, strict=strict)
    written = None
    if not check:
        chosen, lacking = _choose(facts, files, wanted, lang)
        folder = declared_out if out is None else out.absolute()
        written = _write(chosen, root, folder, restricted if out is None else None)
        unchecked += lacking
    return _report(findings, unchecked, written, draft=facts.draft, strict=strict, as_json=as_json)


# ── findings ───────────────────────────────────────────────────────────────────────────────────


def _findings(
    facts: Facts, files: Mapping[str, bytes], *, strict: bool
) -> tuple[list[DocumentFinding], list[str]]:
    """What does not hold, and what could not be checked."""
    from datetime import UTC, datetime

    from forebear.documents.check import DocumentFinding, check_documents
    from forebear.documents.validators import unchecked_sentences, validate

    today = datetime.now(UTC).date().isoformat()
    findings = check_documents(facts, today=today)
    validation = validate(files, facts, libraries=strict)
    findings += [
        DocumentFinding(
            "C150", "error", fault.file, (fault.document,), fault.message,
            "supply the facts that the format needs, or report this",
        )
        for fault in validation.faults
    ]  # fmt: skip
    findings.sort(key=lambda one: (one.code, one.field))
    return findings, list(unchecked_sentences(validation))


def _evidence_finding(error: Exception) -> DocumentFinding | None:
    """Evidence that is missing, changed or unsigned, as a finding; None for any other error."""
    from forebear.documents.check import finding
    from forebear.documents.evidence import MissingEvidence
    from forebear.errors import SignatureError

    if not isinstance(error, (SignatureError, MissingEvidence)):
        return None
    path = error.where.partition(":")[0]
    code = "C121" if path.endswith(".link") else "C120"
    return finding(code, error.where, error.what, error.fix or "restore the file")


def _report(
    findings: list[DocumentFinding],
    unchecked: list[str],
    written: tuple[Path, int] | None,
    *,
    draft: bool,
    strict: bool,
    as_json: bool,
) -> int:
    failed = any(one.severity == "error" or strict for one in findings)
    if as_json:
        body = {
            "schema": SCHEMA,
            "ok": not failed,
            "draft": draft,
            "findings": [one.to_json() for one in findings],
            "unchecked": unchecked,
        }
        click.echo(json.dumps(body, ensure_ascii=False, sort_keys=True))
    else:
        for one in findings:
            click.echo(str(one))
        for text in unchecked:
            click.echo(f"unchecked: {text}")
        if written is not None:
            folder, n_files = written
            click.echo(f"{n_files} {'drafts' if draft else 'files'} in {folder}")
        elif not findings:
            click.echo("nothing is missing")
    if failed:
        return 1
    return _UNCHECKED if unchecked else 0


# ── writing ────────────────────────────────────────────────────────────────────────────────────


def _wanted(only: str | None, formats: str | None) -> tuple[set[str] | None, tuple[str, ...]]:
    """Ids and forms that are asked for.

    Raises:
        UsageError: no document has the id, or no such form is written.
    """
    from forebear.errors import UsageError

    ids = None if only is None else {one.strip().upper() for one in only.split(",")}
    asked = _ASKED if formats is None else tuple(one.strip().lower() for one in formats.split(","))
    for given, known, option in ((ids or (), _IDS, "--only"), (asked, _FORMATS, "--format")):
        strange = sorted(set(given) - set(known))
        if strange:
            raise UsageError(
                f"knows no {', '.join(strange)}", option, f"choose from {', '.join(known)}"
            )
    return ids, asked


def _choose(
    facts: Facts,
    files: Mapping[str, bytes],
    wanted: tuple[set[str] | None, tuple[str, ...]],
    language: str,
) -> tuple[dict[str, bytes], list[str]]:
    """The files that are asked for with an index of their own, and what could not be made."""
    from forebear.documents.build import FACTS, INDEX, render_index
    from forebear.documents.registry import entry

    ids, forms = wanted
    chosen = {
        name: data
        for name, data in files.items()
        if name == FACTS or ((ids is None or entry(name).id in ids) and _has_form(name, forms))
    }
    lacking: list[str] = []
    if "pdf" in forms:
        made, lacking = _pdfs(files, ids)
        chosen |= made
        chosen |= {name: files[name] for name in files if lacking and name.endswith(".html")
                   and (ids is None or entry(name).id in ids)}  # fmt: skip
    chosen.pop(INDEX, None)
    chosen[INDEX] = render_index(facts, chosen, language)
    return chosen, lacking


def _write(
    files: Mapping[str, bytes], root: Path, folder: Path, restricted: Path | None
) -> tuple[Path, int]:
    """Writes the files; those for authorities into a folder of their own where there is one."""
    from forebear.documents.build import write_documents
    from forebear.documents.registry import RESTRICTED

    if restricted is not None:
        apart = {name for name in files if name.startswith(RESTRICTED)}
        kept = {name.removeprefix(RESTRICTED): files[name] for name in sorted(apart)}
        write_documents(kept, root / restricted)
    else:
        apart = set()
    write_documents({n: data for n, data in files.items() if n not in apart}, root / folder)
    return root / folder, len(files)


def _has_form(name: str, forms: tuple[str, ...]) -> bool:
    form = name.rpartition(".")[2]
    return form in forms or form not in _FORMATS


def _pdfs(files: Mapping[str, bytes], ids: set[str] | None) -> tuple[dict[str, bytes], list[str]]:
    from forebear.documents.pdf import render_pdf
    from forebear.documents.registry import entry
    from forebear.errors import MissingExtra

    made = {}
    for name, data in files.items():
        if name.endswith(".html") and (ids is None or entry(name).id in ids):
            try:
                made[f"{name.removesuffix('.html')}.pdf"] = render_pdf(data)
            except MissingExtra as error:
                return {}, [f"no PDF was made: {error.what}; {error.fix}"]
    return made, []


# ── explain, schema ────────────────────────────────────────────────────────────────────────────


def _schema(name: str) -> int:
    from forebear.documents.schemas import NAMES, schema
    from forebear.errors import UsageError

    if name not in NAMES:
        raise UsageError(f"knows no {name}", "--schema", f"choose from {', '.join(NAMES)}")
    click.echo(schema(name).decode(), nl=False)
    return 0


def _explain(facts: Facts, field: str) -> int:
    """Says what a fact is, what it rests on, and who supplies it.

    Raises:
        UsageError: no fact has this id.
    """
    import difflib

    from forebear.documents.fields import FIELDS_BY_ID
    from forebear.documents.registry import documents_with
    from forebear.errors import UsageError

    leaves = dict(facts.leaves())
    found = {name: leaf for name, leaf in leaves.items()
             if name == field or name.startswith((f"{field}[", f"{field}."))}  # fmt: skip
    described = FIELDS_BY_ID.get(field)
    if not found and described is None and field not in facts.tables:
        known = sorted({*leaves, *FIELDS_BY_ID, *facts.tables})
        near = difflib.get_close_matches(field, known, n=1, cutoff=0.4)
        raise UsageError(f"knows no fact {field}", "--explain", f"try {near[0]}" if near else "")
    if described is not None:
        click.echo(f"{described.label}: {described.hint}. Supplied by {described.supplier}.")
    shown = documents_with(field) or documents_with(field.partition("[")[0])
    click.echo(f"Shown in {', '.join(shown) or 'no document'}.")
    for name, leaf in found.items():
        click.echo(f"{name} ({leaf.kind.replace('_', ' ')}): {_origin(leaf)}")
    return 0


def _origin(value: Value) -> str:
    """One line: the value and what it rests on."""
    from forebear.cli.terminal import safe

    text = safe(json.dumps(value.value, ensure_ascii=False)) if value.value is not None else ""
    unit = f" {value.unit}" if value.unit else ""
    rests: list[Any] = [f"{ref.path}{ref.pointer} (signed by {ref.link})" for ref in value.evidence]
    if value.inputs:
        rests.append(f"{value.method} of {', '.join(value.inputs)}")
    if value.by is not None:
        rests.append(f"declared by {value.by.name}, {value.by.role}, {value.by.date}")
    if value.source is not None:
        rests.append(f"published: {value.source.title} ({value.source.url})")
    if value.reason:
        rests.append(value.reason)
    return f"{text}{unit}; {safe('; '.join(rests))}" if text else safe("; ".join(rests))


def _inputs(root: Path) -> tuple[Inputs, Path, Path | None]:
    """What the ``document`` stage of dvc.yaml reads, and the folders that it writes to.

    Raises:
        ConfigError: there is no such stage, or its command lacks an option.
    """
    from forebear.documents.build import inputs_of
    from forebear.errors import ConfigError
    from forebear.pipeline import inner_argv, load_pipeline

    stage = load_pipeline(root).stage(_STAGE)
    words = inner_argv(stage)
    options = dict(itertools.pairwise(words))
    if "--out" not in options:
        raise ConfigError("the command lacks --out", where=f"dvc.yaml: {_STAGE}.cmd")
    restricted = options.get("--restricted")
    return (
        inputs_of(words, root, stage.params),
        Path(options["--out"]),
        None if restricted is None else Path(restricted),
    )
