"""Compares the preference methods on one pipeline: ``python -m benchmarks.preference``.

Each method is one DVC experiment that runs stage ``prefer`` alone, in a workspace of its own, from
the checkpoint that the pipeline has made; the workspace's own outs stay as they are. What the
stages measured ends in a table (Markdown and CSV) and a plot (SVG).

Run ``dvc repro prefer`` first, with a clean working tree: DVC takes tracked files along, no others.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.preference_plot import Panel, bars, lines

METHODS = ("dpo", "simpo", "orpo", "kto")
_METRICS = "data/prefer/metrics.json"
_CURVES = "data/prefer/curves.csv"
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the experiments and writes table and plot; prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preference", description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS), help="names, with commas between")
    parser.add_argument("--out", type=Path, default=Path("build/preference"), help="folder")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter, for all"
    )
    parser.add_argument("--keep", action="store_true", help="keep the experiments in DVC")
    asked = parser.parse_args(arguments)
    methods = asked.methods.split(",")
    names = {method: f"compare-{method}" for method in methods}
    try:
        for method, name in names.items():
            run_experiment(name, [f"prefer.method={method}", *asked.set])
        found = {method: read_experiment(name) for method, name in names.items()}
    finally:
        if not asked.keep:
            subprocess.run(["dvc", "exp", "remove", "--quiet", *names.values()], check=False)
    rows = [figures(metrics) for metrics, _ in found.values()]
    write(asked.out, rows, {method: curve for method, (_, curve) in found.items()})
    sys.stdout.write(markdown(rows))


def run_experiment(name: str, changes: Sequence[str]) -> None:
    """Runs stage ``prefer`` with changed params in a workspace of its own.

    Raises:
        SystemExit: the experiment failed; DVC has said why.
    """
    settings = [word for change in changes for word in ("--set-param", change)]
    command = ["dvc", "exp", "run", "--temp", "--force", "--single-item"]
    done = subprocess.run([*command, "--name", name, *settings, "prefer"], check=False)
    if done.returncode:
        raise SystemExit(f"experiment {name} failed")


def read_experiment(name: str) -> tuple[Row, list[dict[str, str]]]:
    """Metrics and curves that the experiment left."""
    import dvc.api

    metrics = json.loads(dvc.api.read(_METRICS, repo=".", rev=name))
    curves = csv.DictReader(io.StringIO(dvc.api.read(_CURVES, repo=".", rev=name)))
    return metrics, list(curves)


def figures(metrics: Mapping[str, Any]) -> Row:
    """One line of the table.

    ``margin`` and ``reward accuracy`` are of the reward that DPO implies, on one scale for all;
    ``accuracy`` is that of the plain log-probabilities; ``kl`` is in nats for each answer token.
    """
    before, after = metrics["before"], metrics["after"]
    row = {
        "method": metrics["method"],
        "margin": after["reward_margin"],
        "reward accuracy": after["reward_accuracy"],
        "accuracy before": before["preference_accuracy"],
        "accuracy after": after["preference_accuracy"],
        "kl": after["kl"],
        "answer tokens before": metrics["length"]["answer_tokens_before"],
        "answer tokens after": metrics["length"]["answer_tokens_after"],
        "length change": metrics["length"]["answer_tokens_change"],
    }
    if "verified" in metrics:
        row |= {
            "verified before": metrics["verified"]["before"],
            "verified after": metrics["verified"]["after"],
        }
    held_out = metrics.get("pairs_held_out", metrics.get("thumbs_held_out"))
    return row | {"held out": held_out, "steps": metrics["steps"], "flop": metrics["flop"]}


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    names = list(rows[0])
    lines_ = [
        names,
        ["---"] * len(names),
        *([_shown(row.get(name)) for name in names] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines_)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(
    out: Path, rows: Sequence[Row], curves: Mapping[str, Sequence[Mapping[str, str]]]
) -> None:
    """Writes ``comparison.md``, ``comparison.csv`` and ``comparison.svg`` to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.md").write_text(markdown(rows), encoding="utf-8")
    with (out / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "comparison.svg").write_text(plot(rows, curves), encoding="utf-8")


def plot(rows: Sequence[Row], curves: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """Bars for each figure and method, and each method's own loss by step."""
    names = [row["method"] for row in rows]
    n_held_out = rows[0]["held out"]

    def panel(title: str, key: str, unit: str, before: str | None = None) -> Panel:
        values = [float(row[key]) for row in rows]
        marks = None if before is None else [float(row[before]) for row in rows]
        return Panel(title, unit, names, values, marks)

    shown = [
        panel("Reward margin", "margin", "mean on held-out pairs, DPO's reward"),
        panel("Preference accuracy", "accuracy after", "share; tick: before", "accuracy before"),
        panel("Divergence from the parent", "kl", "nats for each answer token"),
        panel(
            "Length of answers", "answer tokens after", "tokens; tick: before",
            "answer tokens before",
        ),
    ]  # fmt: skip
    if all("verified after" in row for row in rows):
        unit = "share of answers; tick: before"
        shown.append(panel("Verified answers", "verified after", unit, "verified before"))
    series = {
        method: [(float(row["step"]), float(row["loss"])) for row in steps]
        for method, steps in curves.items()
    }
    return bars(
        f"Preference methods, {n_held_out} held out", shown, lines("Own loss by step", series)
    )


if __name__ == "__main__":
    main()
