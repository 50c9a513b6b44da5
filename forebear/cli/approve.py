"""``forebear document approve``: a person signs the facts, or rejects them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forebear.documents.values import Facts

SCHEMA = "forebear.approve/v1"
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(
    name="approve",
    epilog="Example: forebear document approve --role compliance --decision approve "
    "--name 'A. Person' --key compliance.pem",
)
@click.option("--role", required=True, help="Your role, as the declarations ask for it.")
@click.option("--decision", type=click.Choice(["approve", "reject"]), required=True)
@click.option("--note", default="", help="Anything you want to say about it; it is published.")
@click.option("--name", help="Your name; the account's when left out.")
@click.option("--key", required=True, metavar="FILE_OR_URI", help="Your own key (P-256).")
@click.option("--passphrase-file", type=_FILE, help="Holds passphrase or PIN; else you are asked.")
@click.option(
    "--documents", type=_FOLDER, default=Path("cards/documents"), show_default=True,
    help="The documents that you have read.",
)  # fmt: skip
@click.option(
    "--out", type=_FOLDER, default=Path("cards/approvals"), show_default=True,
    help="Folder to write to.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON.")
def command(  # one argument per option
    *,
    role: str,
    decision: str,
    note: str,
    name: str | None,
    key: str,
    passphrase_file: Path | None,
    documents: Path,
    out: Path,
    as_json: bool,
) -> int:
    """Approve or reject the facts behind the documents, signed with your own key.

    The statement names the digest of the facts: once a figure or a declaration changes, it is out
    of date. The documents show it when they are written again. The key of a recorder belongs to a
    machine and cannot approve.
    """
    from datetime import UTC, datetime

    from forebear.documents.approvals import file_name, render_approval
    from forebear.release.owner import load_owner
    from forebear.signing.passphrase import from_file_or_prompt

    facts, digests = _read(documents)
    secret = from_file_or_prompt(passphrase_file, of="approver's key", fix="give --passphrase-file")
    owner = load_owner(key, secret=secret)
    payload = render_approval(
        facts, digests, role=role, name=name or _account(), decision=decision, note=note,
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )  # fmt: skip
    file = out / file_name(role, owner.public.keyid)
    _write(file, owner.sign_envelope(payload))
    if as_json:
        body = {
            "schema": SCHEMA, "file": file.as_posix(), "facts_sha256": facts.sha256(),
            "keyid": owner.public.keyid, "role": role, "decision": decision,
        }  # fmt: skip
        click.echo(json.dumps(body, sort_keys=True))
    else:
        click.echo(f"{file}: {decision} {facts.sha256()[:12]}… as {role}")
        click.echo(f"commit it, with the public key as trust/approvers/{role}.pub, and write the "
                   "documents again")  # fmt: skip
    return 0


def _account() -> str:
    import os
    import pwd

    entry = pwd.getpwuid(os.getuid())
    return entry.pw_gecos.partition(",")[0] or entry.pw_name


def _read(folder: Path) -> tuple[Facts, dict[str, str]]:
    """The facts that were written, and the digest of each document.

    Raises:
        EnvironmentFailure: there are no documents.
        FormatError: they are not as they were written.
    """
    from pydantic import ValidationError

    from forebear.documents.values import Facts
    from forebear.errors import EnvironmentFailure, FormatError
    from forebear.formats import strictjson

    try:
        data = (folder / "facts.json").read_bytes()
        index: Any = strictjson.parse_canonical(
            (folder / "documents.json").read_bytes(), where=f"{folder}/documents.json"
        )
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the documents: {error.strerror}", str(error.filename or folder),
            "write them with `forebear document`",
        ) from error  # fmt: skip
    try:
        facts = Facts.model_validate_json(data)
        digests = {str(one["path"]): str(one["sha256"]) for one in index["documents"]}
    except (ValidationError, KeyError, TypeError) as error:
        raise FormatError("holds no documents of this version", str(folder)) from error
    if index.get("facts_sha256") != facts.sha256():
        raise FormatError("the index is about other facts", str(folder / "documents.json"))
    return facts, digests


def _write(file: Path, data: bytes) -> None:
    from forebear.errors import EnvironmentFailure

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise EnvironmentFailure(
            f"the approval cannot be written: {error.strerror}", str(file)
        ) from error
