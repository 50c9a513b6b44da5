"""A clean room: an empty folder that gets a stage's materials and nothing else.

What the stage read is taken by digest, from the workspace, the commit or DVC's cache, whichever
still has it, and every byte is hashed again where it was put. What is nowhere to be had leaves the
stage unchecked; nothing is fetched from a network.

Rests on: provenance page, section 10.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from forebear.errors import EnvironmentFailure, ForebearError
from forebear.formats.link import TREE, Link, is_virtual
from forebear.hashing.digest import hash_file
from forebear.pipeline import Out, Pipeline, Stage, Workspace, link_path
from forebear.recording.runrecord import GIT


class Unavailable(ForebearError):  # noqa: N818  # nobody erred: something is not here
    """Something is not here that a stage read or wrote, so nothing was compared."""

    exit_code: ClassVar[int] = 3


@dataclass(slots=True)
class Store:
    """Where files may still lie, by path and digest.

    Attributes:
        root: the DVC root.
        workspace: as DVC resolves it.
        commit: that the stage was recorded at; empty when unknown.
    """

    root: Path
    workspace: Workspace
    commit: str
    _folders: dict[str, dict[str, str]] = field(default_factory=dict)

    def put(self, path: str, digest: str, room: Path) -> None:
        """Writes the file below ``room``, its digest checked.

        Raises:
            Unavailable: no copy has the digest.
        """
        target = room / path
        target.parent.mkdir(parents=True, exist_ok=True)
        for source in (self._from_disk, self._from_commit, self._from_cache):
            if source(path, target) and hash_file(target) == digest:
                return
            target.unlink(missing_ok=True)
        raise Unavailable(
            f"(sha256 {digest}) is neither in the workspace nor in the commit nor in DVC's cache",
            where=path,
            fix="dvc pull, or check out the commit that the link names",
        )

    def _from_disk(self, path: str, target: Path) -> bool:
        return _copied(self.root / path, target)

    def _from_commit(self, path: str, target: Path) -> bool:
        if not self.commit:
            return False
        with target.open("wb") as stream:
            # `./` makes the path relative to the folder git runs in
            done = subprocess.run(
                [*GIT, "cat-file", "blob", f"{self.commit}:./{path}"],
                cwd=self.root, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        return done.returncode == 0

    def _from_cache(self, path: str, target: Path) -> bool:
        for out, md5 in self.workspace.dvc_md5.items():
            if path == out:
                return _copied(self._object(md5), target)
            if path.startswith(f"{out}/") and md5.endswith(".dir"):
                inner = self._folder(md5).get(path.removeprefix(f"{out}/"))
                return inner is not None and _copied(self._object(inner), target)
        return False

    def _object(self, md5: str) -> Path:
        return self.workspace.cache_dir / md5[:2] / md5[2:]

    def _folder(self, md5: str) -> dict[str, str]:
        if md5 not in self._folders:
            try:
                entries = json.loads(self._object(md5).read_bytes())
                self._folders[md5] = {entry["relpath"]: entry["md5"] for entry in entries}
            except (OSError, ValueError, KeyError, TypeError):
                self._folders[md5] = {}
        return self._folders[md5]


def as_recorded(link: Link, params: Mapping[str, Any], pipeline: Pipeline) -> Stage:
    """The stage as its link tells; only its options, kinds of outs and folder are today's.

    Raises:
        ConfigError: there is no such stage any more.
    """
    now = pipeline.stage(link.name)
    kinds = {out.path: out.kind for out in now.outs}
    outs = [
        Out(path.removeprefix(TREE), is_dir=path.startswith(TREE),
            kind=kinds.get(path.removeprefix(TREE), ""))
        for path in tops(link.products)
    ]  # fmt: skip
    return Stage(
        name=link.name,
        cmd=now.cmd,
        deps=tuple(sorted(path.removeprefix(TREE) for path in tops(link.materials))),
        params=dict(params),
        outs=(*outs, Out(link_path(link.name), is_dir=False)),
        meta=now.meta,
        wdir=now.wdir,
    )


def tops(artifacts: Iterable[str]) -> Iterator[str]:
    """Folders as ``tree:`` names, and the files that lie in none of them; sorted."""
    names = sorted(artifacts)
    folders = [name.removeprefix(TREE) for name in names if name.startswith(TREE)]
    for name in names:
        inside = any(name.startswith(f"{folder}/") for folder in folders)
        if name.startswith(TREE) or (not is_virtual(name) and not inside):
            yield name


def furnish(
    room: Path, store: Store, link: Link, said: Callable[[str], object] = lambda _: None
) -> None:
    """Puts every material of the link into ``room``.

    Args:
        room: an empty folder.
        store: where they are taken from.
        link: names them.
        said: called with a line for people.

    Raises:
        Unavailable: one is nowhere to be had.
        EnvironmentFailure: the disk refuses.
    """
    files = {name: digest for name, digest in link.materials.items() if not is_virtual(name)}
    try:
        for name in link.materials:
            if name.startswith(TREE):
                (room / name.removeprefix(TREE)).mkdir(parents=True, exist_ok=True)
        for path, digest in sorted(files.items()):
            store.put(path, digest, room)
    except OSError as error:
        raise EnvironmentFailure(
            f"the clean room cannot be furnished: {error.strerror}", where=str(error.filename)
        ) from error
    said(f"{link.name}: {len(files)} files by digest in an empty folder")


def _copied(source: Path, target: Path) -> bool:
    try:
        if not source.is_file():
            return False
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return False
    target.chmod(0o644 | (source.stat().st_mode & 0o111))
    return True
