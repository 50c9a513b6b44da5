"""The ``eval`` stage: reads measured runs, writes the verdict, refuses what does not pass.

A pure function of the item files and the settings; the work is ``forebear.gate``, so ``verify``
can repeat it byte by byte.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forebear.errors import GateError
from forebear.formats import strictjson
from forebear.gate.report import compare, metrics, render_table
from forebear.gate.runs import Run, load_run
from forebear.gate.settings import GateSettings
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
from forebear.train.stage import StageParams


class EvalParams(GateSettings, StageParams):
    """Section ``eval`` of the params. The seed is unused: nothing is drawn."""

    def settings(self) -> GateSettings:
        """The gate's part alone, as its digest covers it."""
        return GateSettings.model_validate(
            self.model_dump(mode="python", include=set(GateSettings.model_fields))
        )


def evaluate(
    params: EvalParams,
    *,
    candidate: Path,
    references: Sequence[Path],
    golden: Path,
    out: Path,
    metrics_file: Path,
    waivers: Path | None = None,
) -> None:
    """Writes ``gate.json``, ``comparison.json`` and the metrics; raises when the gate is shut.

    Args:
        params: the gate's settings.
        candidate: run folder of the checkpoint that wants to be released.
        references: run folders to compare with.
        golden: the golden set, to make sure that the runs were measured on this one.
        out: folder for the verdict.
        metrics_file: figures for ``dvc metrics``.
        waivers: folder of signed waivers; those that apply are copied beside the verdict, the
            others are named on the terminal.

    Raises:
        GateError: the verdict is FAIL or INCONCLUSIVE, or a run used another golden set.
    """
    settings = params.settings()
    ours = load_run(candidate)
    theirs = [load_run(folder) for folder in references]
    for run in (ours, *theirs):
        _require_golden(run, golden)
    decided = decide(ours, theirs, settings)
    signed = [] if waivers is None else load_waivers(waivers)
    for waiver in signed:
        if why := misfit(waiver, decided):
            sys.stderr.write(f"eval: waiver {waiver.file} does not apply: {why}\n")
    gate = waive(decided, signed)
    comparison = compare(ours, theirs, settings)
    out.mkdir(parents=True, exist_ok=True)
    _copy_used(gate, signed, out)
    (out / "gate.json").write_bytes(strictjson.dumps(gate))
    (out / "comparison.json").write_bytes(strictjson.dumps(comparison))
    metrics_file.parent.mkdir(parents=True, exist_ok=True)
    metrics_file.write_bytes(strictjson.dumps(metrics(gate, comparison)))
    sys.stderr.write(render_table(gate))
    if gate["verdict"] not in (PASS, PASS_WITH_WAIVERS, SMOKE):
        raise GateError(
            f"the verdict is {gate['verdict']}, so nothing after this stage runs",
            where="eval",
            fix="read the reasons above; train on, measure more items, or change the claim",
        )


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
