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
@click.option(
    "--no-confine", is_flag=True,
    help="Run the command without confinement; the link says so (level unchecked).",
)  # fmt: skip
@click.option(
    "--resign", is_flag=True,
    help="Run nothing: check link and files, then sign the link with the present key.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One line of JSON after the stage.")
def command(
    *,
    stage: str,
    argv: tuple[str, ...],
    keys: Path | None,
    no_digest_cache: bool,
    require_clean: bool,
    no_confine: bool,
    resign: bool,
    as_json: bool,
) -> int:
    """Hash STAGE's deps, run its COMMAND, hash its outs and sign links/STAGE.link.

    Written into dvc.yaml as the stage's cmd and started by `dvc repro`. The command must be the
    one that dvc.yaml declares. When it fails, its exit code is returned and nothing is signed.

    After `forebear keys rotate recorder`, `forebear record STAGE --resign` moves a link to the new
    key without running the stage; links of the old key stay valid without that, too.
    """
    if resign:
        return _resign(stage, argv, keys, as_json=as_json)
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
        confine=not no_confine,
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


def _resign(stage: str, argv: tuple[str, ...], keys: Path | None, *, as_json: bool) -> int:
    from forebear.errors import UsageError
    from forebear.pipeline import find_root
    from forebear.recording.resign import resign
    from forebear.signing.keyring import load_recorders
    from forebear.signing.keys import default_directory

    if argv:
        raise UsageError(
            "--resign runs no command", "forebear record", f"forebear record {stage} --resign"
        )
    root, place = find_root(), keys or default_directory()
    done = resign(stage, root=root, keys=place, recorders=load_recorders(root, place))
    if as_json:
        body = {"schema": "forebear.resign/v1", "stage": stage, "link": done.link,
                "old_keyid": done.old, "keyid": done.new}  # fmt: skip
        click.echo(json.dumps(body, sort_keys=True))
    elif done.old == done.new:
        sys.stderr.write(f"{done.link} is signed by the present key {done.new[:8]} already\n")
    else:
        sys.stderr.write(
            f"{done.link} is signed by {done.new[:8]} instead of {done.old[:8]}\n"
            f"  enter it into DVC's books: dvc commit --force {stage}\n"
            "  stages that list this link as a dep (document, attest) run again with dvc repro\n"
        )
    return 0
