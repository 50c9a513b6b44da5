"""Source artifacts: what a pipeline reads and no stage of it produces, and whether git has it.

Gives each one its kind and its digest from the working tree, and lists those that differ from the
commit. It refuses what is missing and a dep whose kind no layout could express.

Rests on: provenance page, section 6.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from forebear.errors import ConfigError, EnvironmentFailure
from forebear.formats import strictjson
from forebear.formats.layout import LINKS, SOURCE
from forebear.formats.link import (
    CMD,
    PARAMS,
    TREE,
    Link,
    command_digest,
    params_digest,
    render_link,
)
from forebear.hashing.digest import hash_files, hash_tree
from forebear.pipeline import DVC_FILE, PARAMS_FILE, Out, Pipeline, Stage, inner_argv
from forebear.recording.runrecord import GIT

SCHEMA = "forebear.source/v1"


@dataclass(frozen=True, slots=True)
class Committed:
    """How the working tree stands to the commit.

    Attributes:
        commit: full object name; None before the first commit.
        differs: source files, ``dvc.yaml`` and ``params.yaml`` that the commit has not, or has
            otherwise; sorted.
    """

    commit: str | None
    differs: tuple[str, ...]


def with_sources(pipeline: Pipeline, root: Path, *, release: str = "") -> Pipeline:
    """The pipeline with every kind known: a source ``source`` has the deps that no stage makes.

    Args:
        pipeline: as DVC resolves it.
        root: the DVC root; kinds that the pipeline leaves open are read from its disk.
        release: out of ``attest``, a folder that is yet to be written.

    Raises:
        ConfigError: a stage is named ``source``, or a dep is a folder inside another stage's out.
        EnvironmentFailure: a dep or an out does not exist, so its kind is not known.
    """
    if any(stage.name == SOURCE for stage in pipeline.stages):
        raise ConfigError(
            "the name 'source' is taken by the owner's own step", where=f"{DVC_FILE}: {SOURCE}"
        )
    stages = tuple(
        replace(stage, outs=tuple(_with_kind(out, root, release) for out in stage.outs))
        for stage in pipeline.stages
    )
    outs = [out.path for stage in stages for out in stage.outs]
    found = []
    for dep in sorted({dep for stage in stages for dep in stage.deps}):
        inside = any(dep.startswith(f"{out}/") for out in outs)
        if inside and (root / dep).is_dir():
            raise ConfigError(
                "is a folder inside another stage's out, so no link has its tree digest",
                where=f"{DVC_FILE}: {dep}",
                fix="declare it as an out of its own, or depend on the whole out",
            )
        spans = any(out == dep or out.startswith(f"{dep}/") for out in outs)
        if not (inside or spans or dep.startswith(LINKS)):
            found.append(Out(path=dep, is_dir=_is_dir(root / dep, dep)))
    source = Stage(name=SOURCE, cmd="", outs=tuple(found), frozen=True)
    others = tuple(stage for stage in pipeline.sources if stage.name != SOURCE)
    return replace(pipeline, stages=stages, sources=(*others, source))


def source_paths(pipeline: Pipeline) -> tuple[str, ...]:
    """Paths of the source artifacts of a pipeline that :func:`with_sources` completed."""
    return tuple(
        out.path for stage in pipeline.sources if stage.name == SOURCE for out in stage.outs
    )


def hash_artifacts(
    root: Path, paths: Iterable[str], *, cache_dir: Path | None = None
) -> dict[str, str]:
    """Digests of files and folders below ``root`` by artifact name; every byte is read.

    Args:
        root: the DVC root.
        paths: files, and folders, which give ``tree:`` and each file.
        cache_dir: DVC's cache, the only place that symlinks may lead to.

    Raises:
        EnvironmentFailure: one does not exist or cannot be read.
        PathError: one breaks the path rules.
    """
    digests: dict[str, str] = {}
    files = []
    for path in paths:
        if _is_dir(root / path, path):
            tree = hash_tree(root / path, allow_symlinks_into=cache_dir)
            digests[f"{TREE}{path}"] = tree.digest
            digests.update({f"{path}/{inner}": digest for inner, digest in tree.files.items()})
        else:
            files.append(path)
    found = hash_files([root / path for path in files], allow_symlinks_into=cache_dir)
    return {**digests, **dict(zip(files, found, strict=True))}


def declared_artifacts(stages: Sequence[Stage]) -> dict[str, str]:
    """Digests of ``cmd:`` and ``params:`` of each stage, as resolved now."""
    digests = {}
    for stage in stages:
        digests[f"{CMD}{stage.name}"] = command_digest(inner_argv(stage))
        digests[f"{PARAMS}{stage.name}"] = params_digest(stage.params)
    return digests


def source_link(
    products: Mapping[str, str], committed: Committed, sources: Iterable[Stage] = ()
) -> bytes:
    """Payload of the ``source`` link, for the owner to sign.

    Args:
        products: digests of everything that the owner vouches for.
        committed: see :func:`compare_with_commit`.
        sources: those of the pipeline; imports among them name where they come from.
    """
    origins = {out.path: stage.origin for stage in sources if stage.origin for out in stage.outs}
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "git": {"commit": committed.commit},
        "committed": not committed.differs,
        "differs": list(committed.differs),
        **({"origins": origins} if origins else {}),
    }
    return render_link(
        Link(
            name=SOURCE,
            command=(),
            materials={},
            products=products,
            byproducts={"return-value": 0, "forebear": record},
        )
    )


def compare_with_commit(
    root: Path, artifacts: Iterable[str], sources: Iterable[Stage] = ()
) -> Committed:
    """Which of these files, and of ``dvc.yaml`` and ``params.yaml``, are not those of ``HEAD``.

    Bytes are compared, not git's index, in which a file can be marked as unchanged. What DVC keeps
    for git (a ``.dvc`` file, a frozen stage) is that of ``HEAD`` when the MD5 that the commit names
    is that of the bytes here.

    Args:
        root: the DVC root.
        artifacts: names; those that are no files are left out.
        sources: ``.dvc`` files and frozen stages of the pipeline.

    Raises:
        EnvironmentFailure: git is missing, or refuses the repository.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD", may_fail=True).strip() or None
    names = {name for name in artifacts if not name.startswith((TREE, CMD, PARAMS))}
    names |= {name for name in (DVC_FILE, PARAMS_FILE) if (root / name).is_file()}
    known: dict[str, str] = {}
    if commit:
        for entry in filter(None, _git(root, "ls-tree", "-r", "-z", "HEAD").split("\0")):
            about, _, path = entry.partition("\t")
            known[path] = about.split(" ")[2]
    kept = _kept_by_dvc(root, sources) if commit else {}
    same = {path for path, md5 in kept.items() if md5 and md5 == _dvc_md5(root / path)}
    differs = [
        name
        for name in sorted(names)
        if not any(name == path or name.startswith(f"{path}/") for path in same)
        and known.get(name) != _blob(root / name, known)
    ]
    return Committed(commit, tuple(differs))


def _kept_by_dvc(root: Path, sources: Iterable[Stage]) -> dict[str, str]:
    """MD5 that the commit names for each out of a ``.dvc`` file or a frozen stage."""
    found: dict[str, str] = {}
    for source in (source for source in sources if source.name != SOURCE):
        file, _, name = source.name.rpartition(":")
        if source.cmd:
            folder = PurePosixPath(file).parent
            stages = _committed_yaml(root, str(folder / "dvc.lock")).get("stages")
            section = stages.get(name) if isinstance(stages, dict) else None
        else:
            section = _committed_yaml(root, source.name)
        outs = section.get("outs") if isinstance(section, dict) else None
        for out in outs if isinstance(outs, list) else []:
            path = os.path.normpath(f"{source.wdir}/{out.get('path')}")
            found[path] = str(out.get("md5") or "")
    return found


def _committed_yaml(root: Path, path: str) -> Mapping[str, Any]:
    """A YAML file of the commit; empty when there is none, or it cannot be read."""
    import yaml

    try:
        value = yaml.safe_load(_git(root, "show", f"HEAD:./{path}", may_fail=True))
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}


def _dvc_md5(place: Path) -> str:
    """DVC's own digest of a file or folder, to look it up in a ``.dvc`` file; no evidence."""
    if not place.is_dir():
        return _md5(place) if place.is_file() else ""
    files = sorted(
        Path(folder, name).relative_to(place).parts
        for folder, _, names in os.walk(place)
        for name in names
    )
    entries = [{"md5": _md5(place.joinpath(*parts)), "relpath": "/".join(parts)} for parts in files]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def load_lock(root: Path, *, without: str) -> dict[str, Any]:
    """Sections of ``dvc.lock`` by stage name, but that of ``without``; empty without the file.

    Raises:
        ConfigError: it is not the YAML that DVC writes.
    """
    import yaml

    file = root / "dvc.lock"
    if not file.is_file():
        return {}
    try:
        value = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise ConfigError("is not YAML", where="dvc.lock", fix="dvc repro") from error
    stages = value.get("stages") if isinstance(value, dict) else None
    if not isinstance(stages, dict):
        raise ConfigError("has no stages", where="dvc.lock", fix="dvc repro")
    lock = {name: section for name, section in stages.items() if name != without}
    strictjson.canonical(lock, where="dvc.lock")
    return lock


def _with_kind(out: Out, root: Path, release: str) -> Out:
    if out.path == release:
        return replace(out, is_dir=True)
    if out.is_dir is not None or out.path.startswith(LINKS):
        return replace(out, is_dir=bool(out.is_dir))
    return replace(out, is_dir=_is_dir(root / out.path, out.path))


def _is_dir(place: Path, path: str) -> bool:
    if not place.exists():
        raise EnvironmentFailure("does not exist", where=path, fix="dvc repro, or dvc pull")
    return place.is_dir()


def _blob(file: Path, known: Mapping[str, str]) -> str:
    """Git's object name for the bytes of a file, in the hash that the repository uses."""
    data = file.read_bytes()
    header = b"blob %d\0" % len(data)
    long = any(len(name) == 64 for name in known.values())
    new = hashlib.sha256 if long else hashlib.sha1
    return new(header + data, usedforsecurity=False).hexdigest()


def _git(root: Path, *arguments: str, may_fail: bool = False) -> str:
    try:
        done = subprocess.run(
            [*GIT, *arguments], cwd=root, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise EnvironmentFailure("git cannot be started", fix="install git") from error
    if done.returncode != 0 and not may_fail:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EnvironmentFailure(
            f"git refuses the repository: {said[0] if said else arguments[0]}", where=str(root)
        )
    return done.stdout.decode(errors="surrogateescape")
