"""``forebear fit``: says before a run whether a recipe fits the hardware, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forebear.planning.fit import FitReport, StageFit

SCHEMA = "forebear.fit/v1"
EXIT_CODES = {"fits": 0, "does not fit": 1, "unknown": 3}
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    name="fit", epilog="Example: forebear fit recipes/qwen3-4b-legal.yaml --hardware 8xH200-141GB"
)
@click.argument("recipe", type=_FILE)
@click.option("--hardware", metavar="NxNAME", help="One node's devices: 8xH100-80GB, 4x96GiB.")
@click.option("--nodes", type=click.IntRange(min=1), help="How many such nodes.")
@click.option("--row-tokens", type=click.IntRange(min=1), help="Length of a fine-tuning row.")
@click.option("--mfu", type=float, help="Share of the peak that training reaches (0.35).")
@click.option("--sampling-mfu", type=float, help="The same for sampling (0.05).")
@click.option("--price", type=float, help="Of one device-hour, in your currency.")
@click.option("--facts", type=_FILE, help="More rows for the facts table.")
@click.option("--write", is_flag=True, help="Put the arithmetic into the recipe's own comments.")
@click.option("--verbose", is_flag=True, help="Show every term with its formula.")
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
def command(
    *, recipe: Path, facts: Path | None, write: bool, verbose: bool, as_json: bool, **asked: Any
) -> int:
    """Compare RECIPE, a params file, with the memory, speed and price of the named hardware.

    Weights, gradients, optimizer state and activations of one device, FLOP, hours and cost of each
    stage that trains or samples. Options that you leave out are those in the recipe's comments.
    It is arithmetic, not a measurement. Exit code 0 when every stage fits, 1 when one does not,
    3 when a fact that the answer needs is unknown.
    """
    from forebear.planning.block import (
        parse_options,
        render,
        render_block,
        render_terms,
        replace_block,
    )
    from forebear.planning.facts import load_facts, read_bytes, validated
    from forebear.planning.fit import fit
    from forebear.planning.recipe import parse_recipe

    where, data = recipe.as_posix(), read_bytes(recipe)
    text = data.decode("utf-8", errors="replace")  # the parser below refuses what is no UTF-8
    written = parse_options(text, where=where)
    given = {key: value for key, value in asked.items() if value is not None}
    options = validated(type(written), {**written.model_dump(), **given}, where="the options")
    work = parse_recipe(data, where=where, row_tokens=options.row_tokens)
    report = fit(work, load_facts(facts), options.cluster(), options.rates)
    if write:
        block = render_block(report, options)
        recipe.write_text(replace_block(text, block, where=where), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(_body(report), sort_keys=True))
    else:
        lines = [*render(report), *(render_terms(report) if verbose else [])]
        click.echo("\n".join(lines))
    return EXIT_CODES[report.verdict]


def _body(report: FitReport) -> dict[str, Any]:
    from forebear.planning.fit import assumptions

    model = report.model
    return {
        "schema": SCHEMA,
        "verdict": report.verdict,
        "reason": report.reason,
        "model": None
        if model is None
        else {
            "repo": model.repo,
            "licence": model.licence,
            "parameters": model.parameters,
            "active": model.at_work,
        },
        "hardware": {
            "device": report.cluster.device.name,
            "devices": report.cluster.devices,
            "memory_bytes": report.cluster.device.memory_bytes,
        },
        "stages": [_stage(one) for one in report.stages],
        "assumptions": list(assumptions(report)),
        "notes": list(report.notes),
    }


def _stage(one: StageFit) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(one), "verdict": one.verdict}
