"""Writes the hashed locks: the packages of this environment that each extra needs, no others.

Run by ``make lock``. Versions are those installed, so what is locked is what was tested; to move
one, install it and lock again. pip-compile alone does not do: it cannot leave out a
package together with what only that package needs, and torch brings thirty such.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pip._internal.req.constructors import install_req_from_line
from piptools.repositories import PyPIRepository

HERE = Path(__file__).resolve().parent
# torch: its builds differ between machines. llm and llama-cpp-python: the base model's package
# asks for them, nothing of ours imports them, and the second is compiled for ten minutes.
LEFT_OUT = {"torch", "llm", "llama-cpp-python", "forebear", "pip", "setuptools"}
LOCKS = {
    "core": (),
    "train": ("train", "demo"),
    "dev": ("train", "demo", "web", "teachers", "documents", "pdf", "dev"),
    "fuzz": ("fuzz",),
}
# added to an environment that has the rest; not in dev, since it exists for fewer machines
ALONE = {"fuzz"}


def needed(roots: Iterable[str], own: dict[str, list[str]]) -> dict[str, set[str]]:
    """Names of every package that ``roots`` need here, each with the packages that ask for it."""
    waiting = [(Requirement(root), "forebear") for root in roots]
    found: dict[str, set[str]] = {}
    done = set()
    while waiting:
        requirement, asker = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "forebear":
            extras = sorted(requirement.extras)
            waiting += [(Requirement(text), name) for extra in extras for text in own[extra]]
        if name in LEFT_OUT:
            continue
        found.setdefault(name, set()).add(asker)
        if (name, frozenset(requirement.extras)) not in done:
            done.add((name, frozenset(requirement.extras)))
            waiting += [(child, name) for child in _children(name, requirement.extras)]
    return found


def _children(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def render(found: dict[str, set[str]], hashes: dict[str, list[str]]) -> str:
    """The lock's text; ``hashes`` by pin."""
    lines = [
        "# Written by `make lock`: complete and hashed; install with --no-deps --require-hashes."
    ]
    for name in sorted(found):
        pin = f"{name}=={metadata.version(name)}"
        lines.append(" \\\n".join([pin, *(f"    --hash={digest}" for digest in hashes[pin])]))
        lines.append(f"    # via {', '.join(sorted(found[name]))}")
    return "\n".join(lines) + "\n"


def fetch_hashes(pins: Iterable[str]) -> dict[str, list[str]]:
    """Digests of every file that the package index offers for each pin, all platforms."""
    repository: Any = PyPIRepository([], cache_dir=str(HERE.parent / ".dvc/tmp/lock"))
    with repository.allow_all_wheels():
        return {pin: sorted(repository.get_hashes(install_req_from_line(pin))) for pin in pins}


def main() -> None:
    """Writes every lock beside this file."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = project["optional-dependencies"]
    torch = [
        line
        for line in (HERE / "torch.in").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    found = {}
    for lock, extras in LOCKS.items():
        roots = [text for extra in extras for text in own[extra]]
        if lock not in ALONE:
            roots += project["dependencies"] + (torch if extras else [])
        found[lock] = needed(roots, own)
    pins = {f"{name}=={metadata.version(name)}" for names in found.values() for name in names}
    hashes = fetch_hashes(sorted(pins))
    for lock, names in found.items():
        (HERE / f"{lock}.txt").write_text(render(names, hashes), encoding="utf-8")


if __name__ == "__main__":
    main()
