"""Checks every section of ``params.yaml`` against its stage's model: ``python -m stages``.

All faults of all sections are listed at once, before anything runs; exit 2 when there are any. A
section that no stage reads is a fault too: a misspelt name would otherwise be silently unused.
Imports the stages' params models only, never torch.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any

import stages
from forebear.errors import ConfigError, ForebearError
from forebear.train.stage import StageParams, read_params, validate_section

TOP_LEVEL = ("seed",)


def stage_models() -> dict[str, list[type[StageParams]]]:
    """Params models by section; several stages may read one section."""
    found: dict[str, list[type[StageParams]]] = {}
    for module in pkgutil.iter_modules(stages.__path__):
        if module.name.startswith("_"):
            continue
        run = importlib.import_module(f"stages.{module.name}").main
        models = found.setdefault(getattr(run, "section", module.name), [])
        if hasattr(run, "params_model"):
            models.append(run.params_model)
    return found


def faults(values: Mapping[str, Any], models: Mapping[str, list[type[StageParams]]]) -> list[str]:
    """One line per fault, in the order of the sections.

    Args:
        values: the whole file as plain data.
        models: as from :func:`stage_models`.
    """
    lines = [
        f"{name}: no stage reads this section"
        for name in map(str, values)
        if name not in models and name not in TOP_LEVEL
    ]
    for section, candidates in models.items():
        for model in candidates:
            lines.extend(_faults_of(model, section, values))
    return list(dict.fromkeys(lines))


def _faults_of(model: type[StageParams], section: str, values: Mapping[str, Any]) -> list[str]:
    try:
        validate_section(model, section, values)
    except ConfigError as error:
        listed = [line.strip() for line in error.what.splitlines()[1:]]
        place = error.where.removeprefix("params.yaml").removeprefix(": ") or section
        return listed or [f"{place}: {error.what}"]
    return []


def main() -> int:
    """Prints the faults, or one line that says how many sections hold."""
    try:
        values, where = read_params()
        models = stage_models()
        found = faults(values, models)
        if found:
            listing = "\n".join(f"  {line}" for line in found)
            raise ConfigError(
                f"{len(found)} fault(s)\n{listing}",
                where=where,
                fix="correct the keys named above",
            )
    except ForebearError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stderr.write(f"{where}: {len(models)} sections hold\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
