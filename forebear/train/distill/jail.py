"""Starts one Python program behind as many fences as asked for, or does not start it at all.

A script of its own, run as ``python -I -S -B jail.py SPEC``: a fresh process without threads, which
may safely fork. It imports the standard library alone. The order is: limits, another user when we
are root, Landlock, namespaces, then a first process that owns all others and whose end is theirs.
A fence that cannot be put up ends the process with status 126 before the program has begun.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import stat
import sys

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # landlock system calls
_NO_NEW_PRIVS, _DEATH_SIGNAL = 38, 1  # prctl
_NEWUSER, _NEWNET, _NEWPID, _NEWIPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000
_READ = 1 << 0 | 1 << 2 | 1 << 3
_WRITE = (1 << 16) - 1 & ~(1 << 6 | 1 << 11 | 1 << 15)  # no devices, no controls of devices
_ON_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
_NOBODY = 65534
_SECCOMP, _FILTER = 22, 2  # prctl
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_OTHER_ABI, _THREAD = 0x40000000, 0x00010000
# machine → its name to the kernel, clone, and the older calls that start a process
_STARTS = {"x86_64": (0xC000003E, 56, (57, 58)), "aarch64": (0xC00000B7, 220, ())}
_CLONE3 = 435
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Rules(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("files", "tcp", "scopes"))


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("rights", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _call(number: int, *arguments: object) -> int:
    return _checked(int(_LIBC.syscall(ctypes.c_long(number), *arguments)))


def _landlock(readable: list[str], writable: list[str]) -> None:
    abi = _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 3:
        raise OSError(f"Landlock ABI {abi} does not guard truncation")
    files = (1 << 15) - 1 | (1 << 15 if abi >= 5 else 0)
    rules = _Rules(files, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    opened = [(path, _READ) for path in readable] + [(path, _WRITE) for path in writable]
    for path, rights in opened:
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # not there: nothing to open
            continue
        allowed = (
            rights & files if stat.S_ISDIR(os.fstat(parent).st_mode) else rights & files & _ON_FILES
        )
        rule = _Beneath(allowed, parent)
        _call(_ADD, ruleset, 1, ctypes.byref(rule), ctypes.c_uint32(0))
        os.close(parent)
    _call(_RESTRICT, ruleset, ctypes.c_uint32(0))
    os.close(ruleset)


def _limit(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def _prctl(option: int, value: int) -> None:
    _checked(int(_LIBC.prctl(option, value, 0, 0, 0)))


def _forbid_processes() -> None:
    """Threads may still be started; a process may not, whoever the user is.

    RLIMIT_NPROC does not bind root, and a stage of root's may have no other user to become.
    """
    name, clone, older = _STARTS[os.uname().machine]
    again = _FAIL | errno.EAGAIN
    refused = [(number, again) for number in older] + [(_CLONE3, _FAIL | errno.ENOSYS)]
    steps = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, name), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _OTHER_ABI), (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]  # fmt: skip
    for number, answer in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    steps += [
        (_EQUAL, 0, 3, clone), (_LOAD, 0, 0, 16), (_ANY_BIT, 1, 0, _THREAD),
        (_RETURN, 0, 0, again), (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    listed = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    program = _Program(len(steps), listed)
    _checked(int(_LIBC.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)))


def _confine(spec: dict) -> None:  # type: ignore[type-arg]  # JSON
    fences = spec["fences"]
    _prctl(_NO_NEW_PRIVS, 1)
    if "user" in fences and os.geteuid() == 0:
        # the kernel counts no processes of root, and goes by the real user; the effective one
        # stays, since root's interpreter may be closed to others
        os.setgroups([])
        os.setresuid(_NOBODY, -1, -1)
        _prctl(_DEATH_SIGNAL, signal.SIGKILL)  # a change of user forgets it
    flags = 0
    if "network" in fences:
        # ids stay unmapped: nobody's files become ours
        flags |= _NEWUSER | _NEWNET | _NEWIPC
    if "processes" in fences:
        flags |= _NEWUSER | _NEWPID
    if flags:
        _checked(int(_LIBC.unshare(flags)))
    if "files" in fences:
        _landlock(spec["readable"], spec["writable"])


def _follow(child: int) -> int:
    """Waits for ``child``; its status as a shell gives it."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def main() -> int:
    """Runs the program of the spec; its status, or 126 when a fence is missing."""
    spec = json.loads(sys.argv[1])
    parent = os.getppid()
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        return 126
    os.umask(0o077)
    try:
        _confine(spec)
        os.chdir(spec["folder"])
    except OSError as error:
        sys.stderr.write(f"fence: {error}\n")
        return 126
    first = os.fork()
    if first:
        # asked to stop, it ends the first process and so waits until all others are gone, too
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
        return _follow(first)
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    try:
        second = os.fork()
        if second:
            # the first process of its namespace: when it ends, the kernel ends all others
            os._exit(_follow(second))
        _limit(spec["limits"])
        if "forks" in spec["fences"]:
            _forbid_processes()
        os.execve(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606
    except BaseException as error:  # noqa: BLE001  # a fork must never return into this script's caller
        sys.stderr.write(f"fence: {error}\n")
        os._exit(126)


if __name__ == "__main__":
    raise SystemExit(main())
