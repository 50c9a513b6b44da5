"""Hashes declared deps and outs as a link's artifacts, and tells whether they changed since.

A file is an artifact by its path; a directory is ``tree:<dir>`` and each file in it. A symlink is
followed only into DVC's cache. It refuses what is missing and what is no regular file.

Rests on: provenance page, sections 1, 3 and 4 (steps 2, 5, 6).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forebear.errors import EnvironmentFailure, PathError, RecordError
from forebear.formats.link import TREE
from forebear.hashing.cache import DigestCache
from forebear.hashing.digest import hash_files, hash_tree

StatKey = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Artifacts:
    """What was hashed.

    Attributes:
        paths: as declared.
        digests: digest by artifact name, ``tree:`` names among them.
        states: identity, size and times of each file, taken before it was hashed.
    """

    paths: tuple[str, ...]
    digests: dict[str, str]
    states: dict[str, StatKey]


@dataclass(frozen=True, slots=True)
class Hasher:
    """Hashes declared paths of one repository.

    Attributes:
        root: the DVC root.
        cache_dir: DVC's cache, where symlinks may lead.
        digest_cache: file of the digest cache; None reads every byte.
    """

    root: Path
    cache_dir: Path
    digest_cache: Path | None

    def hash_deps(self, paths: Sequence[str]) -> Artifacts:
        """Artifacts of declared deps.

        Raises:
            EnvironmentFailure: one does not exist or cannot be read.
            PathError: one breaks the path rules.
        """
        for path in paths:
            if not os.path.lexists(self.root / path):
                raise EnvironmentFailure(
                    "the dep does not exist",
                    where=path,
                    fix="run `dvc repro`, or `dvc pull` when it is data",
                )
        return self._hash(paths)

    def hash_outs(self, paths: Sequence[str]) -> Artifacts:
        """Artifacts of declared outs.

        Raises:
            RecordError: the stage did not write one.
            PathError: one breaks the path rules.
        """
        missing = [path for path in paths if not os.path.lexists(self.root / path)]
        if missing:
            raise RecordError(
                "the stage did not write what it declares, so no link was signed",
                where=", ".join(missing[:5]),
                fix="write it, or take it out of the stage's outs",
            )
        return self._hash(paths)

    def require_unchanged(self, artifacts: Artifacts, what: str) -> None:
        """Refuses any change since the artifacts were hashed, even one to the same bytes.

        Raises:
            RecordError: a file changed, came or went.
        """
        now = self._states(artifacts.paths)
        names = now.keys() | artifacts.states.keys()
        changed = sorted(name for name in names if now.get(name) != artifacts.states.get(name))
        if changed:
            raise RecordError(
                f"{what}, so no link was signed",
                where=", ".join(changed[:5]),
                fix="find out what writes there: a stage may change its outs only, "
                "and nothing else may change them. Then run the stage again",
            )

    def _hash(self, paths: Sequence[str]) -> Artifacts:
        states = self._states(paths)
        if self.digest_cache is None:
            return Artifacts(tuple(paths), self._digests(paths, None), states)
        with DigestCache(self.digest_cache) as cache:
            return Artifacts(tuple(paths), self._digests(paths, cache), states)

    def _digests(self, paths: Sequence[str], cache: DigestCache | None) -> dict[str, str]:
        digests: dict[str, str] = {}
        files = []
        for path in paths:
            place = self.root / path
            if place.is_symlink() or not place.is_dir():
                files.append(path)
                continue
            tree = hash_tree(place, allow_symlinks_into=self.cache_dir, cache=cache)
            digests[f"{TREE}{path}"] = tree.digest
            digests.update({f"{path}/{inner}": digest for inner, digest in tree.files.items()})
        places = [self.root / path for path in files]
        found = hash_files(places, allow_symlinks_into=self.cache_dir, cache=cache)
        return {**digests, **dict(zip(files, found, strict=True))}

    def _states(self, paths: Sequence[str]) -> dict[str, StatKey]:
        found: dict[str, StatKey] = {}
        for path in paths:
            top = self.root / path
            if top.is_symlink() or not top.is_dir():
                _note(top, path, found)
                continue
            for folder, _, names in os.walk(top, onerror=_raise):
                for name in names:
                    file = Path(folder, name)
                    _note(file, file.relative_to(self.root).as_posix(), found)
        return found


def _note(file: Path, name: str, found: dict[str, StatKey]) -> None:
    try:
        stat = file.stat()
    except FileNotFoundError as error:
        if file.is_symlink():
            raise PathError(
                "is a dangling symlink", where=name, fix="run `dvc checkout`"
            ) from error
        return  # gone since the folder was listed: its absence is the change
    # ctime too: an edit can restore mtime
    found[name] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _raise(error: OSError) -> None:
    raise EnvironmentFailure(
        f"cannot be read: {error.strerror}", where=str(error.filename)
    ) from error
