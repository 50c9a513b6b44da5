"""Runs a command in a process tree in which the kernel refuses chosen system calls.

``python -m tests.support.refuse landlock_create_ruleset=ENOSYS -- COMMAND …``: a real seccomp
filter, so that what is tested is what a kernel without the feature does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBERS = {
    "landlock_create_ruleset": {"x86_64": 444, "aarch64": 444},
    "landlock_restrict_self": {"x86_64": 446, "aarch64": 446},
    "unshare": {"x86_64": 272, "aarch64": 97},
    "ptrace": {"x86_64": 101, "aarch64": 117},
}


def refusing(*rules: str) -> tuple[str, ...]:
    """Words to put before a command; each rule is ``NAME=ERRNO``."""
    return (sys.executable, __file__, *rules, "--")


def _instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _install(rules: Sequence[str]) -> None:
    program = _instruction(_LOAD, 0, 0, 0)  # the number of the call
    for rule in rules:
        name, _, reason = rule.partition("=")
        number = _NUMBERS[name][platform.machine()]
        program += _instruction(_JUMP_IF_EQUAL, 0, 1, number)
        program += _instruction(_RETURN, 0, 0, _ERRNO | getattr(errno, reason))
    program += _instruction(_RETURN, 0, 0, _ALLOW)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _FILTER_MODE, header, 0, 0),
    ):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "the filter cannot be installed")


def main() -> None:
    """Installs the filter and becomes the command."""
    cut = sys.argv.index("--")
    _install(sys.argv[1:cut])
    os.execvp(sys.argv[cut + 1], sys.argv[cut + 1 :])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
