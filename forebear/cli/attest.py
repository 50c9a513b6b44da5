"""``forebear attest``: runs the stage ``attest`` by itself, outside ``dvc repro``."""

from __future__ import annotations

import json
import sys

import click


@click.command(name="attest", epilog="Example: forebear attest && forebear pack RELEASE")
@click.option("--require-clean", is_flag=True, help="Refuse files that differ from the commit.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON at the end.")
def command(*, require_clean: bool, as_json: bool) -> int:
    """Check every link and the gate, then sign the release as dvc.yaml declares it.

    The same as `dvc repro --single-item --force attest`, without DVC's books: `dvc commit attest`
    enters the result there. Needs the owner's and the recorder's key.
    """
    from forebear.formats.layout import ATTEST
    from forebear.pipeline import find_root, inner_argv, load_pipeline
    from forebear.recording.recorder import explain_exit, record
    from forebear.signing.keys import default_directory

    root = find_root()
    argv = inner_argv(load_pipeline(root).stage(ATTEST))
    code = record(ATTEST, argv, root=root, keys=default_directory(), require_clean=require_clean)
    if as_json:
        body = {"schema": "forebear.attest/v1", "exit_code": code}
        click.echo(json.dumps(body, sort_keys=True))
    elif code == 0:
        click.echo("signed")
    else:
        sys.stderr.write(f"error: {explain_exit(ATTEST, code, root)}\n")
    return code
