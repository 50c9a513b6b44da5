"""Landlock, the kernel's file fence that any process may put around itself: three system calls.

A ruleset is built before the fork, so that the child has one call to make. Rights that the running
kernel does not know are left out, and rules on files carry no directory rights, which the kernel
would refuse. It decides nothing: which paths are open says its caller. Linux only.

Rests on: provenance page, section 5; the kernel's ``landlock(7)``, ABI 1 to 7.
"""

from __future__ import annotations

import ctypes
import os
import stat
from dataclasses import dataclass
from pathlib import Path

# equal on every architecture but alpha
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR = 1 << 4, 1 << 5, 1 << 6, 1 << 7
MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = EXECUTE | READ_FILE | READ_DIR
LIST = READ_DIR
# no device nodes: they would be doors to what lies behind them
WRITE = (
    READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK
    | MAKE_FIFO | MAKE_SYM | REFER | IOCTL_DEV
)  # fmt: skip
_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_ABI_1 = (1 << 13) - 1
_NET_TCP = 0b11
_SCOPES = 0b11


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


_LIBC = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Landlock's version in the running kernel, 1 or more.

    Raises:
        OSError: there is none (ENOSYS), it is switched off (EOPNOTSUPP), or it is refused.
    """
    return _syscall(_CREATE, None, 0, _VERSION_FLAG)


def available() -> bool:
    """Whether the running kernel has Landlock and lets us use it."""
    try:
        return abi() > 0
    except OSError:
        return False


@dataclass(slots=True)
class Ruleset:
    """Rules that a process can put itself under; everything handled and not allowed is denied.

    Attributes:
        abi: the version that the rules are written for.
        descriptor: of the kernel's object.
    """

    abi: int
    descriptor: int

    @classmethod
    def of_files(cls, version: int) -> Ruleset:
        """Rules about files, and from ABI 6 on no signals to and no abstract sockets of others."""
        attr = _RulesetAttr(_handled(version), 0, _SCOPES if version >= 6 else 0)
        return cls(version, _create(attr, version))

    @classmethod
    def without_tcp(cls, version: int) -> Ruleset | None:
        """Rules that deny every TCP connection, loopback too; None below ABI 4."""
        if version < 4:
            return None
        return cls(version, _create(_RulesetAttr(0, _NET_TCP, 0), version))

    def allow(self, path: Path, rights: int, *, follow: bool = True) -> None:
        """Opens ``path``, and what lies beneath, to these rights; a missing path is left out.

        Raises:
            OSError: the kernel refuses the rule.
        """
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        try:
            target = os.open(path, flags)
        except OSError:  # gone, or closed to us as well: nothing to open
            return
        try:
            mode = os.fstat(target).st_mode
            if stat.S_ISLNK(mode):
                return
            rights &= _handled(self.abi)
            if not stat.S_ISDIR(mode):
                rights &= _ON_FILES
            if rights:
                rule = _PathBeneath(rights, target)
                _syscall(_ADD, self.descriptor, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(target)

    def restrict_self(self) -> None:
        """Puts this process and all its children to come under the rules, for good.

        Raises:
            OSError: the kernel refuses.
        """
        if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _syscall(_RESTRICT, self.descriptor, 0)

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self.descriptor)


def _handled(version: int) -> int:
    """Rights on files that a kernel of this ABI knows; others make it refuse the ruleset."""
    later = (REFER, 2), (TRUNCATE, 3), (IOCTL_DEV, 5)
    return _ABI_1 | sum(right for right, since in later if version >= since)


def _create(attr: _RulesetAttr, version: int) -> int:
    # older kernels know a shorter structure
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    return _syscall(_CREATE, ctypes.byref(attr), size, 0)


def _syscall(number: int, *arguments: object) -> int:
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(_LIBC.syscall(ctypes.c_long(number), *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
