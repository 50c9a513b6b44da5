"""The ``eval`` stage: reads measured runs, writes the verdict, refuses what does not pass.

A pure function of the item files, the training texts and the settings; the work is
``forebear.gate``, so ``verify`` can repeat it byte by byte.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, GateError
from forebear.formats import strictjson
from forebear.gate.htmlreport import plots, render_report
from forebear.gate.report import compare, metrics, render_table
from forebear.gate.runs import Run, load_run
from forebear.gate.settings import PREVIOUS, ContaminationSettings, GateSettings
from forebear.gate.verdict import PASS, SMOKE, decide
from forebear.gate.waiver import (
    FOLDER,
    PASS_WITH_WAIVERS,
    Waiver,
    load_waivers,
    misfit,
    waive,
)
from forebear.hashing.digest import hash_files
from forebear.train.evaluate.contamination import contaminated
from forebear.train.evaluate.searched import eval_sets, run_texts, training_texts
from forebear.train.stage import StageParams


class EvalParams(GateSettings, StageParams):
    """Section ``eval`` of the params. The seed is unused: the gate's draws have their own."""

    def settings(self) -> GateSettings:
        """The gate's part alone, as its digest covers it."""
        return GateSettings.model_validate(
            self.model_dump(mode="python", include=set(GateSettings.model_fields))
        )


@dataclass(frozen=True, slots=True)
class Searched:
    """Where the training texts lie that are searched for eval items; None is not searched.

    Attributes:
        benchmarks: folder of the public benchmarks' data.
        corpus: folder of the curated texts.
        ledger: the ledger's root, which says whether its keys are salted.
        trajectories: what teachers wrote.
        pairs: preference pairs.
    """

    benchmarks: Path | None = None
    corpus: Path | None = None
    ledger: Path | None = None
    trajectories: Path | None = None
    pairs: Path | None = None

    def names(self) -> list[str]:
        """Kinds of training texts that are searched."""
        return [
            name for name in ("corpus", "trajectories", "pairs") if getattr(self, name) is not None
        ]


def evaluate(  # one argument per path
    params: EvalParams,
    *,
    candidate: Path,
    references: Sequence[Path],
    golden: Path,
    out: Path,
    metrics_file: Path,
    previous: Path | None = None,
    searched: Searched | None = None,
    waivers: Path | None = None,
) -> None:
    """Writes verdict, comparison, contamination, report, plots and metrics; raises when shut.

    Args:
        params: the gate's settings.
        candidate: run folder of the checkpoint that wants to be released.
        references: run folders to compare with.
        golden: the golden set, to make sure that the runs were measured on this one.
        out: folder for the verdict.
        metrics_file: figures for ``dvc metrics``.
        previous: run folder of the previous release; the gate knows it as ``previous``.
        searched: training texts, to look for eval items in.
        waivers: folder of signed waivers; those that apply are copied beside the verdict, the
            others are named on the terminal.

    Raises:
        GateError: the verdict is FAIL or INCONCLUSIVE, or a run used another golden set.
    """
    settings = params.settings()
    ours = load_run(candidate)
    folders = {ours.name: candidate}
    theirs = []
    for folder in references:
        theirs.append(load_run(folder))
        folders[theirs[-1].name] = folder
    for run in (ours, *theirs):
        _require_golden(run, golden)
    if previous is not None:
        theirs.append(replace(load_run(previous), name=PREVIOUS))
        folders[PREVIOUS] = previous
    contamination = _search(ours, golden, settings.contamination, searched)
    decided = decide(ours, theirs, settings, contamination)
    signed = [] if waivers is None else load_waivers(waivers)
    for waiver in signed:
        if why := misfit(waiver, decided):
            sys.stderr.write(f"eval: waiver {waiver.file} does not apply: {why}\n")
    gate = waive(decided, signed)
    comparison = compare(ours, theirs, settings, contamination)
    out.mkdir(parents=True, exist_ok=True)
    _copy_used(gate, signed, out)
    for name, value in _values(gate, comparison, contamination).items():
        (out / name).write_bytes(strictjson.dumps(value))
    _write_report(out, gate, comparison, contamination, (ours, *theirs), folders)
    metrics_file.parent.mkdir(parents=True, exist_ok=True)
    metrics_file.write_bytes(strictjson.dumps(metrics(gate, comparison)))
    sys.stderr.write(render_table(gate))
    if gate["verdict"] not in (PASS, PASS_WITH_WAIVERS, SMOKE):
        raise GateError(
            f"the verdict is {gate['verdict']}, so nothing after this stage runs",
            where="eval",
            fix="read the reasons above; train on, measure more items, or change the claim",
        )


def _search(
    ours: Run, golden: Path, rules: ContaminationSettings | None, searched: Searched | None
) -> dict[str, Any] | None:
    """What of the eval items stands in the training texts; None where nobody asks."""
    if rules is None or searched is None or not searched.names():
        return None
    value: dict[str, Any] = contaminated(
        eval_sets(ours, golden=golden, benchmarks=searched.benchmarks),
        training_texts(
            corpus=searched.corpus,
            trajectories=searched.trajectories,
            pairs=searched.pairs,
            ledger=searched.ledger,
        ),
        rules,
        candidate=ours,
        searched=searched.names(),
    )
    return value


def _values(
    gate: Mapping[str, Any], comparison: Mapping[str, Any], contamination: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    values = {"gate.json": dict(gate), "comparison.json": dict(comparison)}
    return (
        values if contamination is None else {**values, "contamination.json": dict(contamination)}
    )


def _write_report(  # noqa: PLR0917  # all that a report shows
    out: Path,
    gate: Mapping[str, Any],
    comparison: Mapping[str, Any],
    contamination: Mapping[str, Any] | None,
    runs: Sequence[Run],
    folders: Mapping[str, Path],
) -> None:
    """The page for people and the tables for ``dvc plots``."""
    summaries = {run.name: _read_json(folders[run.name] / "summary.json") for run in runs}
    page = render_report(
        gate=gate,
        comparison=comparison,
        summaries=summaries,
        calibration={run.name: run.calibration for run in runs if run.calibration is not None},
        contamination=contamination,
        texts={run.name: run_texts(folders[run.name]) for run in runs},
    )
    (out / "report.html").write_bytes(page)
    (out / "plots").mkdir(exist_ok=True)
    for name, data in plots(gate, comparison, summaries).items():
        (out / "plots" / name).write_bytes(data)


def _read_json(file: Path) -> Any:
    try:
        return strictjson.parse(file.read_bytes(), where=str(file))
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read: {error.strerror}", where=str(file), fix="run measure first"
        ) from error


def _copy_used(gate: Mapping[str, Any], signed: Sequence[Waiver], out: Path) -> None:
    """The waivers that the verdict rests on, beside it."""
    used = {entry["file"] for entry in gate["waivers"]}
    for waiver in signed:
        if waiver.file in used:
            (out / FOLDER).mkdir(exist_ok=True)
            (out / FOLDER / waiver.file).write_bytes(waiver.data)


def _require_golden(run: Run, golden: Path) -> None:
    """Refuses a run whose golden tasks were measured on other bytes than those in ``golden``."""
    tasks = [
        (task, golden / Path(str(measured.identity["source"])).name)
        for task, measured in sorted(run.tasks.items())
        if str(measured.identity.get("source", "")).startswith("golden/")
    ]
    digests = hash_files([file for _, file in tasks])
    for (task, file), digest in zip(tasks, digests, strict=True):
        if digest != run.tasks[task].identity["data_sha256"]:
            raise GateError(
                f"the run '{run.name}' measured {task} on another golden set",
                where=str(file),
                fix="measure again: dvc repro",
            )
