"""Records one stage: hashes its deps, runs its command, hashes its outs, signs one link.

The command runs in a process of its own that never meets a key: the key's file is checked before,
and opened only after the whole process tree has ended. No link is written for a command that
failed or was stopped, for outs that are missing or changed while they were hashed, or for deps
that changed during the run; the link appears whole or not at all.

Rests on: provenance page, sections 3 and 4, whose step numbers stand in the code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from forebear.errors import EnvironmentFailure, ForebearError, RecordError
from forebear.formats import link, strictjson
from forebear.hashing.paths import check_tree_paths
from forebear.pipeline import link_path
from forebear.recording import runrecord
from forebear.recording.artifacts import Hasher
from forebear.recording.child import adopt_orphans
from forebear.recording.confined import Outcome, last_sentences, run_confined
from forebear.recording.declaration import Run, all_outs, require_name, resolve
from forebear.recording.dvcstate import mend_rwlock
from forebear.recording.namespace import hide_memory
from forebear.recording.sealing import load_recorder, require_key, write_link
from forebear.recording.workplace import Workplace, occupy
from forebear.signing.signer import sign_envelope

SIGNAL_BASE = 128


def record(  # noqa: PLR0913  # three switches, all but the first two by name
    stage_name: str,
    argv: Sequence[str],
    *,
    root: Path,
    keys: Path,
    use_cache: bool = True,
    require_clean: bool = False,
    confine: bool = True,
) -> int:
    """Runs the stage's command and signs its link.

    Args:
        stage_name: as in ``dvc.yaml``; equals ``DVC_STAGE`` when DVC runs the call.
        argv: the command, equal to what ``dvc.yaml`` declares after ``--``.
        root: the DVC root.
        keys: folder that holds the recorder's key.
        use_cache: see :class:`Run`.
        require_clean: refuse tracked files that differ from the commit.
        confine: False runs the command unconfined; the link says so.

    Returns:
        0 with a link, else the command's exit code (128 + n after signal n) without one.

    Raises:
        UsageError: name or command differ from the declaration.
        ConfigError: the stage is not declared, or not as the recorder needs it.
        RecordError: the stage broke its declaration.
        EnvironmentFailure: no key, no git, full disk, missing dep, a second recorder.
    """
    under_dvc = require_name(stage_name)
    hide_memory()
    adopt_orphans(die_with_parent=under_dvc)
    root = root.absolute()
    if not under_dvc:  # a running DVC would have refused already
        mend_rwlock(root)
    run = resolve(stage_name, argv, root, keys, use_cache=use_cache, confine=confine)
    require_key(run.keys)
    git = runrecord.git_state(root, outs=all_outs(run.workspace.pipeline))
    if require_clean and git.dirty:
        shown = ", ".join(git.changed[:5])
        raise RecordError(
            f"tracked files differ from the commit: {shown}", where=stage_name, fix="commit them"
        )
    with _full_disk_explained(stage_name), occupy(root, stage_name) as place:
        return _record(run, place, git, under_dvc=under_dvc)


def _record(run: Run, place: Workplace, git: runrecord.GitState, *, under_dvc: bool) -> int:
    digest_cache = place.digest_cache if run.use_cache else None
    hasher = Hasher(run.root, run.workspace.cache_dir, digest_cache)
    # step 2
    deps = hasher.hash_deps(run.stage.deps)
    materials = {**deps.digests, **_declared(run)}
    check_tree_paths(link.real_paths(materials))
    scratch = place.scratch(_key(materials))
    params_file = place.private / "params.json"
    params_file.write_bytes(strictjson.dumps(run.stage.params))
    own = link_path(run.stage)
    # a link of an earlier run says nothing about what this run will write
    (run.root / own).unlink(missing_ok=True)
    started = runrecord.utc_now()
    environment = _InBackground()
    outcome = run_confined(
        run,
        place,
        scratch=scratch,
        params_file=params_file,
        watch_parent=under_dvc,
        while_running=environment.start,
    )
    # step 3
    child = outcome.child
    if child.stopped_by is not None:
        return SIGNAL_BASE + child.stopped_by
    if child.returncode != 0:
        return child.returncode
    # step 5; step 4 is done: the tree has ended
    hasher.require_unchanged(deps, "a dep changed while the stage ran")
    _require_kept(run, outcome)
    products = hasher.hash_outs([out.path for out in run.stage.outs if out.path != own])
    byproducts = runrecord.run_record(
        params=run.stage.params,
        started=started,
        child=child,
        git=git,
        dvc=_dvc_context(run),
        environment=environment.result(),
        confinement=outcome.report,
    )
    write_link(run.root / own, _signed_link(run, materials, products.digests, byproducts))
    # step 6
    try:
        hasher.require_unchanged(products, "an out changed after the stage had ended")
    except ForebearError:
        (run.root / own).unlink(missing_ok=True)
        raise
    place.drop_scratch()
    return 0


def _require_kept(run: Run, outcome: Outcome) -> None:
    """Refuses a run that did what it does not declare, where nothing had stopped it."""
    if outcome.strays:
        raise RecordError(
            f"stage {run.stage.name!r} wrote beside its outs, so no link was signed",
            where=", ".join(outcome.strays[:5]),
            fix="list it under outs, or write to the temporary folder; then delete it",
        )
    if outcome.caught:
        raise RecordError(
            "the stage did what it does not declare, so no link was signed\n"
            + "\n".join(f"  {line}" for line in outcome.sentences),
            where=run.stage.name,
        )


def explain_exit(stage_name: str, code: int, root: Path) -> str:
    """One line for a command that did not succeed; names the signal and a full disk."""
    how = f"exit code {code}"
    with contextlib.suppress(ValueError):
        if code > SIGNAL_BASE:
            how = f"signal {signal.Signals(code - SIGNAL_BASE).name}"
    text = f"stage {stage_name!r} ended with {how}; no link was signed"
    free_bytes = shutil.disk_usage(root).free
    text += " (the disk is full)" if free_bytes < 1024 * 1024 else ""
    return "\n  ".join([text, *last_sentences(root, stage_name)])


# ── step 2: deps and the command's surroundings ────────────────────────────────────────────────


def _declared(run: Run) -> dict[str, str]:
    """The virtual materials: command and params as declared."""
    return {
        f"{link.CMD}{run.stage.name}": link.command_digest(run.argv),
        f"{link.PARAMS}{run.stage.name}": link.params_digest(run.stage.params),
    }


def _key(materials: Mapping[str, str]) -> str:
    """Name of the resume folder: 16 hex digits over all materials."""
    return hashlib.sha256(strictjson.canonical(dict(materials))).hexdigest()[:16]


class _InBackground:
    """Computes the environment digest while the command runs."""

    def __init__(self) -> None:
        self._digest = ""
        self._thread = threading.Thread(target=self._compute, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def result(self) -> str:
        self._thread.join()
        return self._digest or "unknown"

    def _compute(self) -> None:
        with contextlib.suppress(OSError):
            self._digest = runrecord.environment_digest()


# ── steps 5 and 6: the link ────────────────────────────────────────────────────────────────────


def _dvc_context(run: Run) -> dict[str, Any]:
    known = run.workspace.dvc_md5
    md5 = {dep: known[dep] for dep in run.stage.deps if dep in known}
    return runrecord.dvc_context(version("dvc"), md5)


def _signed_link(
    run: Run,
    materials: Mapping[str, str],
    products: Mapping[str, str],
    byproducts: Mapping[str, Any],
) -> bytes:
    payload = link.render_link(
        link.Link(
            name=run.stage.name,
            command=run.argv,
            materials=dict(materials),
            products=dict(products),
            byproducts=dict(byproducts),
        )
    )
    return sign_envelope(load_recorder(run.keys), payload, link.PAYLOAD_TYPE)


@contextlib.contextmanager
def _full_disk_explained(stage_name: str) -> Iterator[None]:
    """Turns what the operating system refuses into one clear message."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EnvironmentFailure(
            "the disk is full, so no link was signed"
            if full
            else f"{error.strerror or error}, so no link was signed",
            where=str(error.filename or stage_name),
            fix="free some space (`dvc gc` drops unused cache), then run the stage again"
            if full
            else "",
        ) from error
