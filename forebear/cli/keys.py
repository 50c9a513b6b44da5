"""``forebear keys``: creates and lists the keys of the two roles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forebear.signing.keys import Role

ROLES: tuple[Role, ...] = ("recorder", "owner")
_FOLDER = click.option(
    "--keys", "folder", type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the keys, instead of the one in your configuration folder.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON for machines.")


@click.group(name="keys", epilog="Example: forebear keys new recorder")
def command() -> None:
    """Create and list the keys that sign: `recorder` for links, `owner` for releases.

    Private keys stay in your configuration folder, never in a workspace.
    """


@command.command(
    name="new", epilog="Example: forebear keys new owner --passphrase-file ~/owner.passphrase"
)
@click.argument("role", type=click.Choice(ROLES))
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Encrypt the key with the passphrase in the file's first line.",
)  # fmt: skip
@_FOLDER
@_JSON
def new(*, role: Role, passphrase_file: Path | None, folder: Path | None, as_json: bool) -> None:
    """Make a new key pair for ROLE; an existing one is never overwritten."""
    from forebear.signing.keys import create_key, default_directory, load_public

    passphrase = None
    if passphrase_file is not None:
        passphrase = passphrase_file.read_bytes().split(b"\n")[0].rstrip(b"\r")
    private, public = create_key(role, folder or default_directory(), passphrase)
    keyid = load_public(public).keyid
    if as_json:
        _print({"role": role, "keyid": keyid, "private": str(private), "public": str(public)})
        return
    click.echo(f"{role} key {keyid[:8]}")
    click.echo(f"  private  {private}  (keep it to yourself)")
    click.echo(f"  public   {public}  (give it to whoever verifies)")


@command.command(name="list", epilog="Example: forebear keys list")
@_FOLDER
@_JSON
def list_keys(*, folder: Path | None, as_json: bool) -> None:
    """List your keys with their ids."""
    rows = [_describe(role, folder) for role in ROLES]
    if as_json:
        _print({"keys": rows})
        return
    for row in rows:
        keyid = row["keyid"][:8] if row["keyid"] else "-"
        click.echo(f"{row['role']:<9} {keyid:<9} {row['state']:<8} {row['private']}")


@command.command(name="ensure", epilog="Example: forebear keys ensure")
@_FOLDER
@_JSON
def ensure(*, folder: Path | None, as_json: bool) -> None:
    """Make the keys that are still missing, without passphrase; says what it did.

    For a first `make repro`. Publish owner.pub before others rely on your releases.
    """
    from forebear.signing.keys import create_key, default_directory, key_files, load_public

    place = folder or default_directory()
    made = []
    for role in ROLES:
        private, public = key_files(role, place)
        if private.exists():
            continue
        create_key(role, place, None)
        made.append({"role": role, "keyid": load_public(public).keyid, "private": str(private)})
    if as_json:
        _print({"created": made})
        return
    for entry in made:
        sys.stderr.write(
            f"created your own {entry['role']} key {entry['keyid'][:8]} at {entry['private']}\n"
        )


def _describe(role: Role, folder: Path | None) -> dict[str, Any]:
    from forebear.errors import ForebearError
    from forebear.signing.keys import default_directory, is_encrypted, key_files, load_public

    private, public = key_files(role, folder or default_directory())
    row: dict[str, Any] = {"role": role, "keyid": None, "state": "missing"}
    row |= {"private": str(private), "public": str(public)}
    if not private.exists() and not public.exists():
        return row
    try:
        row["keyid"] = load_public(public).keyid
        row["state"] = "public"
        if private.exists():
            row["state"] = "locked" if is_encrypted(private) else "ready"
    except ForebearError as error:
        row["state"] = "refused"
        row["reason"] = error.what
    return row


def _print(body: dict[str, Any]) -> None:
    click.echo(json.dumps({"schema": "forebear.keys/v1", **body}, sort_keys=True))
