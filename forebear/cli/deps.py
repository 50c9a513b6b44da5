"""``forebear deps``: what a stage reads and writes that ``dvc.yaml`` does not list."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command(name="deps", epilog="Example: forebear deps sft --suggest")
@click.argument("stage")
@click.option(
    "--suggest", is_flag=True,
    help="Run the stage in a throw-away folder, watch it, and print the lines that are missing.",
)  # fmt: skip
@click.option("--last", is_flag=True, help="Run nothing: tell what its last recorded run wanted.")
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
def command(*, stage: str, suggest: bool, last: bool, as_json: bool) -> int:
    """Show STAGE's deps, or the lines that are missing among them.

    With --suggest the stage runs with the whole workspace readable and nothing of it writable: its
    outs go to a folder that is deleted afterwards. No link is signed and nothing is entered into
    DVC's books. Where strace is installed every process is seen, else what Python opens.
    """
    from forebear.errors import UsageError
    from forebear.pipeline import find_root

    root = find_root()
    if suggest and last:
        raise UsageError("--suggest runs the stage, --last does not: choose one", "forebear deps")
    if not suggest and not last:
        return _declared(root, stage, as_json=as_json)
    from forebear.recording.suggest import last_run, watch_run

    found = watch_run(root, stage) if suggest else last_run(root, stage)
    if as_json:
        click.echo(json.dumps(found.to_json(), sort_keys=True))
        return found.exit_code
    for line in found.lines():
        click.echo(line)
    for remark in found.remarks():
        sys.stderr.write(f"{remark}\n")
    return found.exit_code


def _declared(root: Path, stage_name: str, *, as_json: bool) -> int:
    from forebear.pipeline import load_pipeline

    deps = load_pipeline(root).stage(stage_name).deps
    if as_json:
        body = {"schema": "forebear.deps/v1", "stage": stage_name, "declared": list(deps)}
        click.echo(json.dumps(body, sort_keys=True))
    else:
        for dep in deps:
            click.echo(f"    - {dep}")
    return 0
