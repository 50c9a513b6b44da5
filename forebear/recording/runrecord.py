"""Facts about one run that may differ between equal runs: times, commit, machine, environment.

They stand under ``byproducts.forebear`` of the link and decide nothing by themselves. No host
name, user name, absolute path or environment variable is recorded; what cannot be found out is
``null`` or ``unknown``, never a guess. There is no float anywhere: stock in-toto cannot read a link
that holds one ("I cannot encode 0.04", in-toto 3.1.0), so times are whole seconds and params stand
twice, as canonical text (whose SHA-256 is the ``params:`` digest) and as a tree for reading.

Rests on: provenance page, section 3.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebear.errors import EnvironmentFailure
from forebear.formats import strictjson

if TYPE_CHECKING:  # attest reads git through this module, and none of these
    from forebear.recording.child import ChildResult
    from forebear.recording.confine import ConfinementReport

SCHEMA = "forebear.run/v1"
GIT = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")


@dataclass(frozen=True, slots=True)
class GitState:
    """The commit that the working tree stands on.

    Attributes:
        commit: full object name; None before the first commit.
        dirty: tracked files other than ``dvc.lock`` and outs differ from it.
        changed: those files, sorted.
    """

    commit: str | None
    dirty: bool
    changed: tuple[str, ...]


def utc_now() -> str:
    """The time in ISO 8601, whole seconds, UTC."""
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def git_state(root: Path, *, outs: Sequence[str]) -> GitState:
    """Commit and changes of the working tree that holds ``root``.

    Raises:
        EnvironmentFailure: git is missing, or refuses the repository.
    """
    prefix = _git(root, "rev-parse", "--show-prefix").strip()
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD", may_fail=True).strip()
    changed = []
    # relative to the repository's top, whatever folder git runs in
    listing = _git(root, "status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames")
    for entry in filter(None, listing.split("\0")):
        path = entry[3:].removeprefix(prefix)
        own = path == "dvc.lock" or any(path == out or path.startswith(out + "/") for out in outs)
        if not own:
            changed.append(path)
    return GitState(commit or None, bool(changed), tuple(sorted(changed)))


# How many threads a stage computes with, when a person sets it; the stage's default otherwise.
THREADS_ENV = "FOREBEAR_THREADS"


def machine() -> dict[str, Any]:
    """What the run was computed on: kind of processor, cores, memory, graphics cards."""
    cpu_info = _read(Path("/proc/cpuinfo"))
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpu_info, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    gpus = []
    for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        name = re.search(r"^Model:\s*(.+)$", _read(card), re.MULTILINE)
        gpus.append(name.group(1).strip() if name else "unknown")
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": model.group(1).strip() if model else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "threads_asked": os.environ.get(THREADS_ENV),
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "gpus": gpus,
    }


def environment_digest() -> str:
    """SHA-256 over ``<name>==<version> <SHA-256 of RECORD>`` lines of the installed packages.

    Sorted, one line each; a distribution without ``RECORD`` has ``-`` there. The names are those
    of the ``.dist-info`` folders: reading every METADATA costs 0.6 s for 200 packages, this 0.05.
    """
    lines = set()
    for folder in _dist_infos():
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        record = folder / "RECORD"
        digest = hashlib.sha256(record.read_bytes()).hexdigest() if record.is_file() else "-"
        lines.add(f"{name}=={version} {digest}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def params_tree(value: Any) -> Any:
    """Params for reading and pointing at: floats as their canonical text, the rest as it is."""
    if isinstance(value, float):
        return strictjson.canonical(value).decode()
    if isinstance(value, Mapping):
        return {key: params_tree(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [params_tree(inner) for inner in value]
    return value


def allowances(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every entry of every ``allow`` list in the params, with the section it stands in."""
    return list(_allowances(params, ""))


def dvc_context(version: str, md5: Mapping[str, str]) -> dict[str, Any]:
    """What DVC knows about the run: its version, the experiment, its own digests of the deps."""
    return {
        "version": version,
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
        "deps_md5": dict(md5),
    }


def run_record(  # noqa: PLR0913  # one argument per field, by name
    *,
    params: Mapping[str, Any],
    started: str,
    child: ChildResult,
    git: GitState,
    dvc: Mapping[str, Any],
    environment: str,
    confinement: ConfinementReport,
) -> dict[str, Any]:
    """The ``byproducts`` of the link: ``return-value`` for stock in-toto, the rest is ours."""
    return {
        "return-value": child.returncode,
        "forebear": {
            "schema": SCHEMA,
            "recorder": {"version": installed_version("forebear")},
            "params": params_tree(params),
            "params_json": strictjson.canonical(dict(params)).decode(),
            "started": started,
            "ended": utc_now(),
            "wall_s": round(child.wall_s),
            "cpu_s": round(child.cpu_s),
            "max_rss_bytes": child.max_rss_bytes,
            "survivors": list(child.survivors),
            "machine": machine(),
            "git": {"commit": git.commit, "dirty": git.dirty, "changed": list(git.changed)},
            "dvc": dict(dvc),
            "environment": {"python": platform.python_version(), "digest": environment},
            "allowances": params_tree(allowances(params)),
            "confinement": confinement.to_json(),
            "energy": {"method": "unknown"},
        },
    }


def _allowances(value: Any, at: str) -> Iterator[dict[str, Any]]:
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        path = f"{at}.{key}" if at else str(key)
        if key == "allow" and isinstance(inner, list):
            for entry in inner:
                yield {"at": path, **(entry if isinstance(entry, dict) else {"rule": entry})}
        else:
            yield from _allowances(inner, path)


def _dist_infos() -> Iterator[Path]:
    for folder in sys.path:
        if folder and Path(folder).is_dir():
            yield from Path(folder).glob("*.dist-info")


def _git(root: Path, *arguments: str, may_fail: bool = False) -> str:
    try:
        done = subprocess.run(
            [*GIT, *arguments], cwd=root, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise EnvironmentFailure(
            f"git cannot be started: {error.strerror}", fix="install git"
        ) from error
    if done.returncode != 0 and not may_fail:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EnvironmentFailure(
            f"git refuses the repository: {said[0] if said else arguments[0]}",
            where=str(root),
            fix="mend it until `git status` works there",
        )
    # surrogates would have no canonical form; a name that is not UTF-8 is shown, not kept
    return done.stdout.decode(errors="replace")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
