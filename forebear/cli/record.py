"""``forebear record``: runs one stage under the recorder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command(
    name="record",
    epilog="Example: forebear record sft -- python -m stages.sft --base data/cpt --out data/sft",
)
@click.argument("stage")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND …")
@click.option(
    "--keys", "keys", type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the recorder's key, instead of the one in your configuration folder.",
)  # fmt: skip
@click.option("--no-digest-cache", is_flag=True, help="Read every byte again.")
@click.option("--require-clean", is_flag=True, help="Refuse files that differ from the commit.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON after the stage.")
def command(
    *,
    stage: str,
    argv: tuple[str, ...],
    keys: Path | None,
    no_digest_cache: bool,
    require_clean: bool,
    as_json: bool,
) -> int:
    """Hash STAGE's deps, run its COMMAND, hash its outs and sign links/STAGE.link.

    Written into dvc.yaml as the stage's cmd and started by `dvc repro`. The command must be the
    one that dvc.yaml declares. When it fails, its exit code is returned and nothing is signed.
    """
    from forebear.pipeline import find_root, link_path
    from forebear.recording.recorder import explain_exit, record
    from forebear.signing.keys import default_directory

    root = find_root()
    code = record(
        stage,
        argv,
        root=root,
        keys=keys or default_directory(),
        use_cache=not no_digest_cache,
        require_clean=require_clean,
    )
    if as_json:
        link = link_path(stage) if code == 0 else None
        click.echo(json.dumps({"schema": "forebear.record/v1", "stage": stage, "exit_code": code,
                               "link": link}, sort_keys=True))  # fmt: skip
    elif code == 0:
        sys.stderr.write(f"recorded {link_path(stage)}\n")
    else:
        sys.stderr.write(f"error: {explain_exit(stage, code, root)}\n")
    return code
