"""What a stage script is: one validated section of parameters, declared paths, one call.

A script under ``stages/`` decorates its ``main`` with :func:`stage`. The decorator reads the
stage's parameters, turns the keyword-only ``Path`` arguments into command-line options, fixes
randomness and hands over. It refuses unknown or missing parameters, all faults in one message.

Under ``forebear record`` the parameters come from the file that the recorder names in
``FOREBEAR_PARAMS``, so the values used are the values signed; without a recorder they are read
from ``params.yaml`` in the current folder.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forebear.errors import ConfigError, EnvironmentFailure, ForebearError

PARAMS_ENV = "FOREBEAR_PARAMS"
SCRATCH_ENV = "FOREBEAR_SCRATCH"


class Allowance(BaseModel):
    """A rule that the params set aside, with the reason and the person who takes it on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    rule: str
    reason: str = Field(min_length=10)
    by: str = Field(min_length=2)


class StageParams(BaseModel):
    """Base of every stage's section: strict, frozen, unknown keys refused.

    ``seed`` is the pipeline's top-level seed; :func:`stage_seed` derives the stage's own from it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    seed: int = Field(ge=0, lt=2**53)
    allow: tuple[Allowance, ...] = Field(default=(), strict=False)

    def allows(self, rule: str) -> bool:
        """Whether an allowance for ``rule`` is declared."""
        return any(entry.rule == rule for entry in self.allow)

    def require_range(self, rule: str, value: float, low: float, high: float) -> None:
        """Refuses a value outside [low, high] unless ``rule`` is allowed.

        Raises:
            ConfigError: outside the range and no allowance.
        """
        if low <= value <= high or self.allows(rule):
            return
        raise ConfigError(
            f"{value:g} is outside the accepted range {low:g} to {high:g}",
            where=f"params.yaml: {rule}",
            fix=f"choose a value inside it, or add to that section's `allow`: "
            f"{{rule: {rule}, reason: …, by: …}}",
        )


def stage_seed(seed: int, stage_name: str) -> int:
    """Seed of one stage, in [0, 2^31): from the pipeline's seed and the stage's name."""
    digest = hashlib.sha256(f"{seed}|{stage_name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def read_params() -> tuple[Mapping[str, Any], str]:
    """The parameters as plain data, and the name of where they came from.

    Raises:
        ConfigError: the file is not a mapping, not YAML or not UTF-8.
        EnvironmentFailure: there is no such file.
    """
    signed = os.environ.get(PARAMS_ENV)
    file = Path(signed) if signed else Path("params.yaml")
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(
            f"cannot read the parameters: {error.strerror}",
            where=str(file),
            fix="run from the folder that holds params.yaml",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"is no UTF-8 at byte {error.start}", where=str(file)) from error
    if signed:
        values = json.loads(text)
    else:
        # ruamel.yaml with YAML 1.2 rules, as DVC reads the same file
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            values = YAML(typ="safe").load(text)
        except YAMLError as error:
            raise ConfigError(str(error).replace("\n", " "), where="params.yaml") from error
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping of sections", where=str(file))
    return values, "params.yaml"


def validate_section(
    model: type[StageParams], section: str, values: Mapping[str, Any]
) -> StageParams:
    """The stage's parameters as its model.

    Args:
        model: the params class of the stage.
        section: key in ``params.yaml``.
        values: the whole file as plain data.
    Raises:
        ConfigError: every fault of the section, one line each.
    """
    raw = values.get(section, {})
    if not isinstance(raw, dict):
        raise ConfigError("must be a mapping", where=f"params.yaml: {section}")
    if "seed" in raw:
        raise ConfigError("the seed stands at the top level", where=f"params.yaml: {section}.seed")
    try:
        return model.model_validate({"seed": values.get("seed"), **raw})
    except ValidationError as error:
        lines = [_fault_line(section, fault) for fault in error.errors()]
        raise ConfigError(
            f"{len(lines)} fault(s)\n" + "\n".join(f"  {line}" for line in sorted(lines)),
            where="params.yaml",
            fix="correct the keys named above",
        ) from error


def _fault_line(section: str, fault: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    name = path if path == "seed" else f"{section}.{path}" if path else section
    got = repr(fault.get("input"))
    shown = got if len(got) <= 60 else got[:57] + "…"
    if fault["type"] == "extra_forbidden":
        return f"{name}: unknown key"
    if fault["type"] == "missing":
        return f"{name}: missing"
    return f"{name}: {fault['msg']} (got {shown})"


def scratch_dir(stage_name: str) -> Path:
    """Folder for resume state, outside every out, keyed by the recorder to the inputs' digest.

    Without a recorder there is no key, so the folder is a fresh temporary one and nothing is
    ever resumed from it.
    """
    named = os.environ.get(SCRATCH_ENV)
    if named:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    import tempfile

    return Path(tempfile.mkdtemp(prefix=f"forebear-{stage_name}-"))


def stage(
    name: str, *, section: str | None = None
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Turns ``main(params, *, path: Path, …)`` into the command of stage ``name``.

    Options are the keyword-only arguments (underscores become hyphens), all required unless they
    have a default; types ``Path``, ``str`` and ``int`` are understood, also ``… | None``. A
    :class:`ForebearError` is printed without traceback and ends the process with its exit code.

    Args:
        name: stage name, which also seeds its randomness.
        section: key in ``params.yaml``; the name itself when left out.
    """

    def decorate(main: Callable[..., None]) -> Callable[[], None]:
        def run() -> None:
            try:
                _run(main, name, section or name)
            except ForebearError as error:
                sys.stderr.write(f"error: {error}\n")
                raise SystemExit(error.exit_code) from None
            except OSError as error:
                # a full disk or a lost permission is the machine's fault, not a crash
                sys.stderr.write(f"error: {error.filename or name}: {error.strerror or error}\n")
                raise SystemExit(EnvironmentFailure.exit_code) from None

        run.__doc__ = main.__doc__
        run.params_model = _params_model(main)  # type: ignore[attr-defined]  # read by stages/__main__
        run.section = section or name  # type: ignore[attr-defined]  # read by stages/__main__
        return run

    return decorate


def _params_model(main: Callable[..., None]) -> type[StageParams]:
    model: type[StageParams] = typing.get_type_hints(main)["params"]
    return model


def _plain(hint: Any) -> Any:
    """The type itself of one that may be None."""
    some = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return some[0] if len(some) == 1 else hint


def _run(main: Callable[..., None], name: str, section: str) -> None:
    hints = typing.get_type_hints(main)
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=main.__doc__)
    for argument in inspect.signature(main).parameters.values():
        if argument.kind is inspect.Parameter.KEYWORD_ONLY:
            required = argument.default is inspect.Parameter.empty
            parser.add_argument(
                "--" + argument.name.replace("_", "-"),
                type=_plain(hints[argument.name]),
                required=required,
                default=None if required else argument.default,
            )
    options = vars(parser.parse_args())
    values, _ = read_params()
    params = validate_section(hints["params"], section, values)
    from forebear.train.runtime import configure

    configure(stage_seed(params.seed, name))
    main(params, **options)
