"""A network and a shared memory of its own for the stage: user, network and mount namespace.

The network has nothing but loopback, and ``/dev/shm`` is empty.

Called between fork and exec. Works for ordinary users where user namespaces are allowed: ids map
to themselves, so files keep their owners. Root may have every id mapped, else files of others would
be closed to it. It touches no network of the machine's. Linux only.

Rests on: provenance page, section 5, "Network"; ``user_namespaces(7)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_DUMPABLE = 4
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_SLAVE = 0x4000, 1 << 19
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the system's fixed place
_EVERY_ID = 2**32 - 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class HalfwayError(OSError):
    """The process is in a namespace that it cannot use, and cannot go back."""


def hide_memory() -> None:
    """Closes this process's memory and environment to others of the same user.

    Under root ``/proc/<pid>/environ`` is readable despite Landlock (provenance page, section 5).
    """
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def leave_network(*, own_memory: bool, every_id: bool) -> bool:
    """Moves this process into a network without any way out; whether loopback works there.

    Args:
        own_memory: shared memory becomes its own, too, where the kernel lets it.
        every_id: files of other users are to stay open to root; costs 5 ms.

    Raises:
        HalfwayError: the ids could not be mapped; this process is of no more use.
        OSError: the kernel refuses; nothing has changed.
    """
    uid, gid = os.geteuid(), os.getegid()
    # the maps belong to root while memory is hidden; the child holds no secret and is about to exec
    _LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    mapper = _Mapper() if every_id and uid == 0 else None
    mounts = _CLONE_NEWNS if own_memory else 0
    if _LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | mounts) != 0:
        error = ctypes.get_errno()
        if mapper is not None:
            mapper.dismiss()
        raise OSError(error, os.strerror(error))
    try:
        if mapper is None or not mapper.map_every_id():
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    except OSError as error:
        raise HalfwayError(error.errno, error.strerror) from error
    if own_memory:
        _mount_memory()
    with contextlib.suppress(OSError):
        _raise_loopback()
        return True
    return False


def _mount_memory() -> None:
    """An empty ``/dev/shm``; where it cannot be mounted the machine's stays."""
    if _LIBC.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None) == 0:
        _LIBC.mount(b"tmpfs", os.fsencode(SHARED_MEMORY), b"tmpfs", 0, b"mode=1777")


class _Mapper:
    """A helper that stays behind, since only outside a namespace may every id be mapped."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._writer)
            os._exit(_map_parent(reader))
        os.close(reader)

    def map_every_id(self) -> bool:
        """Whether the ids are mapped now."""
        os.write(self._writer, b"go")
        return self._end() == 0

    def dismiss(self) -> None:
        """Ends the helper without mapping."""
        self._end()

    def _end(self) -> int:
        os.close(self._writer)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _map_parent(reader: int) -> int:
    if os.read(reader, 2) != b"go":
        return 1
    try:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{os.getppid()}/{name}").write_text(f"0 0 {_EVERY_ID}", encoding="ascii")
    except OSError:
        return 1
    return 0


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, name))[1]
        up = struct.pack("16sH14x", b"lo", flags | _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, up)
