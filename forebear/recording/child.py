"""Runs a stage's command as one process tree, and leaves none of it behind.

The command gets its own session; the recorder adopts orphans (child subreaper), so after the
command has ended every descendant is known and can be killed, since a survivor could change outs
after hashing. A kill of DVC, even by SIGKILL, takes the tree down: the kernel signals the
recorder, and the recorder watches DVC itself for the case that a shell stands in between.
It refuses to report success of a command that was told to stop. Linux only.

Rests on: provenance page, section 4, steps 2 to 4.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from forebear.errors import EnvironmentFailure
from forebear.recording.relay import Relay, open_relay

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 5.0
LINGER_S = 0.5
POLL_S = 0.5
KILL_TIMEOUT_S = 10.0
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh"})
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How the command ended and what its tree used.

    Attributes:
        returncode: exit status as a shell shows it: 128 + n after signal n.
        stopped_by: number of the signal that told the recorder to stop; None when none did.
        wall_s: from start to end.
        cpu_s: user and system time of the whole tree.
        max_rss_bytes: peak resident memory of the tree; shared pages count once per process.
        survivors: names of processes that outlived the command and were killed.
        stderr: the end of what it said there; for messages only, it may hold secrets.
    """

    returncode: int
    stopped_by: int | None
    wall_s: float
    cpu_s: float
    max_rss_bytes: int
    survivors: tuple[str, ...]
    stderr: str = ""


class FenceLike(Protocol):
    """What is done to the child between fork and exec."""

    def words(self, argv: Sequence[str]) -> list[str]:
        """The command to start."""
        ...

    def before_start(self) -> None:
        """Called before each try."""
        ...

    def enter(self) -> None:
        """Called in the child."""
        ...

    def started(self) -> bool:
        """Whether the child got to its command; else it is started again."""
        ...


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One line of ``/proc``: identity, parent and resident memory."""

    pid: int
    name: str
    state: str
    parent: int
    rss_bytes: int


def adopt_orphans(*, die_with_parent: bool) -> None:
    """Makes this process the parent of orphaned descendants, and optionally mortal.

    Args:
        die_with_parent: SIGTERM arrives when the parent (DVC, or its shell) dies.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    if die_with_parent:
        parent = os.getppid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call, so no signal will come
            os.kill(os.getpid(), signal.SIGTERM)


def run_child(  # noqa: PLR0913  # by name
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    fence: FenceLike | None = None,
    watch_parent: bool = False,
    while_running: Callable[[], None] | None = None,
    quiet: bool = False,
) -> ChildResult:
    """Runs ``argv`` to its end and kills what it left running.

    Args:
        argv: the command; a first word ``python`` runs this interpreter.
        cwd: its current folder.
        env: its whole environment.
        fence: confines it.
        watch_parent: stop it when DVC dies.
        while_running: called once after the start, for work that can share the time.
        quiet: its stdout joins its stderr, since ours has a meaning of its own.

    Raises:
        EnvironmentFailure: the command cannot be started, or a descendant cannot be killed.
    """
    tree = _Tree()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with tree.signals(), contextlib.ExitStack() as stack:
        started_process, relay = _start(argv, cwd, env, fence, quiet=quiet)
        process = tree.begin(started_process)
        watched = [stack.enter_context(_pidfd(process.pid))]
        callers = _callers() if watch_parent else []
        watched += [stack.enter_context(_pidfd(pid)) for pid in callers]
        if while_running is not None:
            while_running()
        tree.wait(process, watched)
        wall_s = time.monotonic() - started
        survivors = _kill_descendants()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = process.returncode
    return ChildResult(
        returncode=128 - code if code < 0 else code,
        stopped_by=tree.stopped_by,
        wall_s=wall_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        max_rss_bytes=max(tree.peak_rss_bytes, after.ru_maxrss * 1024),
        survivors=survivors,
        stderr=relay.finish(),
    )


def process_table() -> dict[int, ProcessEntry]:
    """Every process that ``/proc`` shows, by id."""
    page_bytes = resource.getpagesize()
    table = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # the name may hold blanks and brackets: fields start after the last bracket
        head, _, tail = text.rpartition(")")
        fields = tail.split()
        pid = int(folder.name)
        table[pid] = ProcessEntry(
            pid=pid,
            name=head.partition("(")[2],
            state=fields[0],
            parent=int(fields[1]),
            rss_bytes=int(fields[21]) * page_bytes,
        )
    return table


def descendants(ancestor: int) -> list[ProcessEntry]:
    """Living processes below ``ancestor``; zombies are left out."""
    children: dict[int, list[ProcessEntry]] = {}
    for entry in process_table().values():
        children.setdefault(entry.parent, []).append(entry)
    found: list[ProcessEntry] = []
    queue = list(children.get(ancestor, []))
    while queue:
        entry = queue.pop()
        queue.extend(children.get(entry.pid, []))
        if entry.state not in "ZX":
            found.append(entry)
    return found


@dataclass(slots=True)
class _Tree:
    """The running command, and what the signal handler needs to know about it."""

    process: subprocess.Popen[bytes] | None = None
    stopped_by: int | None = None
    kill_at: float | None = None
    peak_rss_bytes: int = 0

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Turns stop signals into an orderly end of the tree while the block runs."""
        # a signal that is ignored (nohup) stays ignored
        heeded = [n for n in STOP_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def begin(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Takes over the started command; a stop signal that came first reaches it now."""
        self.process = process
        if self.stopped_by is not None:
            self._signal_group(signal.SIGTERM)
        return process

    def wait(self, process: subprocess.Popen[bytes], watched: Sequence[int]) -> None:
        """Returns when the command has ended; stops it when a watched caller ends."""
        poller = select.poll()
        for descriptor in watched:
            poller.register(descriptor, select.POLLIN | select.POLLHUP)
        while process.poll() is None:
            ended = {descriptor for descriptor, _ in poller.poll(POLL_S * 1000)}
            for descriptor in ended & set(watched[1:]):
                poller.unregister(descriptor)
                self.stop(signal.SIGTERM)
            resident = sum(entry.rss_bytes for entry in descendants(os.getpid()))
            self.peak_rss_bytes = max(self.peak_rss_bytes, resident)
            if self.kill_at is not None and time.monotonic() > self.kill_at:
                self._signal_group(signal.SIGKILL)

    def stop(self, number: int) -> None:
        """Asks the command's group to end; after a grace period it is killed."""
        if self.stopped_by is None:
            self.stopped_by = number
            self.kill_at = time.monotonic() + GRACE_S
            self._signal_group(signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.stop(number)

    def _signal_group(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def _start(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    fence: FenceLike | None,
    *,
    quiet: bool,
) -> tuple[subprocess.Popen[bytes], Relay]:
    recorder = os.getpid()
    libc = _libc()

    def before_exec() -> None:
        if fence is not None:
            fence.enter()
        # last: another user namespace would take it back
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != recorder:
            os._exit(137)

    words = [sys.executable, *argv[1:]] if argv[0] == "python" else list(argv)
    while True:
        relay = open_relay()
        if fence is not None:
            fence.before_start()
        try:
            process = subprocess.Popen(
                words if fence is None else fence.words(words),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=relay.theirs if quiet else None,
                stderr=relay.theirs,
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509  # no thread runs now, nothing is imported
            )
        except OSError as error:
            relay.abandon()
            raise _no_start(error, argv, fence) from error
        if fence is None or fence.started():
            relay.start()
            return process, relay
        process.wait()
        relay.abandon()


def _no_start(error: OSError, argv: Sequence[str], fence: FenceLike | None) -> EnvironmentFailure:
    if fence is not None:
        fence.started()
    fix = "install the program, or correct the stage's cmd"
    if isinstance(error, PermissionError):
        fix = "list the program under deps if it lies in the repository, and make it executable"
    return EnvironmentFailure(
        f"the command cannot be started: {error.strerror}",
        where=str(error.filename or argv[0]),
        fix=fix,
    )


def _kill_descendants() -> tuple[str, ...]:
    """Ends everything below this process; names of what had to be killed, sorted."""
    # helpers that only wait for a closed pipe get a moment, or each pool would count as a survivor
    linger_until = time.monotonic() + LINGER_S
    while descendants(os.getpid()) and time.monotonic() < linger_until:
        _reap()
        time.sleep(0.01)
    killed: dict[int, str] = {}
    give_up_at = time.monotonic() + KILL_TIMEOUT_S
    while living := descendants(os.getpid()):
        if time.monotonic() > give_up_at:
            pids = ", ".join(str(entry.pid) for entry in living)
            raise EnvironmentFailure(f"processes of the stage cannot be killed: {pids}")
        for entry in living:
            killed[entry.pid] = entry.name
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(entry.pid, signal.SIGKILL)
        _reap()
        time.sleep(0.005)
    _reap()
    return tuple(sorted(killed.values()))


def _reap() -> None:
    """Collects ended orphans, so that their times count and no zombie stays."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _callers() -> list[int]:
    """The parent, and its parent too when a shell stands between DVC and the recorder."""
    table = process_table()
    parent = table.get(os.getppid())
    if parent is None:
        return []
    above = table.get(parent.parent)
    if parent.name in SHELLS and above is not None and above.pid > 1:
        return [parent.pid, above.pid]
    return [parent.pid] if parent.pid > 1 else []


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:  # ended already: a closed pipe's end polls as ended, too
        descriptor, writer = os.pipe()
        os.close(writer)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        raise EnvironmentFailure(f"prctl({option}) failed: {os.strerror(ctypes.get_errno())}")
