"""Hashes a large file through the page cache itself, without copying it: a tenth less work.

A mapping that is cut short while it is read kills the process, so two things come first. A lease
of the kernel's (``F_SETLEASE``) makes anyone who would write or truncate wait until we let go, and
we let go at once when asked. And only pages that are in memory already are touched, so that a
failing disk is met by ``read``, which reports it. Whatever cannot be had so is read as usual: files
of others, network and layered file systems, cold pages.

Rests on: fcntl(2), "Leases"; preadv2(2), ``RWF_NOWAIT``; provenance page, section 1.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

WORTH_BYTES = 4 * 1024 * 1024
_WINDOW_BYTES = 64 * 1024 * 1024
_PROBE_BYTES = 1024 * 1024


@contextmanager
def lease(handle: int, status: os.stat_result) -> Iterator[bool]:
    """Holds off writers of an open file while the block runs; gives whether that worked.

    Args:
        handle: opened for reading only.
        status: of the file.
    """
    # Layered and remote file systems have no device of their own: another machine, or the layer
    # below, could truncate without asking this kernel.
    held = status.st_size >= WORTH_BYTES and os.major(status.st_dev) != 0 and _take(handle)
    try:
        yield held
    finally:
        if held:
            fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def windows(handle: int, start: int, size_bytes: int) -> Iterator[mmap.mmap]:
    """Mappings of the file from ``start`` on, one after another, closed by the next one.

    Ends early, and the rest must be read, when somebody waits for the lease or a part is not in
    memory. Call it only inside :func:`lease`.
    """
    while start < size_bytes:
        length = min(_WINDOW_BYTES, size_bytes - start)
        if not _is_held(handle) or not _is_resident(handle, start, length):
            return
        with mmap.mmap(
            handle, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=start
        ) as mapping:
            yield mapping
        start += length


def _take(handle: int) -> bool:
    try:
        # SIGIO, the default, would end the process when somebody wants to write; SIGURG is ignored
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:  # somebody has it open for writing, or it is another user's
        return False
    return True


def _is_held(handle: int) -> bool:
    return fcntl.fcntl(handle, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def _is_resident(handle: int, start: int, length: int) -> bool:
    """Whether samples of this part can be read without waiting for the disk."""
    byte = [bytearray(1)]
    last = start + length - 1
    try:
        for at in (*range(start, last, _PROBE_BYTES), last):
            if os.preadv(handle, byte, at, os.RWF_NOWAIT) != 1:
                return False
    except OSError:  # would block, or cannot tell
        return False
    return True
