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
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from forebear.errors import (
    ConfigError,
    EnvironmentFailure,
    ForebearError,
    RecordError,
    UsageError,
)
from forebear.formats import link, strictjson
from forebear.hashing.paths import check_relative_path, check_tree_paths
from forebear.pipeline import (
    DVC_FILE,
    Pipeline,
    Stage,
    Workspace,
    inner_argv,
    link_path,
    load_workspace,
)
from forebear.recording import runrecord
from forebear.recording.artifacts import Hasher
from forebear.recording.child import adopt_orphans, run_child
from forebear.recording.confine import unconfined
from forebear.recording.dvcstate import mend_rwlock
from forebear.recording.sealing import read_passphrase, require_key, write_link
from forebear.recording.workplace import Workplace, occupy
from forebear.signing.keys import load_signer
from forebear.signing.signer import sign_envelope

SIGNAL_BASE = 128
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


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
    """

    root: Path
    workspace: Workspace
    stage: Stage
    argv: tuple[str, ...]
    keys: Path
    use_cache: bool


def record(  # noqa: PLR0913  # two switches, all but the first two by name
    stage_name: str,
    argv: Sequence[str],
    *,
    root: Path,
    keys: Path,
    use_cache: bool = True,
    require_clean: bool = False,
) -> int:
    """Runs the stage's command and signs its link.

    Args:
        stage_name: as in ``dvc.yaml``; equals ``DVC_STAGE`` when DVC runs the call.
        argv: the command, equal to what ``dvc.yaml`` declares after ``--``.
        root: the DVC root.
        keys: folder that holds the recorder's key.
        use_cache: see :class:`Run`.
        require_clean: refuse tracked files that differ from the commit.

    Returns:
        0 with a link, else the command's exit code (128 + n after signal n) without one.

    Raises:
        UsageError: name or command differ from the declaration.
        ConfigError: the stage is not declared, or not as the recorder needs it.
        RecordError: the stage broke its declaration.
        EnvironmentFailure: no key, no git, full disk, missing dep, a second recorder.
    """
    under_dvc = _require_name(stage_name)
    adopt_orphans(die_with_parent=under_dvc)
    root = root.absolute()
    if not under_dvc:  # a running DVC would have refused already
        mend_rwlock(root)
    run = _resolve(stage_name, argv, root, keys, use_cache=use_cache)
    require_key(run.keys)
    git = runrecord.git_state(root, outs=_all_outs(run.workspace.pipeline))
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
    _prepare_outs(run)
    started = runrecord.utc_now()
    environment = _InBackground()
    child = run_child(
        run.argv,
        cwd=run.root / run.stage.wdir,
        env=_environment(run, place, scratch, params_file),
        watch_parent=under_dvc,
        while_running=environment.start,
    )
    # step 3
    if child.stopped_by is not None:
        return SIGNAL_BASE + child.stopped_by
    if child.returncode != 0:
        return child.returncode
    # step 5; step 4 is done: the tree has ended
    hasher.require_unchanged(deps, "a dep changed while the stage ran")
    own = link_path(run.stage)
    products = hasher.hash_outs([out.path for out in run.stage.outs if out.path != own])
    byproducts = runrecord.run_record(
        params=run.stage.params,
        started=started,
        child=child,
        git=git,
        dvc=_dvc_context(run),
        environment=environment.result(),
        confinement=unconfined(network_declared=_wants_network(run.stage)),
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


def explain_exit(stage_name: str, code: int, root: Path) -> str:
    """One line for a command that did not succeed; names the signal and a full disk."""
    how = f"exit code {code}"
    with contextlib.suppress(ValueError):
        if code > SIGNAL_BASE:
            how = f"signal {signal.Signals(code - SIGNAL_BASE).name}"
    text = f"stage {stage_name!r} ended with {how}; no link was signed"
    free_bytes = shutil.disk_usage(root).free
    return text + (" (the disk is full)" if free_bytes < 1024 * 1024 else "")


# ── step 1: what is declared ───────────────────────────────────────────────────────────────────


def _require_name(stage_name: str) -> bool:
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


def _resolve(
    stage_name: str, argv: Sequence[str], root: Path, keys: Path, *, use_cache: bool
) -> Run:
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
    _wants_network(stage)
    return Run(root, workspace, stage, declared, keys, use_cache)


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


def _wants_network(stage: Stage) -> bool:
    wanted = stage.options().get("network", False)
    if not isinstance(wanted, bool):
        raise ConfigError(
            f"must be true or false, not {wanted!r}",
            where=f"{DVC_FILE}: {stage.name}.meta.forebear.network",
        )
    return wanted


def _all_outs(pipeline: Pipeline) -> list[str]:
    return [out.path for stage in (*pipeline.stages, *pipeline.sources) for out in stage.outs]


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


def _prepare_outs(run: Run) -> None:
    for out in run.stage.outs:
        (run.root / out.path).parent.mkdir(parents=True, exist_ok=True)
    # a link of an earlier run says nothing about what this run will write
    (run.root / link_path(run.stage)).unlink(missing_ok=True)


# What a person may set for a stage. The first alters bits and is therefore in the link.
PASSED_ON = frozenset(
    {
        runrecord.THREADS_ENV,
        "FOREBEAR_SAVE_EVERY_S",
        "FOREBEAR_OWNER_KEY",
        "FOREBEAR_OWNER_PASSPHRASE_FILE",
    }
)


def _environment(run: Run, place: Workplace, scratch: Path, params_file: Path) -> dict[str, str]:
    """The command's environment: this one without our own variables, offline, deterministic."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FOREBEAR_") or name in PASSED_ON
    }
    hub = scratch / "hf"
    return {
        **inherited,
        **({} if _wants_network(run.stage) else OFFLINE),
        "FOREBEAR_PARAMS": str(params_file),
        "FOREBEAR_SCRATCH": str(scratch),
        "TMPDIR": str(place.tmp),
        "HF_HOME": str(hub),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(run.root),
    }


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
    signer = load_signer(require_key(run.keys), read_passphrase())
    return sign_envelope(signer, payload, link.PAYLOAD_TYPE)


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
