"""Says in words which undeclared file or address a stage wanted, and how to mend it.

Two sources: what the hook or strace saw, and the end of the stage's stderr, since native libraries
report a closed file in their own words (safetensors: "No such file or directory") or by name alone.
A path in stderr counts only beside words of refusal, and a read only if the file exists. It guesses
nothing: what neither source names is not said.

Rests on: provenance page, section 5, "Errors people understand".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from forebear.pipeline import PARAMS_FILE, Pipeline, Stage
from forebear.recording.observe import Seen, covers, undeclared

_REFUSAL = re.compile(
    r"permission denied|no such file|not permitted|unable to open|failed to open|cannot open|"
    r"can't open|could not open|errno 13|errno 2\b|errno 1\b|cannot create|read-only|access",
    re.IGNORECASE,
)
_CHANGE = re.compile(r"creat|writ|remov|renam|unlink|delet|mkdir|truncat", re.IGNORECASE)
_OFFLINE = re.compile(
    r"network is unreachable|temporary failure in name resolution|name or service not known|"
    r"could not resolve host|nodename nor servname",
    re.IGNORECASE,
)
_EXISTS = re.compile(r"file exists|is a directory|not a directory", re.IGNORECASE)
_QUOTED = re.compile(r"'([^'\n]{1,4096})'|\"([^\"\n]{1,4096})\"|\u2018([^\u2019\n]{1,4096})\u2019")
_WORD = re.compile(r"[^\s'\"`()\[\]{}<>,;|=]+")
_MOST = 8


def named_in(stderr: str, stage: Stage, root: Path) -> Seen:
    """Paths of the workspace that refusals in ``stderr`` name, declared or not; and lost hosts."""
    reads: set[str] = set()
    writes: set[str] = set()
    addresses: set[str] = set()
    home = root / stage.wdir
    for line in stderr.splitlines():
        if _OFFLINE.search(line):
            addresses.add("")
        if not _REFUSAL.search(line):
            continue
        for word in _words(line):
            path = _relative(word, home, root)
            if path is None:
                continue
            exists = (root / path).is_file()
            if _CHANGE.search(line.replace(word, "")) or not exists:
                if exists or ("/" in path and (root / path).parent.is_dir() and _denied(line)):
                    writes.add(path)
            else:
                reads.add(path)
    return Seen(frozenset(reads), frozenset(writes), frozenset(addresses))


def outside(stderr: str, root: Path, opened: Iterable[Path]) -> list[str]:
    """Existing files outside the workspace that a refusal names and that were not open."""
    open_paths = [str(path) for path in opened]
    found = []
    for line in stderr.splitlines():
        if _denied(line):
            for word in _words(line):
                place = Path(os.path.normpath(word)) if word.startswith("/") else None
                if place is None or _relative(word, root, root) is not None:
                    continue
                if os.path.lexists(place) and not covers(open_paths, str(place)):
                    found.append(str(place))
    return list(dict.fromkeys(found))


def reasons(  # noqa: PLR0913  # by name; each is one thing that is known of the run
    stage: Stage,
    pipeline: Pipeline,
    *,
    root: Path,
    seen: Seen,
    stderr: str,
    writable: Iterable[str],
    cache_dir: Path,
    closed: bool,
    opened: Iterable[Path],
    made: Mapping[str, bool],
) -> list[str]:
    """One sentence for each undeclared file or address, with the mend; at most eight.

    Args:
        stage: as declared.
        pipeline: all stages: a missing dep may be another stage's out.
        root: the DVC root.
        seen: what hook or strace saw.
        stderr: end of what the stage said.
        writable: see :func:`undeclared`.
        cache_dir: DVC's objects.
        closed: the stage does not declare the network.
        opened: what it could read.
        made: outs that the recorder made empty, and whether as a folder.
    """
    said = named_in(stderr, stage, root)
    odd = undeclared(seen | said, stage, root, writable=writable, cache_dir=cache_dir)
    lines = [_read(path, stage, pipeline) for path in sorted(odd.reads - odd.writes)]
    lines += [_write(path, stage) for path in sorted(odd.writes)]
    if closed:
        hosts = sorted(address for address in odd.addresses if address)
        lines += [
            _reach(host, stage) for host in hosts or (["the network"] if odd.addresses else [])
        ]
    lines += [_made(path, stage, is_dir=made[path]) for path in _in_the_way(stderr, made)]
    lines += [_far(path, stage) for path in outside(stderr, root, opened)]
    more = len(lines) - _MOST
    return [*lines[:_MOST], *([f"and {more} more"] if more > 0 else [])]


def _read(path: str, stage: Stage, pipeline: Pipeline) -> str:
    tried = f"stage {stage.name!r} tried to read {path}"
    if path == PARAMS_FILE:
        return (
            f"{tried}. Its declared params stand in the file that FOREBEAR_PARAMS names: read "
            "that, or list params.yaml under deps."
        )
    producer = pipeline.producer(path)
    whose = f" (stage {producer.name!r} writes it)" if producer is not None else ""
    return f"{tried}, which dvc.yaml does not list under deps{whose}. Add it, or remove the read."


def _write(path: str, stage: Stage) -> str:
    if path in stage.deps or any(path.startswith(dep + "/") for dep in stage.deps):
        return (
            f"stage {stage.name!r} tried to write {path}, which is one of its deps. "
            "Write a copy among the outs."
        )
    return (
        f"stage {stage.name!r} tried to write {path}, which dvc.yaml does not list under outs. "
        "Add it, or write to the temporary folder."
    )


def _reach(host: str, stage: Stage) -> str:
    return (
        f"stage {stage.name!r} tried to reach {host}, and stages have no network. Add "
        "`meta: {forebear: {network: true}}` to it in dvc.yaml, or remove the access."
    )


def _far(path: str, stage: Stage) -> str:
    return (
        f"stage {stage.name!r} was refused {path}, which lies outside the repository. Import it "
        "with `dvc import-url` and list it under deps, or name it under meta.forebear.reads."
    )


def _in_the_way(stderr: str, made: Mapping[str, bool]) -> list[str]:
    said = [line for line in stderr.splitlines() if _EXISTS.search(line)]
    return sorted(path for path in made if any(path in line for line in said))


def _made(path: str, stage: Stage, *, is_dir: bool) -> str:
    return (
        f"stage {stage.name!r} found {path}, which the recorder had made as an empty "
        f"{'folder' if is_dir else 'file'} for it to write into. Let the stage accept that, or "
        "give its outs a folder that holds nothing else."
    )


def _denied(line: str) -> bool:
    return re.search(r"permission denied|errno 13|read-only", line, re.IGNORECASE) is not None


def _words(line: str) -> Iterator[str]:
    for found in _QUOTED.finditer(line):
        yield found[1] or found[2] or found[3]
    for found in _WORD.finditer(_QUOTED.sub(" ", line)):
        yield found[0].rstrip(":.!?")


def _relative(word: str, home: Path, root: Path) -> str | None:
    """The word as a path below the workspace; None when it is none."""
    if "\0" in word or len(word) > 4096:
        return None
    place = os.path.normpath(home / word)
    for top in (str(root), str(root.resolve())):
        if place.startswith(top + os.sep):
            return place[len(top) + 1 :]
    return None
