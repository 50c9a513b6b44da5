"""What a learning rate teaches and what it destroys: ``python -m benchmarks.transition``.

Trains the SFT stage of a finished run once at each rate, each time from the run's CPT checkpoint,
and measures uptake and retention as the stage does (:mod:`forebear.train.sft_guard`). The run's
outs stay as they are. Ends in a table (CSV), a plot (SVG), the rate that ``sft.lr: auto`` takes
from such a table, and what the guard says of each rate that it refuses. A command that was killed
goes on where it was.

Run ``dvc repro cpt`` first. On the embedded default a rate takes about as long as the stage.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.measuring import table
from benchmarks.preference_plot import Panel, bars
from forebear.errors import RecordError
from forebear.hashing.digest import hash_tree
from forebear.train.checkpoint import load_tokenizer
from forebear.train.runtime import configure
from forebear.train.sft_guard import Standing
from forebear.train.sft_runs import Runs
from forebear.train.sft_settings import SftParams
from forebear.train.sft_sweep import COLUMNS, Candidate, inside, run_sweep, sweep_table
from forebear.train.stage import read_params, stage_seed, validate_section

# The last is ten times the highest accepted one.
RATES = {"lora": (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3), "full": (1e-5, 2e-5, 5e-5, 1e-4, 5e-4)}
_SHOWN = ("lr", "steps", "retention", "uptake", "domain_loss_after", "answer_accuracy_after")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures every rate, writes table and plot, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transition", description=__doc__)
    parser.add_argument("--method", choices=tuple(RATES), help="the params' own when left out")
    parser.add_argument("--rates", help="learning rates, with commas between")
    parser.add_argument("--steps", type=int, help="so many steps of each; all when left out")
    parser.add_argument("--base", type=Path, default=Path("data/cpt/checkpoint"))
    parser.add_argument("--rows", type=Path, default=Path("data/curate/corpus/instruction.jsonl"))
    parser.add_argument("--shards", type=Path, default=Path("data/tokenize/shards"))
    parser.add_argument("--out", type=Path, default=Path("build/transition"), help="folder")
    asked = parser.parse_args(arguments)
    params = _params(asked.method)
    rates = (
        [float(rate) for rate in asked.rates.split(",")] if asked.rates else RATES[params.method]
    )
    configure(stage_seed(params.seed, "sft"))
    runs = Runs.open(
        params, load_tokenizer(asked.base), base=asked.base, rows=asked.rows, shards=asked.shards
    )
    before, candidates = measure(runs, rates, steps=asked.steps, kept=asked.out / "kept")
    sys.stdout.write(report(params, before, candidates, out=asked.out))


def _params(method: str | None) -> SftParams:
    """Section ``sft`` of the current folder's params; ranges do not bind a benchmark."""
    values, _ = read_params()
    section = dict(values.get("sft", {}))
    if method is not None:
        section["method"] = method
    return cast("SftParams", validate_section(SftParams, "sft", {**values, "sft": section}))


def measure(
    runs: Runs, rates: Sequence[float], *, steps: int | None, kept: Path
) -> tuple[Standing, list[Candidate]]:
    """The parent's standing, and each rate's result in rising order, kept below ``kept``."""
    before = runs.measure(runs.fresh())
    settings = runs.params.model_dump_json(exclude={"lr", "sweep", "allow"})
    key = f"{settings}|{steps}|{hash_tree(runs.parent).digest}"
    folder = kept / hashlib.sha256(key.encode()).hexdigest()[:16]
    return before, run_sweep(rates, runs.trial(steps), scratch=folder)


def report(
    params: SftParams, before: Standing, candidates: Sequence[Candidate], *, out: Path
) -> str:
    """Writes ``transition.csv`` and ``transition.svg`` to ``out``; gives the text to print."""
    from forebear.train.metrics import write_curves

    bound = params.min_retention
    said = []
    try:
        best = inside(candidates, before, min_retention=bound)[0]
        said.append(
            f"auto takes {best.lr:g}, the highest that keeps retention at {bound:g} or more"
        )
    except RecordError as error:
        best = None
        said.append(str(error))
    for one in candidates:
        try:
            one.transition(before).require(bound, lr=one.lr)
        except RecordError as error:
            said.append(f"refused: {error}")
    rows = sweep_table(candidates, before, min_retention=bound, chosen=best)
    write_curves(out / "transition.csv", rows, COLUMNS)
    (out / "transition.svg").write_text(plot(params, rows), encoding="utf-8")
    shutil.rmtree(out / "kept", ignore_errors=True)
    shown = [{name: _shown(row.get(name, "")) for name in _SHOWN} for row in rows]
    return "\n".join([table(shown), *said]) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plot(params: SftParams, rows: Sequence[dict[str, Any]]) -> str:
    """Bars by learning rate: retention against its bound, uptake, and what both rest on."""
    measured = [row for row in rows if "uptake" in row]  # one that diverged has no figures
    names = [f"{row['lr']:.0e}".replace("e-0", "e-") for row in measured]

    def panel(title: str, unit: str, key: str, marks: Sequence[float] | None = None) -> Panel:
        return Panel(title, unit, names, [float(row[key]) for row in measured], marks)

    def old(key: str) -> list[float]:
        return [float(row[key]) for row in measured]

    bounds = [params.min_retention] * len(measured)
    panels = [
        panel("Retention", "share of the domain's probability; tick: bound", "retention", bounds),
        panel("Uptake", "nats for each answer token", "uptake"),
        panel(
            "Accuracy of held-out answers",
            "share of their tokens; tick: before",
            "answer_accuracy_after",
            old("answer_accuracy_before"),
        ),
        panel(
            "Domain loss",
            "nats for each token; tick: before",
            "domain_loss_after",
            old("domain_loss_before"),
        ),
    ]
    return bars(f"SFT learning rates ({params.method})", panels)


if __name__ == "__main__":
    main()
