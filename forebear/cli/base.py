"""``forebear base``: which base model suits a task, and why the others do not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forebear.planning.advise import Candidate

SCHEMA = "forebear.base-advise/v1"
PIN_SCHEMA = "forebear.base-pin/v1"
_FILE = click.Path(path_type=Path, dir_okay=False)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


class Parameters(click.ParamType[int]):
    """A number of parameters, as ``8B``, ``600M`` or ``8e9``."""

    name = "parameters"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; click's own refusal for anything else."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]+)?)([KMBT]?)", str(value))
        if match is None or not float(match.group(1)):
            self.fail(
                f"{str(value)[:40]!r} is no number of parameters; write 8B or 8e9", param, ctx
            )
        return round(float(match.group(1)) * _UNITS[match.group(2)])


PARAMETERS = Parameters()


@click.group(name="base")
def command() -> None:
    """Choose the model to start from."""


@command.command(
    name="advise",
    epilog="Example: forebear base advise --languages de,tr --max-params 15B --data sample.txt",
)
@click.option("--languages", default="", metavar="CODES", help="Needed, as de,tr (ISO 639-1).")
@click.option("--max-params", type=PARAMETERS, help="At most so many in all, as 15B.")
@click.option("--max-active", type=PARAMETERS, help="At most so many at work on a token.")
@click.option("--target-params", type=PARAMETERS, help="About so many; else smaller comes first.")
@click.option(
    "--licence", type=click.Choice(["permissive", "conditional", "research"]),
    default="conditional", show_default=True, help="The most that the licence may ask.",
)  # fmt: skip
@click.option("--tuned", is_flag=True, help="Accept instruction-tuned weights, too.")
@click.option("--data", type=_FILE, help="Your own text: tokenizers at hand are measured on it.")
@click.option(
    "--tokenizer", "named", multiple=True, metavar="NAME=FILE",
    help="A model's tokenizer.json; may be given again.",
)  # fmt: skip
@click.option("--facts", type=_FILE, help="More rows for the facts table, in its form.")
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
def advise_command(  # one argument per option
    *,
    languages: str,
    max_params: int | None,
    max_active: int | None,
    target_params: int | None,
    licence: str,
    tuned: bool,
    data: Path | None,
    named: tuple[str, ...],
    facts: Path | None,
    as_json: bool,
) -> int:
    """Rank the table of base models, and say of each why it stands there or was ruled out.

    The order: licence, languages, tokens that your text needs, size. What is unknown rules nothing
    out and speaks for nobody. Nothing is fetched: a tokenizer is at hand when it lies in this
    repository's base, in the hub's cache, or is named. Exit code 1 when no candidate is left.
    """
    from forebear.planning.advise import Wish, advise
    from forebear.planning.facts import load_facts

    table = load_facts(facts)
    wish = Wish(
        posture=licence,
        total=target_params,
        max_total=max_params,
        max_active=max_active,
        languages=tuple(code.strip() for code in languages.split(",") if code.strip()),
        tuned=tuned,
    )
    candidates = advise(table.values(), wish, _measure(table, data, named))
    left = [one for one in candidates if not one.ruled_out]
    if as_json:
        body = {"schema": SCHEMA, "candidates": [_body(one) for one in candidates]}
        click.echo(json.dumps(body, sort_keys=True))
    else:
        click.echo("\n".join(_lines(candidates)))
    return 0 if left else 1


def _measure(table: Any, data: Path | None, named: tuple[str, ...]) -> dict[str, Any]:
    from forebear.errors import UsageError
    from forebear.planning.fertility import measure_fertility, read_text, tokenizers_at_hand

    files = {}
    for entry in named:
        name, _, file = entry.partition("=")
        if name not in table or not file:
            raise UsageError(
                f"{entry[:60]!r} names no model of the table",
                "--tokenizer",
                f"write NAME=FILE with one of: {', '.join(table)}",
            )
        files[name] = Path(file)
    if data is None:
        if files:
            raise UsageError("tokenizers are measured on text", fix="give it with --data FILE")
        return {}
    text = read_text(data)
    at_hand = tokenizers_at_hand(table.values(), Path.cwd()) | files
    return {name: measure_fertility(file, text) for name, file in at_hand.items()}


def _lines(candidates: tuple[Candidate, ...]) -> list[str]:
    lines = []
    for rank, one in enumerate(candidates, start=1):
        place = f"{rank:>3}." if not one.ruled_out else " out"
        lines.append(f"{place} {one.facts.name}  ({one.facts.repo})")
        lines += [f"       - {reason}" for reason in (*one.ruled_out, *one.reasons)]
        lines += [f"       note: {note}" for note in one.facts.notes]
        lines.append(f"       source: {one.facts.source}; as of {one.facts.as_of or 'unknown'}")
    return lines


def _body(one: Candidate) -> dict[str, Any]:
    fertility = one.fertility
    return {
        "facts": one.facts.model_dump(mode="json"),
        "ruled_out": list(one.ruled_out),
        "reasons": list(one.reasons),
        "fertility": None
        if fertility is None
        else {
            "tokens": fertility.tokens,
            "words": fertility.words,
            "bytes": fertility.size_bytes,
            "tokens_per_word": fertility.per_word,
            "tokens_per_byte": fertility.per_byte,
        },
    }


@command.command(name="pin", epilog="Example: forebear base pin Qwen/Qwen3-4B-Base main")
@click.argument("repo")
@click.argument("reference", default="main")
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
def pin_command(*, repo: str, reference: str, as_json: bool) -> int:
    """Ask the hub which commit a branch or tag of REPO stands for now, to be pasted.

    Params take a commit alone: a branch moves, and the same params would give another model.
    """
    from forebear.planning.pin import resolve_commit

    commit = resolve_commit(repo, reference)
    if as_json:
        body = {"schema": PIN_SCHEMA, "repo": repo, "reference": reference, "commit": commit}
        click.echo(json.dumps(body, sort_keys=True))
    else:
        click.echo(f"hub: {{repo: {repo}, revision: {commit}}}")
    return 0
