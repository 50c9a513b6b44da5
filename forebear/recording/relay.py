"""Passes a command's stderr on as it comes, and keeps its end for the explanation of a failure.

On a terminal the command gets a terminal as well, so that progress bars stay what they are. What
it says is kept in memory only, never in a link: it may hold secrets.

Rests on: provenance page, sections 3 and 5.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios
import threading
import tty
from dataclasses import dataclass, field

STDERR = 2
TAIL_BYTES = 64 * 1024
_JOIN_S = 2.0


@dataclass(slots=True)
class Relay:
    """Carries stderr from one command to this process's own.

    Attributes:
        theirs: descriptor that the command writes to; closed here after the start.
    """

    theirs: int
    _ours: int
    _tail: bytearray = field(default_factory=bytearray)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to pass on; called when the command has the other end."""
        os.close(self.theirs)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """The end of what was said, at most 64 KiB; all writers have ended."""
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            if not self._thread.is_alive():
                os.close(self._ours)
        return self._tail.decode(errors="replace")

    def abandon(self) -> None:
        """Closes both ends: the command was never started."""
        os.close(self.theirs)
        os.close(self._ours)

    def _carry(self) -> None:
        open_still = True
        while True:
            try:
                data = os.read(self._ours, TAIL_BYTES)
            except OSError:  # EIO: nobody holds the other side of the terminal any more
                return
            if not data:
                return
            self._tail += data
            del self._tail[:-TAIL_BYTES]
            if open_still:
                try:
                    _write_all(data)
                except OSError:  # our own reader is gone; the command must not stop for that
                    open_still = False


def open_relay() -> Relay:
    """A pipe, or a terminal of the same size where stderr is one.

    Raises:
        OSError: there is no descriptor to be had.
    """
    if not os.isatty(STDERR):
        ours, theirs = os.pipe()
        return Relay(theirs, ours)
    ours, theirs = os.openpty()
    tty.setraw(theirs)  # the outer terminal turns line ends, once is enough
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(STDERR, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    for descriptor in (ours, theirs):
        os.set_inheritable(descriptor, False)  # noqa: FBT003  # positional in the standard library
    return Relay(theirs, ours)


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDERR, view) :]
