"""Finds the deps that a stage's declaration lacks, by running it once and watching what it opens.

The run takes place in a folder of symbolic links to the workspace, with real folders only where the
stage's outs go, so that nothing of the workspace is written; a fence sees to that where the machine
has one. It signs nothing and enters nothing into DVC's books. What a run did not reach, it cannot
suggest.

Rests on: provenance page, section 5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure
from forebear.formats import strictjson
from forebear.hashing.paths import check_relative_path
from forebear.pipeline import (
    PARAMS_FILE,
    Pipeline,
    Stage,
    inner_argv,
    link_path,
    load_workspace,
)
from forebear.recording.child import adopt_orphans, run_child
from forebear.recording.confine import HOOK, STRACE, Fence
from forebear.recording.confined import seen_file
from forebear.recording.observe import covers, start_watch, tracer, undeclared
from forebear.recording.openings import viewer_openings
from forebear.recording.surroundings import stage_environment
from forebear.recording.workplace import occupy

SCHEMA = "forebear.deps/v1"
_HIDDEN = (".git", ".dvc")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What is missing in a stage's declaration.

    Attributes:
        stage: its name.
        mechanism: how it was watched.
        reads: paths that belong under deps, sorted.
        writes: paths that it wrote, or tried to, and that are no outs, sorted.
        params: it read ``params.yaml``.
        return_value: exit code of the run that was watched.
    """

    stage: str
    mechanism: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    params: bool
    return_value: int

    @property
    def exit_code(self) -> int:
        """1 when the command failed, since it may not have come to everything that it reads."""
        return 1 if self.return_value else 0

    def lines(self) -> list[str]:
        """Lines to paste under ``deps:``."""
        return [f"    - {path}" for path in self.reads]

    def remarks(self) -> Iterator[str]:
        """What a person should know beside the lines."""
        if self.params:
            yield (
                "it reads params.yaml: its params stand in the file that FOREBEAR_PARAMS names; "
                "read that, or list params.yaml under deps"
            )
        for path in self.writes:
            yield f"it writes {path}, which is no out: list it under outs, or use TMPDIR"
        if not (self.reads or self.writes or self.params):
            yield f"stage {self.stage!r} was not seen to read anything that dvc.yaml does not list"
        if self.mechanism == HOOK:
            yield "only Python was watched; install strace to see native libraries and programs"
        if self.return_value:
            yield f"the command ended with exit code {self.return_value}: there may be more"

    def to_json(self) -> dict[str, Any]:
        """The same facts as JSON values."""
        return {
            "schema": SCHEMA,
            "stage": self.stage,
            "mechanism": self.mechanism,
            "missing": list(self.reads),
            "undeclared_writes": list(self.writes),
            "reads_params_file": self.params,
            "return_value": self.return_value,
        }


def last_run(root: Path, stage_name: str) -> Suggestion:
    """What the stage's last recorded run wanted beyond its declaration.

    Raises:
        ConfigError: there is no such stage.
        EnvironmentFailure: it has not run here yet.
    """
    pipeline = load_workspace(root).pipeline
    stage = pipeline.stage(stage_name)
    file = seen_file(root / ".dvc" / "tmp" / "forebear", stage_name)
    try:
        value = json.loads(file.read_bytes())
        reads, writes = map(str, value["reads"]), map(str, value["writes"])
        return _suggestion(
            stage,
            pipeline,
            str(value["mechanism"]),
            [*reads],
            [*writes],
            int(value["return_value"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentFailure(
            f"no run of stage {stage_name!r} has been watched here",
            fix=f"forebear deps {stage_name} --suggest",
        ) from error


def watch_run(root: Path, stage_name: str) -> Suggestion:
    """Runs the stage once in a throw-away view of the workspace.

    Raises:
        ConfigError: there is no such stage, or it does not run under the recorder.
        EnvironmentFailure: the command cannot be started.
    """
    root = root.absolute()
    adopt_orphans(die_with_parent=False)
    workspace = load_workspace(root)
    stage = workspace.pipeline.stage(stage_name)
    argv = inner_argv(stage)
    with occupy(root, stage_name) as place:
        view = place.private / "view"
        _make_view(root, view, stage)
        scratch = place.private / "scratch"
        scratch.mkdir()
        params_file = place.private / "params.json"
        params_file.write_bytes(strictjson.dumps(stage.params))
        watch = start_watch(place.private, view)
        fence = Fence(viewer_openings(root, place.private, argv[0], stage))
        words = tracer(watch.trace_file)
        environment = stage_environment(
            os.environ,
            stage_name=stage.name,
            place=place,
            scratch=scratch,
            params_file=params_file,
            search=(watch.folder, view),
            network=fence.openings.network,
            own_home=True,
        )
        try:
            child = run_child(
                [*words, *_python(argv)] if words else argv,
                cwd=view / stage.wdir,
                env={**environment, **watch.environment},
                fence=fence,
                quiet=True,
            )
        finally:
            fence.close()
        seen = watch.seen(root, traced=bool(words))
        odd = undeclared(seen, stage, root, cache_dir=workspace.cache_dir)
        # what was gone again in the end was a step on the way to an out
        writes = sorted(
            path for path in odd.writes if any(os.path.lexists(top / path) for top in (view, root))
        )
    return _suggestion(
        stage,
        workspace.pipeline,
        STRACE if words else HOOK,
        sorted(odd.reads),
        writes,
        child.returncode,
    )


def _suggestion(  # noqa: PLR0913, PLR0917  # one argument per field
    stage: Stage,
    pipeline: Pipeline,
    mechanism: str,
    reads: Sequence[str],
    writes: Sequence[str],
    code: int,
) -> Suggestion:
    missing = {
        _named(path, stage, pipeline)
        for path in reads
        if path != PARAMS_FILE and not covers(_HIDDEN, path)
    }
    return Suggestion(
        stage=stage.name,
        mechanism=mechanism,
        reads=tuple(sorted(missing)),
        writes=tuple(path for path in writes if not covers(_HIDDEN, path)),
        params=PARAMS_FILE in reads,
        return_value=code,
    )


def _named(path: str, stage: Stage, pipeline: Pipeline) -> str:
    """The out that holds the path, as its stage declares it; else the path."""
    for other in (*pipeline.stages, *pipeline.sources):
        for out in other.outs:
            if other.name != stage.name and covers([out.path], path):
                return out.path
    return path


def _make_view(root: Path, view: Path, stage: Stage) -> None:
    """Links to everything but the stage's outs; folders on the way to those are real."""
    own = link_path(stage)
    outs = [out.path for out in stage.outs]
    for path in outs:
        check_relative_path(path)
    view.mkdir()
    _link_folder(root, view, "", [path for path in outs if path != own])
    (view / stage.wdir).mkdir(parents=True, exist_ok=True)


def _link_folder(root: Path, view: Path, folder: str, outs: Sequence[str]) -> None:
    for out in outs:
        (view / out).parent.mkdir(parents=True, exist_ok=True)
    here = root / folder
    for entry in sorted(here.iterdir()) if here.is_dir() else ():
        path = f"{folder}/{entry.name}" if folder else entry.name
        if covers(outs, path):
            continue
        if any(out.startswith(path + "/") for out in outs):
            _link_folder(root, view, path, outs)
        else:
            (view / path).symlink_to(entry)


def _python(argv: Sequence[str]) -> list[str]:
    import sys

    return [sys.executable, *argv[1:]] if argv[0] == "python" else list(argv)
