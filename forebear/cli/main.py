"""The ``forebear`` command: finds the subcommand, shows errors once, sets the exit code.

Subcommands stand in a static table and are imported only when they run, so ``forebear --help``
imports click and nothing else. A :class:`ForebearError` is shown without traceback; anything
unexpected ends in one line too, with the way to see the traceback.

Exit codes: 0 passed; 1 a check failed; 2 wrong usage or configuration; 3 something asked for
stayed unchecked; 4 the environment failed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from forebear.errors import EnvironmentFailure, ForebearError, UsageError

ERROR_SCHEMA = "forebear.error/v1"
DEBUG_ENV = "FOREBEAR_DEBUG"
INTERRUPTED = 130

# name → (module:function, help); the help stands here so that listing imports nothing
COMMANDS: dict[str, tuple[str, str]] = {
    "attest": ("forebear.cli.attest:command", "Sign a release: layout, source link, manifests."),
    "attach": ("forebear.cli.attach:command", "Add a later statement to a release."),
    "base": ("forebear.cli.base:command", "Choose the base model to start from."),
    "deps": ("forebear.cli.deps:command", "Show what a stage read that dvc.yaml does not list."),
    "diff": ("forebear.cli.diff:command", "Say what changed between two releases."),
    "doctor": ("forebear.cli.doctor:command", "Check this machine; mend DVC's lock."),
    "document": ("forebear.cli.document:command", "Write or check the model's documents."),
    "eval": ("forebear.cli.eval:command", "Plan, compare or recompute evaluations."),
    "fit": ("forebear.cli.fit:command", "Say whether a recipe fits the hardware, and its cost."),
    "init": ("forebear.cli.init:command", "Have a DVC repository's own stages recorded."),
    "keys": ("forebear.cli.keys:command", "Create and list recorder and owner keys."),
    "ledger": ("forebear.cli.ledger:command", "Prove which documents were seen, and by what."),
    "pack": ("forebear.cli.pack:command", "Copy a release with its files into one folder."),
    "record": ("forebear.cli.record:command", "Run one stage and sign its link."),
    "reproduce": ("forebear.cli.reproduce:command", "Run stages again in a clean room."),
    "summary": ("forebear.cli.summary:command", "Show what the last run gained and cost."),
    "trace": ("forebear.cli.trace:command", "Walk from a file to everything it was made of."),
    "waive": ("forebear.cli.waive:command", "Let one fault of the gate pass, signed, for a time."),
    "verify": ("forebear.cli.verify:command", "Check a release or repository, check by check."),
    "why": ("forebear.cli.why:command", "Show why a checkpoint carries a label, and from where."),
}


class LazyGroup(click.Group):
    """A click group whose subcommands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the table."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The imported subcommand; None for a name that is not in the table."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise EnvironmentFailure(
                f"this build of Forebear does not have the command {cmd_name!r}",
                fix="install a complete one",
            ) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name, command and the words left; an unknown name suggests the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], sorted(COMMANDS), n=1, cutoff=0.5)
            raise UsageError(
                f"there is no command {args[0]!r}",
                fix=f"did you mean `forebear {near[0]}`?" if near else "see `forebear --help`",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the table without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"forebear {version('forebear')}")
    except PackageNotFoundError:
        click.echo("forebear (not installed)")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: forebear verify RELEASE --trust owner.pub",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Every checkpoint knows its ancestors: record, attest and verify a DVC pipeline."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and ends the process with its exit code.

    Args:
        argv: the words after ``forebear``; those of the process when left out.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    try:
        result = cli.main(args=words, prog_name="forebear", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has gone; nothing more may be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EnvironmentFailure.exit_code
    except Exception as error:
        # the last border: a bug ends in one line, too
        if os.environ.get(DEBUG_ENV):
            raise
        ours = _as_ours(error)
        _show(ours, as_json=as_json)
        return ours.exit_code
    return result if isinstance(result, int) else 0


def _as_ours(error: Exception) -> ForebearError:
    """The error as one of ours, whatever library raised it."""
    if isinstance(error, ForebearError):
        return error
    if isinstance(error, click.ClickException):
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        return UsageError(error.format_message(), where, f"see `{where} --help`" if where else "")
    if isinstance(error, OSError):
        return EnvironmentFailure(error.strerror or str(error), str(error.filename or ""))
    return EnvironmentFailure(
        f"internal error: {type(error).__name__}: {error}",
        fix=f"set {DEBUG_ENV}=1 to see the traceback, and report it",
    )


def _show(error: ForebearError, *, as_json: bool) -> None:
    if not as_json:
        sys.stderr.write(f"error: {error}\n")
        return
    body = {
        "schema": ERROR_SCHEMA,
        "error": {
            "kind": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "fix": error.fix,
        },
        "exit_code": error.exit_code,
    }
    sys.stdout.write(json.dumps(body, ensure_ascii=False, sort_keys=True) + "\n")
