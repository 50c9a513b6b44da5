"""``forebear waive``: lets one fault of the gate pass, signed, named and for a limited time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "forebear.waive/v1"
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    name="waive",
    epilog="Example: forebear waive mc4 base --gate data/eval/verdict/gate.json "
    "--approver 'A. Person' --reason 'a known gap of the golden set, closed by the next release'",
)
@click.argument("task")
@click.argument("reference")
@click.option("--metric", help="Of the task, where the gate compares more than one.")
@click.option("--gate", type=_FILE, required=True, help="The verdict that does not pass.")
@click.option("--reason", required=True, help="Why, in at least 40 characters; it is published.")
@click.option("--approver", required=True, help="Name of the person who takes it on.")
@click.option(
    "--days", type=click.IntRange(1, 90), default=30, show_default=True,
    help="How long it counts.",
)  # fmt: skip
@click.option("--key", metavar="FILE_OR_URI", help="The owner's key; your own when left out.")
@click.option("--passphrase-file", type=_FILE, help="Holds passphrase or PIN; else you are asked.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("waivers"),
    show_default=True, help="Folder to write to.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON.")
def command(  # one argument per option
    *,
    task: str,
    reference: str,
    metric: str | None,
    gate: Path,
    reason: str,
    approver: str,
    days: int,
    key: str | None,
    passphrase_file: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Waive the fault of TASK against REFERENCE for the one checkpoint that was judged.

    The waiver is a signed file that `eval` reads. It fits this verdict alone: other weights, other
    results or another day too late, and it counts for nothing. The model card shows it.
    """
    from datetime import UTC, datetime, timedelta

    from forebear.gate.waiver import SUFFIX, draft_terms, render_waiver
    from forebear.release.owner import load_owner
    from forebear.signing.passphrase import from_file_or_prompt

    value = _read_gate(gate)
    today = datetime.now(UTC).date()
    terms = draft_terms(
        value, task, reference, metric=metric, reason=reason, approver=approver,
        issued=today, expires=today + timedelta(days=days),
    )  # fmt: skip
    payload = render_waiver(str(value["candidate_tree"]), terms)
    secret = from_file_or_prompt(passphrase_file, of="owner key", fix="give --passphrase-file")
    owner = load_owner(key, secret=secret if passphrase_file or key else None)
    parts = [task, *([metric] if metric else []), reference]
    file = out / f"{'-'.join(map(_plain, parts))}{SUFFIX}"
    _write(file, owner.sign_envelope(payload))
    if as_json:
        body = {"schema": SCHEMA, "file": file.as_posix(), "terms": terms}
        click.echo(json.dumps(body, sort_keys=True))
    else:
        click.echo(f"{file}: until {terms['expires']}; commit it and run `dvc repro`")
    return 0


def _read_gate(file: Path) -> Mapping[str, Any]:
    from forebear.errors import EnvironmentFailure, FormatError
    from forebear.formats import strictjson

    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the verdict: {error.strerror}", str(file), "dvc repro, which writes it"
        ) from error
    value = strictjson.parse_canonical(data, where=str(file))
    if not isinstance(value, dict) or "candidate_tree" not in value:
        raise FormatError("is no verdict of the gate", str(file))
    return value


def _plain(name: str) -> str:
    return "".join(one if one.isascii() and one.isalnum() else "_" for one in name)


def _write(file: Path, data: bytes) -> None:
    from forebear.errors import EnvironmentFailure

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise EnvironmentFailure(
            f"the waiver cannot be written: {error.strerror}", str(file)
        ) from error
