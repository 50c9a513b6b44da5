"""``forebear keys``: creates, lists, replaces and shows the keys of the two roles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forebear.signing.keyring import KeyRow
    from forebear.signing.keys import PublicKey, Role

ROLES: tuple[Role, ...] = ("recorder", "owner")
_FOLDER = click.option(
    "--keys", "folder", type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the keys, instead of the one in your configuration folder.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_PASSPHRASE = click.option(
    "--passphrase", "ask", is_flag=True, help="Encrypt the key; the passphrase is asked for twice."
)
_PASSPHRASE_FILE = click.option(
    "--passphrase-file", type=_FILE,
    help="Encrypt the key with the passphrase in the file's first line.",
)  # fmt: skip


@click.group(name="keys", epilog="Example: forebear keys new recorder")
def command() -> None:
    """Create, replace and show the keys that sign: `recorder` for links, `owner` for releases.

    Private keys stay in your configuration folder, never in a workspace.
    """


@command.command(
    name="new", epilog="Example: forebear keys new owner --passphrase-file ~/owner.passphrase"
)
@click.argument("role", type=click.Choice(ROLES))
@_PASSPHRASE
@_PASSPHRASE_FILE
@_FOLDER
@_JSON
def new(
    *, role: Role, ask: bool, passphrase_file: Path | None, folder: Path | None, as_json: bool
) -> None:
    """Make a new key pair for ROLE; an existing one is never overwritten."""
    from forebear.signing.keys import create_key, default_directory, load_public

    passphrase = _passphrase(role, passphrase_file, ask=ask)
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
    """List your keys with their ids, those in use and those that were replaced."""
    from forebear.signing.keyring import describe, retired
    from forebear.signing.keys import default_directory

    place = folder or default_directory()
    rows = [describe(role, place) for role in ROLES]
    rows += [row for role in ROLES for row in retired(role, place)]
    if as_json:
        _print({"keys": [_row(row) for row in rows]})
        return
    for row in rows:
        file = row.public if row.state in {"public", "retired"} else row.private
        reason = f"  ({row.reason})" if row.reason else ""
        click.echo(f"{row.role:<9} {(row.keyid or '-')[:8]:<9} {row.state:<8} {file}{reason}")


@command.command(name="ensure", epilog="Example: forebear keys ensure")
@_FOLDER
@_JSON
def ensure(*, folder: Path | None, as_json: bool) -> None:
    """Make the keys that are still missing, without passphrase; says what it did.

    For a first `make repro`. Publish owner.pub before others rely on your releases.
    """
    from forebear.signing.keyring import describe
    from forebear.signing.keys import create_key, default_directory, load_public

    place = folder or default_directory()
    made = []
    for role in ROLES:
        if describe(role, place).state != "missing":
            continue
        private, public = create_key(role, place, None)
        made.append({"role": role, "keyid": load_public(public).keyid, "private": str(private)})
    if as_json:
        _print({"created": made})
        return
    for entry in made:
        sys.stderr.write(
            f"created your own {entry['role']} key {entry['keyid'][:8]} at {entry['private']}\n"
        )


@command.command(name="rotate", epilog="Example: forebear keys rotate recorder")
@click.argument("role", type=click.Choice(ROLES))
@_PASSPHRASE
@_PASSPHRASE_FILE
@_FOLDER
@_JSON
def rotate(
    *, role: Role, ask: bool, passphrase_file: Path | None, folder: Path | None, as_json: bool
) -> None:
    """Replace the key of ROLE by a new one; the old pair is kept under its key id.

    Links and releases that the old key signed stay valid. After a theft that is not enough: list
    the old key id under `revoked_keyids` in the trust policy, and run the stages again.
    """
    from forebear.signing.keyring import rotate_key
    from forebear.signing.keys import default_directory

    passphrase = _passphrase(role, passphrase_file, ask=ask)
    done = rotate_key(role, folder or default_directory(), passphrase)
    if as_json:
        _print({"role": role, "keyid": done.new.keyid, "old_keyid": done.old.keyid,
                "retired": [str(file) for file in done.retired]})  # fmt: skip
        return
    click.echo(f"{role} key {done.new.keyid[:8]} replaces {done.old.keyid[:8]}")
    for file in done.retired:
        click.echo(f"  kept     {file}")
    click.echo(f"  next     {_NEXT[role]}")


_NEXT = {
    "recorder": "nothing: links of both keys count. Keep the old .pub while links of it are in use;"
    " `forebear record STAGE --resign` moves one to the new key",
    "owner": "publish the new owner.pub; verifiers of older releases keep the old one in their"
    " trust policy",
}


@command.command(name="show", epilog="Example: forebear keys show trust/owner.pub")
@click.argument("file", type=_FILE)
@_JSON
def show(*, file: Path, as_json: bool) -> None:
    """Show the ids of the public key in FILE, and the key itself.

    The key id is that of in-toto and securesystemslib; the hint is that of Sigstore bundles and
    model signatures.
    """
    from forebear.signing.keys import load_public

    _show(load_public(file), as_json=as_json)


@command.command(
    name="fetch", epilog="Example: forebear keys fetch 'hsm:2?label=release' > owner.pub"
)
@click.argument("uri")
@click.option("--passphrase-file", type=_FILE, help="File with the PIN; else you are asked.")
@_JSON
def fetch(*, uri: str, passphrase_file: Path | None, as_json: bool) -> None:
    """Print the public key of a key in a token or key service, such as hsm: or awskms:."""
    from forebear.signing.passphrase import from_file_or_prompt
    from forebear.signing.token import fetch_public

    secret = from_file_or_prompt(passphrase_file, of=uri, fix="--passphrase-file FILE")
    key = fetch_public(uri, secret=secret)
    if as_json:
        _show(key, as_json=True)
    else:
        click.echo(key.pem, nl=False)


def _show(key: PublicKey, *, as_json: bool) -> None:
    from forebear.formats.statement import key_hint

    kind = "Ed25519" if key.role == "recorder" else "ECDSA P-256"
    hint, pem = key_hint(key.pem), key.pem.decode()
    if as_json:
        _print({"keyid": key.keyid, "hint": hint, "kind": kind, "pem": pem})
        return
    click.echo(f"key id  {key.keyid}\nhint    {hint}\nkind    {kind}\n{pem}", nl=False)


def _passphrase(role: Role, file: Path | None, *, ask: bool) -> bytes | None:
    from forebear.errors import UsageError
    from forebear.signing.passphrase import prompt, read_passphrase

    if file is not None and ask:
        raise UsageError("--passphrase and --passphrase-file exclude each other", "forebear keys")
    if file is not None:
        return read_passphrase(file)
    return prompt(f"passphrase for the new {role} key", twice=True) if ask else None


def _row(row: KeyRow) -> dict[str, Any]:
    body = {
        "role": row.role,
        "keyid": row.keyid,
        "state": row.state,
        "private": str(row.private),
        "public": str(row.public),
    }
    return body | ({"reason": row.reason} if row.reason else {})


def _print(body: dict[str, Any]) -> None:
    click.echo(json.dumps({"schema": "forebear.keys/v1", **body}, sort_keys=True))
