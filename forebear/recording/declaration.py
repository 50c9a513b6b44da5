"""What a call of the recorder records: stage, command and options, as ``dvc.yaml`` declares them.

Refuses a name or a command other than the declared ones, a stage without its link among the outs,
paths outside the repository, and options that it does not understand.

Rests on: provenance page, section 4, step 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forebear.errors import ConfigError, UsageError
from forebear.hashing.paths import check_relative_path
from forebear.pipeline import (
    DVC_FILE,
    Pipeline,
    Stage,
    Workspace,
    inner_argv,
    link_path,
    load_workspace,
)
from forebear.recording.confine import Asked
from forebear.recording.openings import granted

CONFINE_ENV = "FOREBEAR_CONFINE"


@dataclass(frozen=True, slots=True)
class Run:
    """What one call records, fixed before anything is hashed.

    Attributes:
        root: the DVC root.
        workspace: as DVC resolves it.
        stage: the one recorded.
        argv: its declared command.
        keys: folder of the recorder's key.
        use_cache: whether digests of unchanged files may come from the digest cache.
        confine: how far the command is to be confined.
        why_less: why that is less than everything; empty when it is not.
    """

    root: Path
    workspace: Workspace
    stage: Stage
    argv: tuple[str, ...]
    keys: Path
    use_cache: bool = True
    confine: Asked = "enforce"
    why_less: str = ""


def require_name(stage_name: str) -> bool:
    """Whether DVC runs this call; the name must then be the one that DVC gave."""
    named = os.environ.get("DVC_STAGE", "")
    # from a subfolder DVC addresses the same stage as ../dvc.yaml:name
    ours = re.sub(r"^(?:\.\./)*dvc\.yaml:", "", named)
    if named and ours != stage_name:
        raise UsageError(
            f"asked to record {stage_name!r}, but DVC is running {named!r}",
            where=f"{DVC_FILE}: {named}.cmd",
            fix=f"write it as: forebear record {ours} -- COMMAND …",
        )
    return bool(named)


def resolve(  # noqa: PLR0913  # options by name
    stage_name: str,
    argv: Sequence[str],
    root: Path,
    keys: Path,
    *,
    use_cache: bool = True,
    confine: bool = True,
) -> Run:
    """The run that the call asks for.

    Raises:
        UsageError: the command differs from the declared one.
        ConfigError: the stage is not declared, or not as the recorder needs it.
    """
    if "/" in stage_name or ":" in stage_name:
        raise ConfigError(
            "only stages of the dvc.yaml at the root can be recorded, with names without '/'",
            where=f"{DVC_FILE}: {stage_name}",
            fix="move the stage there; use foreach keys without '/'",
        )
    workspace = load_workspace(root)
    stage = workspace.pipeline.stage(stage_name)
    declared = inner_argv(stage)
    if tuple(argv) != declared:
        raise UsageError(
            f"the command differs from the declared one: {_first_difference(argv, declared)}",
            where=f"{DVC_FILE}: {stage_name}.cmd",
            fix="run it through `dvc repro`; keep shell operators and $VARIABLES out of cmd",
        )
    if not any(out.path == link_path(stage) and out.cached for out in stage.outs):
        raise ConfigError(
            "the stage does not declare its link as a cached out",
            where=f"{DVC_FILE}: {stage_name}.outs",
            fix=f"add this line under outs:\n    - {link_path(stage)}",
        )
    _require_local_paths(stage)
    wants_network(stage)
    granted(stage)
    asked, why_less = _asked(stage, os.environ, confine=confine)
    return Run(root, workspace, stage, declared, keys, use_cache, asked, why_less)


def _first_difference(given: Sequence[str], declared: Sequence[str]) -> str:
    for number, (left, right) in enumerate(zip(given, declared, strict=False), start=1):
        if left != right:
            return f"word {number} is {left[:80]!r}, declared is {right[:80]!r}"
    return f"{len(given)} words given, {len(declared)} declared"


def _require_local_paths(stage: Stage) -> None:
    for path in [*stage.deps, *(out.path for out in stage.outs)]:
        if "://" in path or path.startswith("/"):
            raise ConfigError(
                f"{path!r} lies outside the repository, so it cannot be hashed and checked",
                where=f"{DVC_FILE}: {stage.name}",
                fix="import it with `dvc import-url` and name the local copy",
            )
        check_relative_path(path)


def wants_network(stage: Stage) -> bool:
    """Whether the stage declares that it needs the network.

    Raises:
        ConfigError: the option is neither true nor false.
    """
    return _switch(stage, "network", default=False)


def _asked(stage: Stage, env: Mapping[str, str], *, confine: bool) -> tuple[Asked, str]:
    """How far to confine, and who wants it to be less."""
    if not _switch(stage, "confine", default=True):
        return "off", f"{DVC_FILE} says `confine: false`"
    if not confine:
        return "off", "the call said --no-confine"
    wanted = env.get(CONFINE_ENV, "enforce")
    if wanted == "observe":
        return "observe", f"{CONFINE_ENV} said so"
    if wanted == "off":
        return "off", f"{CONFINE_ENV} said so"
    if wanted != "enforce":
        raise UsageError(f"{wanted[:40]!r} is none of: enforce, observe, off", where=CONFINE_ENV)
    return "enforce", ""


def _switch(stage: Stage, option: str, *, default: bool) -> bool:
    wanted = stage.options().get(option, default)
    if not isinstance(wanted, bool):
        raise ConfigError(
            f"must be true or false, not {wanted!r}",
            where=f"{DVC_FILE}: {stage.name}.meta.forebear.{option}",
        )
    return wanted


def all_outs(pipeline: Pipeline) -> list[str]:
    """Every out of every stage and source."""
    return [out.path for stage in (*pipeline.stages, *pipeline.sources) for out in stage.outs]
