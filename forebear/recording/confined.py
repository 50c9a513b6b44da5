"""Runs one declared command behind its fence, and tells what it wanted beyond its declarations.

Ties together the room for outs, the openings, the fence, the watch and the process tree. An
undeclared read or write that the fence did not stop, since there was none, is no less an error
than one that it stopped: the caller learns of both.

Rests on: provenance page, section 4 (steps 2 to 4) and section 5.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forebear.formats import strictjson
from forebear.recording import landlock
from forebear.recording.child import ChildResult, run_child
from forebear.recording.confine import DECLARED, NO_NETWORK, ConfinementReport, Fence
from forebear.recording.declaration import Run, all_outs, wants_network
from forebear.recording.explain import reasons
from forebear.recording.observe import Seen, Watch, start_watch, tracer, undeclared
from forebear.recording.openings import OWNER_KEY, PUBLIC_KEYS, REPOSITORY, granted, openings
from forebear.recording.outs import Room, make_room
from forebear.recording.surroundings import stage_environment
from forebear.recording.workplace import Workplace, file_name
from forebear.signing.keys import default_directory

_LOG = logging.getLogger(__name__)
SCHEMA = "forebear.seen/v1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a confined run ended.

    Attributes:
        child: how the command ended.
        report: how it was confined.
        undeclared: what it opened, or tried to, that is not declared.
        sentences: the same in words, each with the mend; hosts only where it had no network.
        strays: files that it left beside its outs.
    """

    child: ChildResult
    report: ConfinementReport
    undeclared: Seen
    sentences: tuple[str, ...]
    strays: tuple[str, ...]

    @property
    def caught(self) -> bool:
        """Whether something undeclared was done that nothing stopped."""
        odd = self.undeclared
        files = self.report.level == "observed" and bool(odd.reads or odd.writes)
        reached = self.report.network not in {NO_NETWORK, DECLARED} and bool(odd.addresses)
        return files or reached


def run_confined(  # noqa: PLR0913  # by name
    run: Run,
    place: Workplace,
    *,
    scratch: Path,
    params_file: Path,
    watch_parent: bool,
    while_running: Callable[[], None] | None = None,
) -> Outcome:
    """Runs the stage's command as far confined as ``run`` asks and the machine allows.

    Args:
        run: what is declared.
        place: private folders.
        scratch: resume folder.
        params_file: the params in clear.
        watch_parent: stop it when DVC dies.
        while_running: called once after the start.

    Raises:
        ConfigError: a grant does not hold.
        EnvironmentFailure: the command cannot be started.
    """
    note = seen_file(place.state, run.stage.name)
    note.unlink(missing_ok=True)
    fenced = run.confine == "enforce" and landlock.available()
    room = make_room(run.root, run.stage, _others(run), fenced=fenced)
    watch = start_watch(place.private, run.root)
    fence = _fence(run, place, room, watch, (params_file, scratch))
    if not fence.enforced and run.confine != "off":
        fence.tracer = tracer(watch.trace_file)
    try:
        child = run_child(
            run.argv,
            cwd=run.root / run.stage.wdir,
            env=_environment(run, place, watch, scratch, params_file),
            fence=fence if run.confine != "off" else None,
            watch_parent=watch_parent,
            while_running=while_running,
        )
        outcome = _outcome(run, place, room, watch, fence, child)
    finally:
        room.clear()
        fence.close()
    _keep(note, run, outcome)
    _warn(run, outcome)
    return outcome


def seen_file(state: Path, stage_name: str) -> Path:
    """Where the last run of a stage noted what it wanted beyond its declarations."""
    return state / "seen" / f"{file_name(stage_name)}.json"


def last_sentences(root: Path, stage_name: str) -> list[str]:
    """What the last run of the stage wanted beyond its declarations, in words; none if unknown."""
    try:
        value = json.loads(seen_file(root / ".dvc" / "tmp" / "forebear", stage_name).read_bytes())
        return [str(line) for line in value["sentences"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _others(run: Run) -> list[str]:
    """Every declared path but the stage's own outs."""
    own = {out.path for out in run.stage.outs}
    pipeline = run.workspace.pipeline
    deps = [dep for stage in pipeline.stages for dep in stage.deps if dep not in own]
    return [*deps, *(path for path in all_outs(pipeline) if path not in own)]


def _fence(run: Run, place: Workplace, room: Room, watch: Watch, given: tuple[Path, Path]) -> Fence:
    params_file, scratch = given
    opened = openings(
        run.stage,
        root=run.root,
        program=run.argv[0],
        own=(params_file, watch.folder),
        writable=(
            *room.writable, scratch, place.tmp, place.home, watch.seen_file, watch.trace_file,
        ),
        cache_dir=run.workspace.cache_dir,
    )  # fmt: skip
    return Fence(opened, asked=run.confine, why_less=run.why_less)


def _environment(
    run: Run, place: Workplace, watch: Watch, scratch: Path, params_file: Path
) -> dict[str, str]:
    watched = run.confine != "off"
    grants = granted(run.stage)
    keys = default_directory() if {OWNER_KEY, PUBLIC_KEYS} & set(grants) else None
    environment = stage_environment(
        os.environ,
        stage_name=run.stage.name,
        place=place,
        scratch=scratch,
        params_file=params_file,
        search=(*((watch.folder,) if watched else ()), run.root),
        network=wants_network(run.stage),
        own_home=watched and REPOSITORY not in grants,
        settings=keys.parent.parent if keys else None,
    )
    return {**environment, **(watch.environment if watched else {})}


def _outcome(  # noqa: PLR0913, PLR0917  # all that is known of the run
    run: Run, place: Workplace, room: Room, watch: Watch, fence: Fence, child: ChildResult
) -> Outcome:
    if run.confine == "off":
        return Outcome(child, fence.report(observed=False), Seen(), (), ())
    traced = bool(fence.tracer) and not fence.enforced
    seen = watch.seen(traced=traced)
    writable = [*room.folders, *_below(run.root, place.private), *_below(run.root, place.state)]
    cache_dir = run.workspace.cache_dir
    odd = undeclared(seen, run.stage, run.root, writable=writable, cache_dir=cache_dir)
    if REPOSITORY in fence.openings.grants:  # git and DVC, and every file of the workspace
        odd = Seen(addresses=odd.addresses)
    report = fence.report(observed=traced or watch.hooked(), denied=())
    closed = report.network == NO_NETWORK
    sentences = reasons(
        run.stage,
        run.workspace.pipeline,
        root=run.root,
        seen=odd,
        stderr=child.stderr if child.returncode != 0 else "",
        writable=writable,
        cache_dir=cache_dir,
        closed=report.network != DECLARED,
        opened=fence.openings.read,
        made=room.made,
    )
    denied = [
        *(odd.reads | odd.writes if report.level == "enforced" else ()),
        *(odd.addresses if closed else ()),
    ]
    final = fence.report(observed=traced or watch.hooked(), denied=denied)
    return Outcome(child, final, odd, tuple(sentences), tuple(room.strays()))


def _below(root: Path, folder: Path) -> list[str]:
    return [folder.relative_to(root).as_posix()] if root in folder.parents else []


def _keep(note: Path, run: Run, outcome: Outcome) -> None:
    """Notes for ``forebear deps`` and for the last line of a failed run; never in a link."""
    value = {
        "schema": SCHEMA,
        "stage": run.stage.name,
        "level": outcome.report.level,
        "mechanism": outcome.report.mechanism,
        "return_value": outcome.child.returncode,
        "reads": sorted(outcome.undeclared.reads),
        "writes": sorted(outcome.undeclared.writes),
        "addresses": sorted(outcome.undeclared.addresses),
        "sentences": list(outcome.sentences),
    }
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_bytes(strictjson.dumps(value))


def _warn(run: Run, outcome: Outcome) -> None:
    report, name = outcome.report, run.stage.name
    if report.level != "enforced" and run.confine == "enforce":
        _LOG.warning(
            "warning: stage %r ran %s, not enforced: %s", name, report.level, report.reason
        )
    elif run.confine == "enforce" and os.geteuid() == 0 and report.network != NO_NETWORK:
        _LOG.warning(
            "warning: stage %r ran as root and in no user namespace: as root it could read what "
            "other processes hold; run DVC as an ordinary user",
            name,
        )
    if outcome.child.survivors:
        _LOG.warning(
            "warning: stage %r left processes running, which were killed: %s; "
            "end them before the stage ends",
            name,
            ", ".join(outcome.child.survivors[:5]),
        )
