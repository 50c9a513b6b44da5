"""Runs code of a teacher against its tests, behind fences that have been tried first.

Two jailed processes: one runs the answer, the other the tests (:mod:`examine`). Each has its own
process group and namespaces: no network, no sight of other processes, files closed by Landlock but
for the standard library and a scratch folder of its own, limits on processor time, memory, file
size and threads, and a system call filter under which it can start no process. Success is a random
token that only the tests' process ever holds.

What the machine grants is probed by doing, once, and written down with every verdict. Without
limits on processes and without a closed network nothing is run, unless the params allow it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from forebear.errors import EnvironmentFailure

RULE = "distill.sandbox.fences"
# run as files, never imported; their whole names say that they are code of the stage
_JAIL, _EXAMINE = "forebear.train.distill.jail", "forebear.train.distill.examine"
_FENCES = ("user", "network", "processes", "files", "forks")
_POLL_S = 0.02
_LONGEST_OUTCOME = 300


class SandboxParams(BaseModel):
    """What one answer may use. An answer is one process; ``processes`` bounds its threads, too."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    cpu_s: int = Field(default=5, ge=1, le=600)
    wall_s: float = Field(default=20, gt=0, le=3600)
    memory_mb: int = Field(default=512, ge=64)
    processes: int = Field(default=8, ge=1, le=256)
    file_mb: int = Field(default=16, ge=1)

    def limits(self) -> dict[str, int]:
        """Limits by their name in ``resource``."""
        return {
            "CPU": self.cpu_s,
            "AS": self.memory_mb * 2**20,
            "DATA": self.memory_mb * 2**20,
            "NPROC": self.processes + 2,  # the two that stand over the program
            "FSIZE": self.file_mb * 2**20,
            "NOFILE": 64,
            "CORE": 0,
        }


@dataclass(frozen=True, slots=True)
class Fences:
    """What is in force, as tried on this machine.

    Attributes:
        names: of the steps taken, for the jail.
        network: ``none`` or ``open``.
        files: ``closed`` or ``open``.
        processes: ``limited`` or ``unlimited``.
    """

    names: tuple[str, ...]
    network: str
    files: str
    processes: str

    @property
    def level(self) -> str:
        """``full``, ``partial`` (files are open) or ``none``."""
        if self.network != "none" or self.processes != "limited":
            return "none"
        return "full" if self.files == "closed" and "processes" in self.names else "partial"

    def to_json(self) -> dict[str, Any]:
        """As written into trajectories."""
        return {
            "level": self.level,
            "network": self.network,
            "files": self.files,
            "processes": self.processes,
        }


# Tells what a jailed program can still do; prints JSON.
_PROBE = """
import json, os, socket, sys
def tried(action):
    try:
        action()
    except (OSError, MemoryError):
        return False
    return True
def processes():
    children = []
    try:
        for _ in range(int(sys.argv[3])):
            child = os.fork()
            if not child:
                os.read(0, 1)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, 9)
near = ("127.0.0.1", int(sys.argv[1]))
network = tried(lambda: socket.create_connection(near, timeout=2))
tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"reached", near))
files = tried(lambda: open(sys.argv[2]).read())
print(json.dumps({"network": network, "files": files, "processes": tried(processes)}))
"""


def raise_fences(params: SandboxParams, *, weak_allowed: bool) -> Fences:
    """The strongest fences that this machine grants, found by trying to break them.

    Args:
        params: limits, part of what is tried.
        weak_allowed: an allowance for :data:`RULE` is declared.
    Raises:
        EnvironmentFailure: network or processes are not stopped, and that is not allowed.
    """
    best: Fences | None = None
    for names in _attempts():
        found = _probe(params, names)
        if found is not None and (best is None or _rank(found) > _rank(best)):
            best = found
        if best is not None and best.level == "full":
            break
    if best is None or (best.level == "none" and not weak_allowed):
        seen = "no jail starts here" if best is None else f"network {best.network}, processes "
        seen += "" if best is None else best.processes
        raise EnvironmentFailure(
            f"answers that are code will not be run here: {seen}",
            where="distill.verifier",
            fix="run on a Linux that lets users make namespaces, or add to distill.allow: "
            f"{{rule: {RULE}, reason: …, by: …}}",
        )
    return best


def _attempts() -> Iterator[tuple[str, ...]]:
    yield _FENCES
    for left_out in ("user", "forks", "processes", "files", "network"):
        yield tuple(name for name in _FENCES if name != left_out)
    yield ("network", "forks")
    yield ("user", "network")
    yield ("network",)
    yield ("files",)
    yield ()


def _rank(fences: Fences) -> tuple[bool, bool, bool, int]:
    return (
        fences.network == "none",
        fences.processes == "limited",
        fences.files == "closed",
        len(fences.names),
    )


def _probe(params: SandboxParams, names: tuple[str, ...]) -> Fences | None:
    """What holds behind ``names``, or None when the jail does not start."""
    with _folder() as folder, _listeners() as (port, datagrams):
        canary = folder / "outside"
        canary.write_text("seen", encoding="utf-8")
        inside = folder / "scratch"
        inside.mkdir()
        arguments = [_PROBE, str(port), str(canary), str(params.processes + 4)]
        process = _start(params, names, inside, arguments)
        try:
            output = process.communicate(timeout=params.wall_s + 10)[0]
            seen = json.loads(output)
        except (subprocess.TimeoutExpired, ValueError):
            return None
        finally:
            _end(process)
        # Landlock alone stops TCP and lets datagrams out, so both are tried
        with suppress(BlockingIOError):
            seen["network"] |= bool(datagrams.recv(16))
    return Fences(
        names,
        network="open" if seen["network"] else "none",
        files="open" if seen["files"] else "closed",
        processes="unlimited" if seen["processes"] else "limited",
    )


@contextmanager
def _listeners() -> Iterator[tuple[int, socket.socket]]:
    """A port of loopback with a listener and a datagram socket on it."""
    with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        datagrams.bind(listener.getsockname())
        datagrams.settimeout(0)
        yield listener.getsockname()[1], datagrams


def run_tests(source: str, tests: str, params: SandboxParams, fences: Fences) -> str:
    """Empty when the tests pass; else a short reason, fit for counting.

    Args:
        source: the answer, Python.
        tests: Python that asserts on the answer's functions.
        params: limits.
        fences: from :func:`raise_fences`.
    """
    token = secrets.token_hex(16)
    with _folder() as folder:
        room, tests_room = folder / "answer", folder / "tests"
        room.mkdir()
        tests_room.mkdir()
        (room / "answer.py").write_text(source, encoding="utf-8", errors="backslashreplace")
        calls, results = os.pipe(), os.pipe()
        ends = [*calls, *results]
        program = _file_of(_EXAMINE).read_text(encoding="utf-8")
        running: list[subprocess.Popen[bytes]] = []
        try:
            command = [program, "answer", "answer.py"]
            running.append(
                _start(params, fences.names, room, command, stdin=calls[0], stdout=results[1])
            )
            command = [program, "examine", str(calls[1]), str(results[0])]
            far = (calls[1], results[0])
            running.append(_start(params, fences.names, tests_room, command, pass_fds=far))
            while ends:
                os.close(ends.pop())
            outcome = _await(running[0], running[1], repr((token, tests)), params, room)
        finally:
            for descriptor in ends:
                os.close(descriptor)
            for process in running:
                _end(process)
    if secrets.compare_digest(outcome.encode(), f"token {token}".encode()):
        return ""
    return "no verdict" if outcome.startswith("token") else outcome


def _await(
    answer: subprocess.Popen[bytes], examiner: subprocess.Popen[bytes], told: str,
    params: SandboxParams, room: Path,
) -> str:  # fmt: skip
    if examiner.stdin is None or examiner.stdout is None:
        raise AssertionError("started with pipes")
    with suppress(BrokenPipeError), examiner.stdin as stdin:
        stdin.write(told.encode("utf-8", "backslashreplace"))
    deadline = time.monotonic() + params.wall_s
    while examiner.poll() is None:
        if time.monotonic() > deadline:
            return "timed out"
        if _size(room) > 4 * params.file_mb * 2**20:
            return "wrote too much"
        with suppress(subprocess.TimeoutExpired):
            examiner.wait(_POLL_S)
    outcome = examiner.stdout.read(_LONGEST_OUTCOME).decode("utf-8", "replace").strip()
    if outcome == "the answer ended early":
        with suppress(subprocess.TimeoutExpired):
            if answer.wait(1) == 128 + signal.SIGKILL:
                return "stopped at a limit"
    return outcome or "no verdict"


def _start(
    params: SandboxParams, names: Sequence[str], room: Path, arguments: Sequence[str], *,
    stdin: int = subprocess.PIPE, stdout: int = subprocess.PIPE, pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:  # fmt: skip
    python = os.path.realpath(sys.executable)
    spec = {
        "fences": list(names),
        "folder": str(room),
        "readable": _readable(python),
        "writable": [str(room), os.devnull],
        "limits": params.limits(),
        "command": [python, "-I", "-S", "-B", "-c", *arguments],
        "environment": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
    }
    return subprocess.Popen(
        [python, "-I", "-S", "-B", str(_file_of(_JAIL)), json.dumps(spec)],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )


def _file_of(module: str) -> Path:
    """The file of a module in this folder."""
    return Path(__file__).with_name(module.rpartition(".")[2] + ".py")


def _readable(python: str) -> list[str]:
    """The interpreter, its standard library and the system's shared libraries."""
    paths = sysconfig.get_paths()
    return [
        python,
        paths["stdlib"],
        paths["platstdlib"],
        sysconfig.get_config_var("LIBDIR") or "/usr/lib",
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"),
        *("/dev/urandom", "/dev/zero"),
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the jail; when this returns, its namespace's processes are gone."""
    if process.poll() is None:
        process.terminate()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # without a namespace: what stayed in the group
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="forebear-jail-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _size(folder: Path) -> int:
    """Bytes on disk below ``folder``, as far as it holds still."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118
    return total
