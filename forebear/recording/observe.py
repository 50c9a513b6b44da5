"""What a stage was seen to open: by a hook in its Python, or by strace in all of its processes.

The hook costs a third of a microsecond for each open and sees what Python opens; native libraries
and other programs it does not see. strace sees every process and costs 20 µs for each open. Neither
stops anything. What was seen is compared with the declarations by :func:`undeclared`.

Rests on: provenance page, section 5, "observed".
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from forebear.pipeline import Stage, link_path

_CALLS = (
    "trace=?open,openat,?openat2,?creat,execve,?execveat,?rename,?renameat,renameat2,?unlink,"
    "unlinkat,truncate,?link,linkat,?symlink,symlinkat"
)
_LINE = re.compile(r"^\d+\s+(?P<call>\w+)\((?P<rest>.*)$")
_FOLDER_AND_NAME = re.compile(
    r'(?:(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, )?"(?P<name>(?:[^"\\]|\\.)*)"'
)
_RESULT = re.compile(r"= \d+<(?P<path>/(?:[^>\\]|\\.)*)>")
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")
_PROBE_S = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen; paths are relative to the workspace.

    Attributes:
        reads: files opened for reading.
        writes: files opened for writing, renamed or removed, whether it succeeded or not.
        addresses: network addresses other than this machine.
    """

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    def __or__(self, other: Seen) -> Seen:
        """Both together."""
        return Seen(
            self.reads | other.reads,
            self.writes | other.writes,
            self.addresses | other.addresses,
        )


@dataclass(frozen=True, slots=True)
class Watch:
    """Watches one stage.

    Attributes:
        folder: of the hook, for the front of ``PYTHONPATH``.
        seen_file: where the hook writes.
        trace_file: where strace writes.
        root: the workspace as the stage sees it.
    """

    folder: Path
    seen_file: Path
    trace_file: Path
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the hook needs to know."""
        return {"FOREBEAR_SEEN": str(self.seen_file), "FOREBEAR_ROOT": str(self.root)}

    def hooked(self) -> bool:
        """Whether the hook ran at all: other programs than Python know nothing of it."""
        return bool(_text(self.seen_file))

    def seen(self, *homes: Path, traced: bool) -> Seen:
        """What has been seen; ``homes`` are other folders that stand for the workspace."""
        found = parse_hook(_text(self.seen_file))
        if not traced:
            return found
        roots = [str(place) for place in {self.root, self.root.resolve(), *homes}]
        return found | parse_trace(_text(self.trace_file), roots)


def start_watch(private: Path, root: Path) -> Watch:
    """Makes ready to watch a stage.

    Args:
        private: folder of the run.
        root: the workspace as the stage will see it.
    """
    folder = private / "hook"
    folder.mkdir()
    shutil.copyfile(Path(__file__).with_name("sitehook.py"), folder / "sitecustomize.py")
    seen, traced = private / "seen", private / "trace"
    seen.touch(mode=0o600)
    traced.touch(mode=0o600)
    return Watch(folder, seen, traced, root)


def tracer(output: Path) -> tuple[str, ...]:
    """The words that trace a command into ``output``; none where strace is missing or refused."""
    program = shutil.which("strace")
    if program is None:
        return ()
    # -D: the stage stays our child, the tracer is the grandchild
    words = (program, "-D", "-f", "--seccomp-bpf", "-qq", "-y", "-e", "signal=none", "-e", _CALLS)
    try:
        trial = subprocess.run(
            [*words, "-o", os.devnull, "--", "true"],
            capture_output=True, check=False, timeout=_PROBE_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ()
    refused = trial.returncode != 0 or trial.stderr
    return () if refused else (*words, "-o", str(output), "--")


def parse_hook(text: str) -> Seen:
    """What the hook's lines say; lines that it does not write are left out."""
    kinds: dict[str, set[str]] = {"r": set(), "w": set(), "n": set()}
    for line in text.splitlines():
        kind, _, rest = line.partition("\t")
        if kind in kinds and rest:
            kinds[kind].add(rest)
    return Seen(frozenset(kinds["r"]), frozenset(kinds["w"]), frozenset(kinds["n"]))


def parse_trace(text: str, roots: Sequence[str]) -> Seen:
    """What strace's lines say of files below ``roots``.

    Both the name that was used and the place that it led to count: they differ by symlinks.
    """
    reads: set[str] = set()
    writes: set[str] = set()
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        call, rest = found["call"], found["rest"]
        opens = call in {"open", "openat", "openat2", "creat", "execve", "execveat"}
        if opens and (" = -1 " in rest or "O_DIRECTORY" in rest):
            continue
        changes = not opens or call == "creat" or _WRITING.search(rest)
        target = writes if changes else reads
        target.update(path for name in _names(call, rest) for path in _below(name, roots))
    return Seen(frozenset(reads), frozenset(writes))


def _names(call: str, rest: str) -> Iterator[str]:
    pairs = list(_FOLDER_AND_NAME.finditer(rest))
    if call.startswith(("open", "creat", "exec")):
        pairs = pairs[:1]
    elif call.startswith(("link", "symlink")):
        pairs = pairs[1:2]
    for pair in pairs:
        yield os.path.join(_unescape(pair["folder"] or ""), _unescape(pair["name"]))  # noqa: PTH118  # texts of another process
    result = _RESULT.search(rest)
    if result is not None:
        yield _unescape(result["path"])


def _below(name: str, roots: Sequence[str]) -> Iterator[str]:
    place = os.path.normpath(name)
    for root in roots:
        if place.startswith(root + os.sep):
            yield place[len(root) + 1 :]
            return


def _unescape(text: str) -> str:
    """A path as strace prints it: other bytes than printable ASCII in octal or by letter."""
    if "\\" not in text:
        return text
    letters = {"n": 10, "t": 9, "r": 13, "v": 11, "f": 12, "a": 7, "b": 8}
    data = bytearray()
    for part in re.finditer(r"\\([0-7]{1,3})|\\(.)|([^\\])", text):
        octal, letter, plain = part.groups()
        if octal:
            data.append(int(octal, 8) & 255)
        elif letter:
            data.append(letters.get(letter, ord(letter) & 255))
        else:
            data += plain.encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "surrogateescape")


def undeclared(
    seen: Seen, stage: Stage, root: Path, *, writable: Iterable[str] = (), cache_dir: Path
) -> Seen:
    """What of it ``dvc.yaml`` does not list: existing files that were read, and writes.

    Args:
        seen: what was seen.
        stage: as declared.
        root: the DVC root.
        writable: folders that the stage may write to beside its outs, relative to the root.
        cache_dir: DVC's objects, which deps may be links to.
    """
    own = link_path(stage)
    outs = [*(out.path for out in stage.outs if out.path != own), *writable]
    ours = [*stage.deps, *outs, *_inside(root, [cache_dir, *_interpreter(root)])]
    parents = {
        parent.as_posix() for out in stage.outs for parent in PurePosixPath(out.path).parents
    }

    def strange(path: str, declared: Sequence[str]) -> bool:
        # what Python compiles is made from what was read
        return "__pycache__/" not in path and not covers(declared, path)

    return Seen(
        frozenset(p for p in seen.reads if (root / p).is_file() and strange(p, ours)),
        frozenset(
            p
            for p in seen.writes
            if strange(p, outs) and p not in parents and not (root / p).is_dir()
        ),
        frozenset() if stage.options().get("network", False) is True else seen.addresses,
    )


def covers(declared: Iterable[str], path: str) -> bool:
    """Whether one of the declared paths is ``path`` or holds it."""
    return any(path == entry or path.startswith(entry + "/") for entry in declared)


def _interpreter(root: Path) -> Iterator[Path]:
    # an environment that *is* the workspace would declare everything
    for folder in {Path(sys.prefix), Path(sys.base_prefix)}:
        if folder.resolve() != root.resolve():
            yield folder


def _inside(root: Path, folders: Iterable[Path]) -> Iterator[str]:
    for folder in folders:
        for place in (folder, folder.resolve()):
            for home in (root, root.resolve()):
                if home in place.parents:
                    yield place.relative_to(home).as_posix()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
