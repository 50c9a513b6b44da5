"""Random changes of a packed release: one flipped bit, or files removed, added or swapped.

Seeded, so a change that is not found can be made again from its number alone.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KINDS = ("flip", "flip", "flip", "flip", "flip", "flip", "flip", "delete", "add", "swap")


@dataclass(frozen=True)
class Change:
    """One change that was made.

    Attributes:
        kind: one of ``KINDS``.
        what: file and place, for the message.
        undo: puts the release back as it was.
    """

    kind: str
    what: str
    undo: Callable[[], None]


def make_change(folder: Path, seed: int, *, kind: str | None = None) -> Change:
    """Changes the release in ``folder`` as the seed says.

    Args:
        folder: a packed release.
        seed: decides everything.
        kind: of the change; drawn when left out.
    """
    draw = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    kind = kind or draw.choice(KINDS)
    return {"flip": _flip, "delete": _delete, "add": _add, "swap": _swap}[kind](draw, folder, files)


def _flip(draw: random.Random, folder: Path, files: list[Path]) -> Change:
    file = draw.choice([file for file in files if file.stat().st_size])
    data = file.read_bytes()
    at, bit = draw.randrange(len(data)), draw.randrange(8)
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    file.write_bytes(changed)
    what = f"bit {bit} of byte {at} of {file.relative_to(folder)}"
    return Change("flip", what, lambda: _put(file, data))


def _delete(draw: random.Random, folder: Path, files: list[Path]) -> Change:
    file = draw.choice(files)
    data = file.read_bytes()
    file.unlink()
    return Change("delete", f"{file.relative_to(folder)}", lambda: _put(file, data))


def _add(draw: random.Random, folder: Path, files: list[Path]) -> Change:
    beside = draw.choice(files)
    name = draw.choice(("x", ".x", "x.pyc", "x~", "x.link", "hashlib.py", f"{beside.name}.bak"))
    file = beside.with_name(name)
    file.write_bytes(draw.choice((b"", b"x", beside.read_bytes())))
    return Change("add", f"{file.relative_to(folder)}", file.unlink)


def _swap(draw: random.Random, folder: Path, files: list[Path]) -> Change:
    while True:
        one, other = draw.sample(files, 2)
        first, second = one.read_bytes(), other.read_bytes()
        if first != second:
            break

    def undo() -> None:
        _put(one, first)
        _put(other, second)

    one.write_bytes(second)
    other.write_bytes(first)
    names = f"{one.relative_to(folder)} and {other.relative_to(folder)}"
    return Change("swap", names, undo)


def _put(file: Path, data: bytes) -> None:
    file.write_bytes(data)


def copy_of(packed: Path, place: Path) -> Path:
    """A copy of a release that may be changed."""
    shutil.copytree(packed, place)
    return place
