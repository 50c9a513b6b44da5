"""``forebear attach``: adds a statement to a packed release after it was signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forebear.release.later import Sign

SCHEMA = "forebear.attach/v1"


@click.command(
    name="attach",
    epilog="Examples: forebear attach RELEASE scan.json --key recorder.pem; "
    "forebear attach RELEASE --approve --note 'read and tried'",
)
@click.argument("release", type=click.Path(path_type=Path))
@click.argument(
    "file", type=click.Path(path_type=Path), required=False, metavar="[STATEMENT_OR_BUNDLE]"
)
@click.option("--approve", is_flag=True, help="Attach your approval of the release as it is.")
@click.option("--note", default="", help="What to say in the approval.")
@click.option("--key", metavar="FILE_OR_URI", help="Who signs; your own owner key when left out.")
@click.option(
    "--public", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="The public half of a key that is no file.",
)  # fmt: skip
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Holds passphrase or PIN; else you are asked.",
)  # fmt: skip
@click.option("--name", help="Name of the file in later/, without its suffix.")
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON.")
def command(  # one argument per option
    *,
    release: Path,
    file: Path | None,
    approve: bool,
    note: str,
    key: str | None,
    public: Path | None,
    passphrase_file: Path | None,
    name: str | None,
    as_json: bool,
) -> int:
    """Add a scan, a reproduction, an approval or any other statement to the folder RELEASE.

    An in-toto statement is signed with your key; a Sigstore bundle is copied as it is. It must be
    about something in the release, by name and digest. Nothing that is signed changes, and stock
    tools still pass. Whether the signer counts is for the trust policy of whoever verifies.
    """
    from forebear.errors import UsageError
    from forebear.release import later

    if approve == (file is not None):
        raise UsageError(
            "needs either a statement or --approve", fix="forebear attach RELEASE STATEMENT.json"
        )
    if note and not approve:
        raise UsageError("--note belongs to an approval", fix="add --approve")
    sign = _sign(key, public, passphrase_file)
    if file is None:
        written = later.approve(release, sign, note=note, name=name)
    else:
        written = later.attach(release, file, sign, name=name)
    path = written.relative_to(release.absolute()).as_posix()
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "release": str(release), "path": path}))
    else:
        click.echo(f"attached {path}")
    return 0


def _sign(key: str | None, public: Path | None, passphrase_file: Path | None) -> Sign:
    """Makes bundles with a key, which is opened when the first statement is to be signed."""
    from forebear.formats.statement import Statement
    from forebear.release.owner import owner_reference, sign_bundle
    from forebear.signing.keys import default_directory, key_files
    from forebear.signing.passphrase import from_file_or_prompt
    from forebear.signing.token import open_key

    def sign(statement: Statement) -> bytes:
        keys = default_directory()
        signer = open_key(
            key or owner_reference(keys),
            public=public or key_files("owner", keys)[1],
            secret=from_file_or_prompt(passphrase_file, of="key", fix="give --passphrase-file"),
        )
        return sign_bundle(signer, statement, where="statement")

    return sign
