"""Decides again from what lies on disk, and compares any two run folders.

``recompute`` needs no training library and no key: it finds the runs by the digests that the
verdict names and gives the bytes that the verdict should have. Whether waivers are signed by an
owner is for ``forebear verify``.

Source: evaluation page, section 14.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forebear.errors import ConfigError, EnvironmentFailure, FormatError
from forebear.formats import strictjson
from forebear.gate.pairs import incomparable
from forebear.gate.report import compare
from forebear.gate.runs import RUN_FILE, Run, load_run
from forebear.gate.settings import PREVIOUS, GateSettings
from forebear.gate.verdict import GATE_SCHEMA, decide
from forebear.gate.waiver import FOLDER, load_waivers, waive

GATE_FILE = "gate.json"
COMPARISON_FILE = "comparison.json"
CONTAMINATION_FILE = "contamination.json"
_VERDICTS = ("", "data/eval/verdict", "eval/verdict")  # below the folder that is given
_RUNS = ("../../measure", "../runs")  # beside the verdict


@dataclass(frozen=True, slots=True)
class Again:
    """A verdict decided again.

    Attributes:
        file: the verdict as it lies on disk.
        found: its bytes.
        expected: the bytes that the results give.
        value: what the results give.
        n_items: results that were read.
    """

    file: Path
    found: bytes
    expected: bytes
    value: Mapping[str, Any]
    n_items: int

    @property
    def same(self) -> bool:
        """Whether the verdict is what the results give."""
        return self.found == self.expected

    def first_difference(self) -> str:
        """The first field that differs, the verdict before all others; empty when none does."""
        if self.same:
            return ""
        written = strictjson.parse(self.found, where=str(self.file))
        for name in ["verdict", *sorted(self.value.keys() | written.keys())]:
            if self.value.get(name) != written.get(name):
                ours, theirs = self.value.get(name), written.get(name)
                return f"{name} is {str(theirs)[:60]!a}, the results give {str(ours)[:60]!a}"
        return "it is written otherwise"


def find_verdict(folder: Path) -> Path:
    """The folder of ``gate.json`` in or below ``folder``.

    Raises:
        EnvironmentFailure: there is none.
    """
    for below in _VERDICTS:
        if (folder / below / GATE_FILE).is_file():
            return folder / below
    raise EnvironmentFailure(
        f"there is no {GATE_FILE} here", str(folder), "name the folder that the eval stage wrote"
    )


def read_value(file: Path) -> tuple[bytes, dict[str, Any]]:
    """Bytes and value of a JSON file that Forebear wrote.

    Raises:
        EnvironmentFailure: it cannot be read.
        FormatError: it is no object in canonical form.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise EnvironmentFailure(f"cannot read: {error.strerror}", str(file)) from error
    value = strictjson.parse_canonical(data, where=str(file))
    if not isinstance(value, dict):
        raise FormatError("must be an object", str(file))
    return data, value


def recompute(folder: Path, runs: Path | None = None) -> Again:
    """The verdict in ``folder``, decided again from the runs beside it.

    Args:
        folder: of the verdict, or of the repository or release that holds it.
        runs: folder of the run folders; those beside the verdict when left out.

    Raises:
        EnvironmentFailure: a run that the verdict names does not lie there.
        FormatError: a file is not what it must be, or not the one that the verdict names.
    """
    verdict = find_verdict(folder)
    file = verdict / GATE_FILE
    data, gate = read_value(file)
    if gate.get("schema") != GATE_SCHEMA:
        raise FormatError(
            f"was decided by another gate than {GATE_SCHEMA}", str(file), "run eval again"
        )
    try:
        settings = GateSettings.model_validate(gate["settings"])
        loaded = _load_runs(gate, verdict, runs)
        candidate, *references = loaded
        again = decide(candidate, references, settings, _contamination(gate, verdict))
        value = waive(again, load_waivers(verdict / FOLDER))
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise FormatError(f"is no verdict: {error}", str(file)) from error
    n_items = sum(len(task.items) for run in loaded for task in run.tasks.values())
    return Again(file, data, strictjson.dumps(value), value, n_items)


def _load_runs(gate: Mapping[str, Any], verdict: Path, runs: Path | None) -> list[Run]:
    """Candidate and references in the verdict's order, found by the digest of ``run.json``."""
    digests = {str(gate["candidate"]): _candidate_digest(gate)}
    digests |= {str(one["name"]): str(one["run_sha256"]) for one in gate["references"]}
    places = [runs] if runs is not None else [verdict / one for one in _RUNS]
    found = {}
    for file in sorted(one for place in places for one in place.glob(f"*/{RUN_FILE}")):
        found[hashlib.sha256(file.read_bytes()).hexdigest()] = file.parent
    loaded = []
    for name, digest in digests.items():
        if digest not in found:
            raise EnvironmentFailure(
                f"the run {name!r} (sha256 {digest:.12}…) does not lie here",
                ", ".join(str(place) for place in places),
                "name the folder of the runs with --runs",
            )
        run = load_run(found[digest])
        loaded.append(replace(run, name=PREVIOUS) if name == PREVIOUS else run)
    return loaded


def _candidate_digest(gate: Mapping[str, Any]) -> str:
    wanted = f"{gate['candidate']}/{RUN_FILE}"
    return next((str(one["sha256"]) for one in gate["inputs"] if one["path"] == wanted), "")


def _contamination(gate: Mapping[str, Any], verdict: Path) -> Mapping[str, Any] | None:
    digest = gate["contamination_sha256"]
    if digest is None:
        return None
    data, value = read_value(verdict / CONTAMINATION_FILE)
    if hashlib.sha256(data).hexdigest() != digest:
        raise FormatError("is not what the verdict names", str(verdict / CONTAMINATION_FILE))
    return value


def compare_runs(candidate: Run, reference: Run) -> dict[str, Any]:
    """Every metric that both runs have, beside each other, whatever the params say.

    Raises:
        ConfigError: a task was measured differently, which is named, or they share no task.
    """
    shared = sorted(candidate.tasks.keys() & reference.tasks.keys())
    if not shared:
        raise ConfigError("the runs have no task in common", f"{candidate.name}, {reference.name}")
    faults = [
        f"{task}: {fault}"
        for task in shared
        for fault in incomparable(candidate.tasks[task], reference.tasks[task])
    ]
    if faults:
        raise ConfigError(
            "\n  ".join(["the runs cannot be compared", *faults]),
            fix="measure both with the same params, data, template and judge",
        )
    only = replace(candidate, tasks={task: candidate.tasks[task] for task in shared})
    return compare(only, [reference], GateSettings(min_items=1))


def explain(gate: Mapping[str, Any], comparison: Mapping[str, Any], task: str) -> list[str]:
    """What decided about a task, in lines for people.

    Raises:
        ConfigError: neither file knows the task.
    """
    lines: list[str] = []
    pairs = {(one["task"], one["metric"], one["reference"]): one for one in gate["pairs"]}
    for row in comparison["tasks"]:
        if row["task"] == task:
            pair = pairs.pop((task, row["metric"], row["reference"]), None)
            lines += _explain_row(row, pair)
    for (name, metric, reference), pair in sorted(pairs.items()):
        if name == task:
            lines.append(f"{task}.{metric} against {reference}: {pair['verdict']}")
            lines += [f"  {reason}" for reason in pair["reasons"]]
    for limit in gate["limits"]:
        if limit["task"] == task:
            lines.append(f"{task}.{limit['metric']}, limit {limit['limit']:g}: {limit['verdict']}")
            lines += [f"  {reason}" for reason in limit["reasons"]]
    if not lines:
        known = ", ".join(sorted({row["task"] for row in comparison["tasks"]}))
        raise ConfigError(f"{task[:60]!r} was not measured", fix=f"one of: {known}")
    return lines


def _explain_row(row: Mapping[str, Any], pair: Mapping[str, Any] | None) -> list[str]:
    verdict = pair["verdict"] if pair else "reported, decides nothing"
    lines = [f"{row['shown_name']}.{row['metric']} against {row['reference']}: {verdict}"]
    for side in ("candidate", "reference"):
        score = row["scores"][side]
        if score is not None:
            lines.append(f"  {side} {score['value']:.4f}{_interval(score['interval'])}")
    if row["delta"] is not None:
        counted = "" if row["b"] is None else f", {row['b']} lost, {row['c']} gained"
        lines.append(
            f"  difference {row['delta']:+.4f}{_interval(row['interval'])}, {row['n']} items"
            f"{counted}"
        )
        lines.append(f"  lower bound {row['lower']:+.4f}, p of worse {row['p']:.4f}")
    if row["weighted"]:
        lines.append(
            f"  weighted by strata {row['weighted']['delta']:+.4f}, lower bound "
            f"{row['weighted']['lower']:+.4f}"
        )
    if row["margin"] is not None:
        lines.append(f"  margin {row['margin']:g}")
    lines += [f"  {reason}" for reason in (pair or row)["reasons"]]
    lines += _ids("lost", row["lost"])
    return lines


def _interval(raw: Mapping[str, Any] | None) -> str:
    return "" if raw is None else f" ({raw['low']:.4f} to {raw['high']:.4f}, {raw['method']})"


def _ids(word: str, ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return [f"  {word}: {', '.join(ids[:10])}{more}"]
