"""The pipeline as plain data: what ``dvc.yaml`` declares, without templates and without DVC.

This is the only module that imports dvc, and only inside functions, so that a verifier reads
``pipeline.json`` with neither dvc nor a YAML parser installed. It knows nothing of any stage in
particular. It refuses a pipeline that DVC itself refuses, a cycle, and a command that is not one
plain ``forebear record NAME -- …``.

Rests on: provenance page, sections 3 and 4.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from forebear.errors import ConfigError, EnvironmentFailure, FormatError

SCHEMA = "forebear.pipeline/v1"
DVC_FILE = "dvc.yaml"
PARAMS_FILE = "params.yaml"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Out:
    """One declared output.

    Attributes:
        path: relative to the DVC root.
        is_dir: from the disk, else from ``dvc.lock``; None when neither knows.
        cached: False for ``cache: false``.
        kind: the declared ``type:``, ``model`` marks a checkpoint; empty when not declared.
        metric: listed under ``metrics:``.
        plot: listed under ``plots:``.
    """

    path: str
    is_dir: bool | None = None
    cached: bool = True
    kind: str = ""
    metric: bool = False
    plot: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One resolved stage, or one source (``.dvc`` file, frozen stage).

    Attributes:
        name: as DVC addresses it from the root: ``sft``, ``measure@base``, ``data/raw.dvc``.
        cmd: the whole declared command; empty for a ``.dvc`` file.
        deps: declared dependencies without params, relative to the root, sorted.
        params: sections of ``params.yaml`` by name; those of other files below the file's name.
        outs: declared outputs, metrics and plots among them, sorted by path.
        meta: the stage's ``meta`` mapping.
        frozen: a source: DVC never runs it, so it has no link of its own.
        wdir: folder that the command runs in, relative to the root.
        origin: where an import comes from: ``url``, its ``revision`` and ``path`` there, as far as
            DVC knows them; empty for anything else.
    """

    name: str
    cmd: str
    deps: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    outs: tuple[Out, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    frozen: bool = False
    wdir: str = "."
    origin: dict[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """The ``meta: {forebear: …}`` mapping of the stage; empty when there is none.

        Raises:
            ConfigError: it is not a mapping.
        """
        options = self.meta.get("forebear") or {}
        if not isinstance(options, dict):
            raise ConfigError("must be a mapping", where=f"{DVC_FILE}: {self.name}.meta.forebear")
        return options


@dataclass(frozen=True, slots=True)
class Pipeline:
    """All stages of a repository.

    Attributes:
        stages: those that DVC runs, every producer before its consumers.
        root: the DVC root; None when read from ``pipeline.json``.
        sources: ``.dvc`` files and frozen stages, whose outs count as source artifacts.
    """

    stages: tuple[Stage, ...]
    root: Path | None = None
    sources: tuple[Stage, ...] = ()

    def stage(self, name: str) -> Stage:
        """The stage of that name.

        Raises:
            ConfigError: there is none, or it is a source; the nearest name is suggested.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        if any(source.name == name for source in self.sources):
            raise ConfigError(
                "the stage is frozen: DVC never runs it, so its outs are sources and have no link",
                where=f"{DVC_FILE}: {name}",
            )
        raise ConfigError(
            f"there is no stage {name!r}",
            where=DVC_FILE,
            fix=_suggestion(name, [stage.name for stage in self.stages]),
        )

    def producer(self, path: str) -> Stage | None:
        """The stage whose out is ``path`` or contains it; None for a source artifact."""
        for stage in self.stages:
            for out in stage.outs:
                if path == out.path or path.startswith(out.path + "/"):
                    return stage
        return None

    def producers(self, path: str) -> tuple[Stage, ...]:
        """Every stage with an out that is ``path``, contains it or lies below it."""
        return tuple(
            stage for stage in self.stages if any(_overlap(path, out.path) for out in stage.outs)
        )

    def to_json(self) -> dict[str, Any]:
        """The pipeline as JSON values; :meth:`from_json` is its inverse but for ``root``."""
        return {
            "schema": SCHEMA,
            "stages": [_stage_to_json(stage) for stage in self.stages],
            "sources": [_stage_to_json(stage) for stage in self.sources],
        }

    @classmethod
    def from_json(cls, value: object, *, where: str = "pipeline.json") -> Pipeline:
        """The pipeline from what :meth:`to_json` gave. Unknown top-level keys are kept out.

        Raises:
            FormatError: another schema, a missing key or a value of the wrong type.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise FormatError(f"is not a pipeline of schema {SCHEMA}", where=where)
        stages = _json_list(value, "stages", where)
        sources = _json_list(value, "sources", where)
        return cls(
            stages=tuple(_stage_from_json(entry, where) for entry in stages),
            sources=tuple(_stage_from_json(entry, where) for entry in sources),
        )


@dataclass(frozen=True, slots=True)
class Workspace:
    """A DVC repository on disk, as far as the recorder needs it.

    Attributes:
        pipeline: its stages.
        cache_dir: DVC's local object cache, the only place that symlinks may lead to.
        dvc_md5: DVC's own digest of each out that ``dvc.lock`` knows; bookkeeping, not evidence.
    """

    pipeline: Pipeline
    cache_dir: Path
    dvc_md5: Mapping[str, str]


def find_root(start: Path | None = None) -> Path:
    """The DVC root: the nearest folder upwards that holds ``.dvc``; ``DVC_ROOT`` when none does.

    The current folder comes first: DVC runs a stage in its own repository, but for an experiment
    elsewhere on disk it sets ``DVC_ROOT`` to the repository that the experiment was started in.

    Raises:
        EnvironmentFailure: no DVC repository, or one outside a git repository.
    """
    named = os.environ.get("DVC_ROOT") if start is None else None
    here = (start or Path.cwd()).absolute()
    there = [Path(named).absolute()] if named else []
    for folder in (here, *here.parents, *there):
        if (folder / ".dvc").is_dir():
            if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
                raise EnvironmentFailure(
                    "the DVC repository is not inside a git repository",
                    where=str(folder),
                    fix="run `git init` there and commit the pipeline: links name the commit",
                )
            return folder
    raise EnvironmentFailure(
        "there is no DVC repository here or in any folder above",
        where=str(here),
        fix="change into the repository, or run `git init` and `dvc init` in a new one",
    )


def load_pipeline(root: Path) -> Pipeline:
    """All stages of the repository at ``root``, resolved by DVC.

    Raises:
        ConfigError: DVC refuses ``dvc.yaml`` or a params file, a param is missing, or a cycle.
        EnvironmentFailure: no DVC repository.
    """
    return load_workspace(root).pipeline


def load_workspace(root: Path) -> Workspace:
    """The repository at ``root``, read through DVC in one go. Raises as :func:`load_pipeline`."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    root = root.absolute()
    try:
        repo = Repo(str(root))
        read_params = _ParamsReader(repo, root)
        found = [_from_dvc(stage, root, read_params) for stage in repo.index.stages]
        md5 = {
            _relative(out, root): str(out.hash_info.value)
            for stage in repo.index.stages
            for out in stage.outs
            if out.hash_info and out.hash_info.value
        }
        cache_dir = Path(repo.cache.local.path)
        repo.close()
    except NotDvcRepoError as error:
        raise EnvironmentFailure(
            "there is no DVC repository", where=str(root), fix="run `dvc init`"
        ) from error
    except (DvcException, TypeError, ValueError) as error:
        # TypeError: DVC does not catch its own refusal of dates among the default vars
        raise ConfigError(f"DVC refuses the pipeline: {error}", where=DVC_FILE) from error
    pipeline = Pipeline(
        stages=_in_order([stage for stage in found if not stage.frozen]),
        root=root,
        sources=tuple(
            sorted((stage for stage in found if stage.frozen), key=lambda stage: stage.name)
        ),
    )
    return Workspace(pipeline=pipeline, cache_dir=cache_dir, dvc_md5=md5)


@dataclass(frozen=True, slots=True)
class Template:
    """One key below ``stages:``, resolved by DVC from a text that need not lie on disk.

    Attributes:
        each: what names one of its stages there: ``${key}``, ``${item}``; empty for a plain stage,
            ``None`` when nothing in the template does (a list of mappings).
        stages: command as DVC runs it, by the stage's full name; a list is one command each.
    """

    each: str | None
    stages: Mapping[str, str | list[str]]


def resolve_text(root: Path, text: str) -> dict[str, Template]:
    """What DVC makes of the text of a ``dvc.yaml`` at ``root``, by key; nothing is written.

    Raises:
        ConfigError: DVC refuses it.
    """
    import yaml
    from dvc.exceptions import DvcException
    from dvc.parsing import DataResolver, EntryDefinition, MatrixDefinition
    from dvc.repo import Repo

    try:
        value = yaml.safe_load(text)
        repo = Repo(str(root))
        found = {}
        each: str | None
        for name, definition in DataResolver(repo, str(root), value).definitions.items():
            if isinstance(definition, EntryDefinition):
                each, resolved = "", definition.resolve()
            else:
                each = _each(definition, matrix=isinstance(definition, MatrixDefinition))
                resolved = definition.resolve_all()
            found[name] = Template(each, {key: one["cmd"] for key, one in resolved.items()})
        repo.close()
    except (DvcException, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"DVC refuses the pipeline: {error}", where=DVC_FILE) from error
    return found


def _each(definition: Any, *, matrix: bool) -> str | None:
    values = definition.resolved_iterable
    if matrix or isinstance(values, Mapping):
        return "${key}"
    inner = [value for value in values if not isinstance(value, str)]
    return None if any(isinstance(value, Mapping | Sequence) for value in inner) else "${item}"


def link_path(stage: Stage | str) -> str:
    """Path of the stage's link relative to the DVC root: ``links/<name>.link``."""
    name = stage if isinstance(stage, str) else stage.name
    return f"links/{name}.link"


def inner_argv(stage: Stage) -> tuple[str, ...]:
    """The stage's own command: what stands after ``--`` in ``forebear record NAME -- …``.

    Raises:
        ConfigError: the command is not one such call, or names another stage.
    """
    where = f"{DVC_FILE}: {stage.name}.cmd"
    fix = f"write it as: forebear record {stage.name} -- COMMAND …"
    try:
        words = shlex.split(stage.cmd)
    except ValueError as error:
        raise ConfigError(f"cannot be split into words: {error}", where=where, fix=fix) from error
    if words[:2] != ["forebear", "record"] or "--" not in words:
        raise ConfigError("the stage does not run under `forebear record`", where=where, fix=fix)
    cut = words.index("--")
    argv = tuple(words[cut + 1 :])
    if not argv:
        raise ConfigError("there is no command after `--`", where=where, fix=fix)
    if stage.name not in words[2:cut]:
        raise ConfigError("the command records under another name", where=where, fix=fix)
    return argv


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _suggestion(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "stages are: " + ", ".join(known) if known else "declare it in dvc.yaml"


def _in_order(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Stages with every producer first; among equals the order of ``dvc.yaml``."""
    waiting = list(stages)
    ordered: list[Stage] = []
    while waiting:
        left = [out.path for stage in waiting for out in stage.outs]
        ready = next((stage for stage in waiting if not _needs(stage, left)), None)
        if ready is None:
            names = ", ".join(stage.name for stage in waiting)
            raise ConfigError(f"stages depend on each other in a cycle: {names}", where=DVC_FILE)
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _needs(stage: Stage, outs: Iterable[str]) -> bool:
    own = {out.path for out in stage.outs}
    return any(_overlap(dep, out) for out in outs if out not in own for dep in stage.deps)


def _from_dvc(stage: Any, root: Path, read_params: _ParamsReader) -> Stage:
    from dvc.dependency import ParamsDependency

    cmd = stage.cmd or ""
    origin = _origin(stage.deps[0]) if stage.is_import else {}
    plain = [] if origin else [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    wdir = os.path.relpath(stage.wdir, root)
    return Stage(
        name=_stage_name(stage, root),
        cmd="\n".join(cmd) if isinstance(cmd, list) else str(cmd),
        deps=tuple(sorted(_relative(dep, root) for dep in plain)),
        params=read_params.of(stage) if cmd else {},
        outs=tuple(
            sorted((_out_from_dvc(out, root) for out in stage.outs), key=lambda out: out.path)
        ),
        meta=_plain(stage.meta or {}),
        frozen=bool(stage.frozen) or not cmd,
        wdir=Path(wdir).as_posix(),
        origin=origin,
    )


def _origin(dep: Any) -> dict[str, str]:
    """Where an import comes from, as the ``.dvc`` file says; nothing is fetched."""
    repo = getattr(dep, "def_repo", None)
    if repo:
        found = {
            "url": _without_secrets(str(repo.get("url", ""))),
            "revision": str(repo.get("rev_lock") or repo.get("rev") or ""),
            "path": str(dep.def_path),
        }
    else:
        known = (dep.meta.version_id if dep.meta else None) or dep.hash_info.value
        found = {"url": _without_secrets(str(dep.def_path)), "revision": str(known or "")}
    return {key: value for key, value in found.items() if value}


def _without_secrets(url: str) -> str:
    """A URL without user, password and query, where credentials are often written."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _stage_name(stage: Any, root: Path) -> str:
    file = Path(os.path.relpath(stage.path, root)).as_posix()
    name = getattr(stage, "name", None)
    if not name:
        return file
    return str(name) if file == DVC_FILE else f"{file}:{name}"


def _relative(artifact: Any, root: Path) -> str:
    """Path below the root; what was declared, as it stands, for anything elsewhere."""
    if artifact.protocol != "local":
        return str(artifact.def_path)
    relative = Path(os.path.relpath(artifact.fs_path, root)).as_posix()
    return str(artifact.fs_path) if relative.startswith("../") else relative


def _out_from_dvc(out: Any, root: Path) -> Out:
    path = _relative(out, root)
    is_dir: bool | None = None
    if (root / path).exists():
        is_dir = (root / path).is_dir()
    elif out.hash_info and out.hash_info.value:
        is_dir = bool(out.hash_info.isdir)
    return Out(
        path=path,
        is_dir=is_dir,
        cached=bool(out.use_cache),
        kind=str(out.annot.type or ""),
        metric=bool(out.metric),
        plot=bool(out.plot),
    )


class _ParamsReader:
    """Resolved params of stages; each params file is parsed once, by DVC's own loader."""

    def __init__(self, repo: Any, root: Path) -> None:
        self._fs = repo.fs
        self._root = root
        self._files: dict[str, Any] = {}

    def of(self, stage: Any) -> dict[str, Any]:
        """Sections in clear; see :class:`Stage`."""
        sections: dict[str, Any] = {}
        for dep in stage.params:
            file = Path(os.path.relpath(dep.fs_path, self._root)).as_posix()
            target = sections if file == PARAMS_FILE else sections.setdefault(file, {})
            values = self._load(dep.fs_path, file)
            if not dep.params:
                target.update(_plain(values))
            for key in dep.params:
                where = f"{file}: {key}"
                _put(target, key.split("."), _plain(_pick(values, key.split("."), where)))
        return sections

    def _load(self, fs_path: str, file: str) -> Any:
        from dvc.utils.serialize import ParseError, load_path

        if file not in self._files:
            try:
                self._files[file] = load_path(fs_path, self._fs)
            except FileNotFoundError as error:
                raise ConfigError("there is no such params file", where=file) from error
            except ParseError as error:
                raise ConfigError(str(error), where=file) from error
        return self._files[file]


def _pick(values: Any, parts: Sequence[str], where: str) -> Any:
    for part in parts:
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            raise ConfigError(
                "a stage lists this param, but the file does not have it",
                where=where,
                fix="add it, or take it out of the stage's `params`",
            )
    return values


def _put(target: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    for part in parts[:-1]:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # a listed parent already holds it
        target = inner
    target[parts[-1]] = value


def _plain(value: Any) -> Any:
    """Ordinary dicts and lists; scalars stay as they are, so that the writer can refuse them."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "cmd": stage.cmd,
        "deps": list(stage.deps),
        "params": stage.params,
        "outs": [
            {
                "path": out.path,
                "is_dir": out.is_dir,
                "cached": out.cached,
                "kind": out.kind,
                "metric": out.metric,
                "plot": out.plot,
            }
            for out in stage.outs
        ],
        "meta": stage.meta,
        "frozen": stage.frozen,
        "wdir": stage.wdir,
        **({"origin": stage.origin} if stage.origin else {}),
    }


def _stage_from_json(value: object, where: str) -> Stage:
    entry = _require(value, dict, "a stage", where)
    name = _require(entry.get("name"), str, "stage name", where)
    at = f"{where}: {name}"
    deps = [_require(dep, str, "dep", at) for dep in _json_list(entry, "deps", at)]
    return Stage(
        name=name,
        cmd=_require(entry.get("cmd"), str, "cmd", at),
        deps=tuple(deps),
        params=_require(entry.get("params"), dict, "params", at),
        outs=tuple(_out_from_json(out, at) for out in _json_list(entry, "outs", at)),
        meta=_require(entry.get("meta"), dict, "meta", at),
        frozen=_require(entry.get("frozen"), bool, "frozen", at),
        wdir=_require(entry.get("wdir"), str, "wdir", at),
        origin=_require(entry.get("origin", {}), dict, "origin", at),
    )


def _out_from_json(value: object, where: str) -> Out:
    entry = _require(value, dict, "an out", where)
    is_dir = entry.get("is_dir")
    return Out(
        path=_require(entry.get("path"), str, "out path", where),
        is_dir=None if is_dir is None else _require(is_dir, bool, "is_dir", where),
        cached=_require(entry.get("cached"), bool, "cached", where),
        kind=_require(entry.get("kind"), str, "kind", where),
        metric=_require(entry.get("metric"), bool, "metric", where),
        plot=_require(entry.get("plot"), bool, "plot", where),
    )


def _json_list(entry: Mapping[str, Any], key: str, where: str) -> list[Any]:
    return _require(entry.get(key), list, key, where)


def _require(value: object, kind: type[T], what: str, where: str) -> T:
    if not isinstance(value, kind):
        raise FormatError(f"{what} is not a {kind.__name__}", where=where)
    return value
