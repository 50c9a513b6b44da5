"""Makes room for a stage's outs before it runs, and looks afterwards at what it wrote beside them.

A fence can only be opened where something is. A folder that holds nothing but outs of the stage is
opened as a whole, and whatever else is found in it afterwards is an error. Anywhere else the out
itself is made first, empty, and taken away again when the stage did not touch it. ``OUT.partial``,
what a killed run had half written, is put aside first, so that no stage reads it.

Rests on: provenance page, section 4 (steps 2 and 5) and section 5.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from forebear.pipeline import Stage, link_path

# Modification time of what was made here: a stage that writes gives it another one.
_UNTOUCHED_NS = 1_000_000_000
_BOOKS = ".gitignore"
_PARTIAL = ".partial"
_ASIDE = ".dvc/tmp/forebear/partial"


@dataclass(slots=True)
class Room:
    """What was made ready for one stage.

    Attributes:
        root: the DVC root.
        outs: paths of the stage's outs but its link.
        folders: those that hold nothing but outs of the stage.
        made: outs that were made empty, and whether as a folder.
        books: DVC's ``.gitignore`` files in those folders, by identity and time.
    """

    root: Path
    outs: tuple[str, ...]
    folders: tuple[str, ...] = ()
    made: dict[str, bool] = field(default_factory=dict)
    books: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def writable(self) -> tuple[Path, ...]:
        """Paths that the stage may write to."""
        return tuple(self.root / path for path in (*self.folders, *self.outs))

    def clear(self) -> None:
        """Takes away what was made here and not touched since."""
        for path in self.made:
            place = self.root / path
            with contextlib.suppress(OSError):  # gone, or no longer empty
                status = place.lstat()
                if status.st_mtime_ns == _UNTOUCHED_NS and status.st_size == 0:
                    place.unlink()
                elif status.st_mtime_ns == _UNTOUCHED_NS and stat.S_ISDIR(status.st_mode):
                    place.rmdir()

    def strays(self) -> list[str]:
        """Files that the stage left beside its outs, sorted."""
        found = [path for folder in self.folders for path in _strays(self.root, folder, self.outs)]
        return sorted(path for path in found if _key(self.root / path) != self.books.get(path))


def make_room(root: Path, stage: Stage, others: Sequence[str], *, fenced: bool) -> Room:
    """Makes the parents of all outs, and outs where their parent holds anything else.

    Args:
        root: the DVC root.
        stage: the one about to run.
        others: every other path that the pipeline declares.
        fenced: a fence will be opened for the outs; else parents are all that is made.

    Raises:
        OSError: something cannot be made.
    """
    own = link_path(stage)
    outs = tuple(out.path for out in stage.outs if out.path != own)
    kinds = {out.path: out.is_dir for out in stage.outs}
    room = Room(root, outs)
    for out in stage.outs:
        (root / out.path).parent.mkdir(parents=True, exist_ok=True)
    parents = sorted({PurePosixPath(path).parent.as_posix() for path in outs} - {"."})
    taken = [path for path in (*stage.deps, *others, own) if not _within(path, outs)]
    if fenced:
        for path in outs:
            if not any(_overlap(path + _PARTIAL, one) for one in taken):
                _put_aside(root, path + _PARTIAL)
    room.folders = tuple(folder for folder in parents if _only_outs(root, folder, outs, taken))
    for folder in room.folders:
        for books in (root / folder).rglob(_BOOKS):
            room.books[books.relative_to(root).as_posix()] = _key(books)
    for path in outs:
        inside = any(path.startswith(folder + "/") for folder in room.folders)
        if fenced and not inside and not os.path.lexists(root / path):
            room.made[path] = _is_dir(path, kinds[path])
            _make(root / path, is_dir=room.made[path])
    return room


def _put_aside(root: Path, path: str) -> None:
    """Moves the path, if it is there, below DVC's temporary folder; the latest one stays."""
    if os.path.lexists(root / path):
        aside = root / _ASIDE / path
        shutil.rmtree(aside, ignore_errors=True)
        aside.unlink(missing_ok=True)
        aside.parent.mkdir(parents=True, exist_ok=True)
        (root / path).replace(aside)


def _only_outs(root: Path, folder: str, outs: Sequence[str], taken: Sequence[str]) -> bool:
    if any(_overlap(folder, path) for path in taken) or (root / folder).is_symlink():
        return False
    return all(PurePosixPath(path).name == _BOOKS for path in _strays(root, folder, outs))


def _strays(root: Path, folder: str, outs: Sequence[str]) -> Iterator[str]:
    for place, folders, files in os.walk(root / folder):
        here = Path(place).relative_to(root).as_posix()
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *links):
            path = f"{here}/{name}"
            if not _within(path, outs):
                yield path


def _is_dir(path: str, known: bool | None) -> bool:
    """Whether the out is a folder; nobody knows on the very first run, then its name decides."""
    return PurePosixPath(path).suffix == "" if known is None else known


def _make(place: Path, *, is_dir: bool) -> None:
    if is_dir:
        place.mkdir()
    else:
        place.touch()
    os.utime(place, ns=(_UNTOUCHED_NS, _UNTOUCHED_NS))


def _within(path: str, outs: Sequence[str]) -> bool:
    return any(path == out or path.startswith(out + "/") for out in outs)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def _key(file: Path) -> tuple[int, int]:
    status = file.lstat()
    return status.st_ino, status.st_ctime_ns
