"""``forebear summary``: the last screen of ``make repro``, what was gained and what it took.

Reads what the pipeline left behind and says so where something is missing; it checks nothing by
itself (``forebear verify`` does) and never fails for want of a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from forebear.errors import FormatError
from forebear.formats import strictjson
from forebear.formats.dsse import parse_envelope

COMPARISON = Path("data/eval/verdict/comparison.json")
GATE = Path("data/eval/verdict/gate.json")
SCHEMA = "forebear.summary/v1"
VERDICTS = {
    0: "the release verified: no check failed",
    1: "the release did NOT verify: see the failed checks above",
    3: "no check failed, but some that were asked for stayed unchecked",
}


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage took, as its link says.

    Attributes:
        wall_s: seconds from start to end of the stage's own process.
        max_rss_bytes: largest resident memory of the stage's processes; None when not measured.
        confinement: how far undeclared reads and writes were kept out, as recorded.
    """

    stage: str
    wall_s: float | None
    max_rss_bytes: int | None
    confinement: str


@click.command(name="summary", epilog="Example: forebear summary")
@click.argument(
    "root", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path()
)
@click.option(
    "--verify-exit",
    type=int,
    metavar="CODE",
    help="Exit code of a `forebear verify` that has just run, to be shown in words.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the same facts as JSON.")
def command(root: Path, verify_exit: int | None, *, as_json: bool) -> None:
    """Shows scores, time and memory of the last run in ROOT (default: the current folder)."""
    comparison, gate = _load(root / COMPARISON), _load(root / GATE)
    costs = stage_costs(root / "links")
    if as_json:
        click.echo(json.dumps(_as_json(comparison, gate, costs), indent=2, sort_keys=True))
        return
    click.echo("\n".join(_screen(comparison, gate, costs, _verified(verify_exit))))


def stage_costs(folder: Path) -> list[StageCost]:
    """Costs of every stage that has a link in ``folder``, in the order in which they ended.

    Raises:
        FormatError: a link is not what the recorder writes.
    """
    found = []
    for file in folder.glob("*.link"):
        envelope = parse_envelope(file.read_bytes(), where=str(file))
        link = strictjson.parse(envelope.payload, where=str(file))
        byproducts = link.get("byproducts") if isinstance(link, dict) else None
        run = byproducts.get("forebear") if isinstance(byproducts, dict) else None
        if not isinstance(run, dict):
            raise FormatError("carries no run record", where=str(file))
        confinement = run.get("confinement")
        level = confinement.get("level") if isinstance(confinement, dict) else None
        cost = StageCost(
            stage=str(link.get("name", file.stem)),
            wall_s=_number(run.get("wall_s")),
            max_rss_bytes=_whole(run.get("max_rss_bytes")),
            confinement=str(level or "unknown"),
        )
        found.append((str(run.get("ended", "")), cost.stage, cost))
    return [cost for _, _, cost in sorted(found, key=lambda entry: entry[:2])]


def _load(file: Path) -> Mapping[str, Any] | None:
    """The object in ``file``; None when there is no such file."""
    if not file.is_file():
        return None
    value = strictjson.parse(file.read_bytes(), where=str(file))
    if not isinstance(value, dict):
        raise FormatError("must be an object", where=str(file))
    return value


def _screen(
    comparison: Mapping[str, Any] | None,
    gate: Mapping[str, Any] | None,
    costs: Sequence[StageCost],
    verified: str,
) -> Iterator[str]:
    yield "What was gained"
    yield from _score_lines(comparison)
    verdict = str(gate.get("verdict", "unknown")) if gate else "not computed"
    yield f"  gate:   {verdict}"
    yield f"  verify: {verified}"
    yield ""
    yield "What it took"
    yield from _cost_lines(costs)
    yield ""
    yield "What to try next"
    yield "  forebear verify .              check every link again, and the files on disk"
    yield "  dvc dag                        how the stages hang together"
    yield "  change a value in params.yaml, then: dvc repro     only what depends on it runs"
    yield "  forebear document --check      what the model's documents still need from a person"
    yield "  forebear pack --help           a release folder for somebody else to check"


def _verified(code: int | None) -> str:
    if code is None:
        return "not run here (forebear verify .)"
    return VERDICTS.get(code, f"verify could not run (exit {code}): see its message above")


def _score_lines(comparison: Mapping[str, Any] | None) -> Iterator[str]:
    if comparison is None:
        yield f"  no comparison yet ({COMPARISON} is missing): run dvc repro"
        return
    yield f"  {'task':<28} {'items':>6} {'base':>8} {'final':>8} {'change':>8}   95% interval"
    for row in _main_rows(comparison):
        scale, unit = (100, "%") if row.get("range", [0, 1]) == [0, 1] else (1, "")
        before, after = (
            f"{scale * score['value']:.1f}{unit}" if score else "-"
            for score in (row["scores"].get(who) for who in ("reference", "candidate"))
        )
        interval, delta = row.get("interval"), row.get("delta")
        bounds = (
            f"{scale * interval['low']:+.1f} to {scale * interval['high']:+.1f}"
            if interval
            else "-"
        )
        change = f"{scale * delta:+.1f}" if delta is not None else "-"
        name = str(row.get("shown_name") or row["task"])
        task = name if row["reference"] == "base" else f"{name} vs {row['reference']}"
        mark = "" if row.get("gates") else "   (reported, does not gate)"
        yield f"  {task:<28} {row['n']:>6} {before:>8} {after:>8} {change:>8}   {bounds}{mark}"
    yield "  positive: the final is better; every figure: data/eval/verdict/report.html"


def _main_rows(comparison: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The main figure of each task and reference, those that decide first."""
    seen: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in comparison.get("tasks", []):
        seen.setdefault((row["task"], row["reference"]), row)
    return sorted(seen.values(), key=lambda row: not row.get("gates"))


def _cost_lines(costs: Sequence[StageCost]) -> Iterator[str]:
    if not costs:
        yield "  no links yet: run dvc repro"
        return
    yield f"  {'stage':<18} {'time':>9} {'peak memory':>12}   confinement"
    for cost in costs:
        memory = f"{cost.max_rss_bytes / 2**30:.2f} GiB" if cost.max_rss_bytes else "unknown"
        yield f"  {cost.stage:<18} {_duration(cost.wall_s):>9} {memory:>12}   {cost.confinement}"
    known = [cost.wall_s for cost in costs if cost.wall_s is not None]
    peak = max((cost.max_rss_bytes or 0 for cost in costs), default=0)
    yield f"  {'all':<18} {_duration(sum(known)):>9} {peak / 2**30:>8.2f} GiB"
    if any(cost.confinement in {"unchecked", "unknown"} for cost in costs):
        yield "  unchecked: the stage was trusted to read and write only what it declares"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _as_json(
    comparison: Mapping[str, Any] | None,
    gate: Mapping[str, Any] | None,
    costs: Sequence[StageCost],
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "verdict": gate.get("verdict") if gate else None,
        "tasks": comparison.get("tasks", []) if comparison else None,
        "stages": [
            {
                "stage": cost.stage,
                "wall_s": cost.wall_s,
                "max_rss_bytes": cost.max_rss_bytes,
                "confinement": cost.confinement,
            }
            for cost in costs
        ],
    }
