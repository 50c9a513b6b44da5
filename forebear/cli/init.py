"""``forebear init``: has the stages of a DVC repository recorded, and undoes that."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from forebear.foreign.plan import Plan

SCHEMA = "forebear.init/v1"
_NEXT = (
    "next: forebear keys ensure · commit dvc.yaml · dvc repro · forebear pack ../RELEASE\n"
    "a stage that reads a file it does not list is stopped: forebear deps STAGE --suggest"
)


@click.command(name="init", epilog="Example: forebear init --ship models/final")
@click.option(
    "--ship", multiple=True, metavar="PATH",
    help="An out that a release carries. May be given several times; left out, every out of "
    "`type: model`.",
)  # fmt: skip
@click.option(
    "--shell", type=click.Choice(["sh", "bash"]), default="sh", show_default=True,
    help="What runs a command that is more than plain words.",
)  # fmt: skip
@click.option(
    "--no-params-deps", is_flag=True,
    help="Do not list the params file as a dep of stages that declare params: they read "
    "$FOREBEAR_PARAMS instead.",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Take out what init added.")
@click.option("--dry-run", is_flag=True, help="Show the change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The change as JSON; asks for --yes.")
def command(  # one argument per option
    *,
    ship: tuple[str, ...],
    shell: str,
    no_params_deps: bool,
    undo: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Put every stage of dvc.yaml under the recorder and add a stage that signs releases.

    Shows the change first. Comments and formatting stay, and --undo restores what was there. Run
    again after adding stages; what is recorded already stays as it is.
    """
    from forebear.errors import UsageError
    from forebear.foreign.plan import Wishes, plan_init, plan_undo
    from forebear.pipeline import find_root

    if undo and (ship or no_params_deps):
        raise UsageError("--undo takes out everything that init added", "forebear init")
    root = find_root()
    plan = plan_undo(root) if undo else plan_init(root, Wishes(ship, shell, not no_params_deps))
    if not as_json:
        _show(plan, undo=undo)
    written = bool(plan.diff) and not dry_run and _agreed(yes=yes, asks=not as_json)
    if written:
        _write(root, plan)
    if as_json:
        body = {"schema": SCHEMA, "diff": plan.diff, "notes": list(plan.notes), "written": written}
        click.echo(json.dumps(body, sort_keys=True))
    elif written:
        click.echo("dvc.yaml is as it was before init" if undo else f"dvc.yaml is written\n{_NEXT}")
    elif plan.diff:
        click.echo("nothing was changed")
    return 0


def _show(plan: Plan, *, undo: bool) -> None:
    if not plan.diff:
        click.echo("nothing of init is in dvc.yaml" if undo else "every stage is recorded already")
    click.echo(plan.diff, nl=False)
    for note in plan.notes:
        click.echo(f"note: {note}")


def _agreed(*, yes: bool, asks: bool) -> bool:
    """Whether to write.

    Raises:
        UsageError: there is nobody to ask.
    """
    from forebear.errors import UsageError

    if yes:
        return True
    if asks and sys.stdin.isatty():
        return click.confirm("Write this?", default=False)
    raise UsageError(
        "nothing was changed: there is no terminal to ask on",
        "forebear init",
        "add --yes to write the change, or --dry-run only to see it",
    )


def _write(root: Path, plan: Plan) -> None:
    from forebear.foreign.write import write_plan

    write_plan(root, plan)
