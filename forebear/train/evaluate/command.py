"""Measures outside the pipeline: one suite, or one judge's calibration, from a params file.

What ``forebear eval --suite`` and ``--calibrate`` start in a process of their own, because the core
does not import the learning library:

``python -P -m forebear.train.evaluate.measure --suite NAME --params FILE --checkpoint FOLDER …``
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure, ForebearError
from forebear.train.evaluate.params import MeasureParams
from forebear.train.stage import PARAMS_ENV, read_params, stage_seed, validate_section


def read_measure_params(file: Path, **changes: Any) -> MeasureParams:
    """Section ``measure`` of a params file.

    Args:
        file: YAML; under a recorder the signed parameters are read in its place.
        changes: keys of the section that take the place of the file's.

    Raises:
        ConfigError: every fault of the section, one line each.
        EnvironmentFailure: there is no such file.
    """
    values = read_params()[0] if os.environ.get(PARAMS_ENV) else _read(file)
    section = values.get("measure", {})
    if isinstance(section, dict):
        values = {**values, "measure": {**section, **changes}}
    found = validate_section(MeasureParams, "measure", values)
    return MeasureParams.model_validate(found)


def _read(file: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the parameters: {error.strerror}", where=str(file)
        ) from error
    except YAMLError as error:
        raise ConfigError(str(error).replace("\n", " "), where=str(file)) from error
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping of sections", where=str(file))
    return values


def _only(params: MeasureParams, suite: str, file: Path) -> MeasureParams:
    """The same section with one task."""
    if suite not in params.chosen():
        raise ConfigError(
            f"the params choose no task '{suite}'",
            where=f"{file}: measure.tasks",
            fix=f"choose one of: {', '.join(params.chosen())}",
        )
    tasks = {suite: params.chosen()[suite].model_dump(exclude_unset=True)}
    return read_measure_params(file, tasks=tasks)


def _calibrate(params: MeasureParams, judge: str, options: argparse.Namespace) -> None:
    from forebear.formats import strictjson
    from forebear.gate.runs import CALIBRATION_FILE
    from forebear.train.evaluate.backends import Budget
    from forebear.train.evaluate.journal import Journal
    from forebear.train.evaluate.judged import calibrate, make_judges
    from forebear.train.evaluate.subject import open_local
    from forebear.train.stage import scratch_dir

    if judge not in params.judges:
        raise ConfigError(
            f"there is no judge '{judge}'",
            where=f"{options.params}: measure.judges",
            fix=f"choose one of: {', '.join(sorted(params.judges)) or 'none is configured'}",
        )
    budget = Budget(params.budget)
    journal = Journal(scratch_dir("measure") / "journal.jsonl")
    try:
        judges = make_judges(
            {judge: params.judges[judge]},
            journal,
            seed=params.seed,
            benchmarks=options.benchmarks,
            budget=budget,
            local=lambda folder: open_local(params, folder, journal, budget),
        )
        value = calibrate(
            judges,
            benchmarks=options.benchmarks,
            seed=params.seed,
            limit=params.calibration.limit,
        )
    finally:
        journal.close()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / CALIBRATION_FILE).write_bytes(strictjson.dumps(dict(value)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -P -m forebear.train.evaluate.measure", description=main.__doc__
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--suite", help="measure this task of the params alone")
    what.add_argument("--calibrate", metavar="JUDGE", help="calibrate this judge of the params")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--checkpoint", type=Path, help="folder of the measured model")
    parser.add_argument("--golden", type=Path, default=Path("data/curate/golden"))
    parser.add_argument("--benchmarks", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="measured")
    options = parser.parse_args()
    if options.suite and options.checkpoint is None:
        parser.error("--suite needs --checkpoint")
    return options


def main() -> None:
    """Measures one suite, or calibrates one judge."""
    options = _options()
    from forebear.train.runtime import configure

    try:
        params = read_measure_params(options.params)
        configure(stage_seed(params.seed, "measure"))
        if options.calibrate:
            _calibrate(params, options.calibrate, options)
            return
        from forebear.train.evaluate.measure import measure

        measure(
            _only(params, options.suite, options.params),
            checkpoint=options.checkpoint,
            golden=options.golden,
            benchmarks=options.benchmarks,
            out=options.out,
            name=options.name,
        )
    except ForebearError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
