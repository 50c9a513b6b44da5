"""Notes which files and addresses a stage's Python asks for; copied beside the stage, not imported.

The recorder copies this file as ``sitecustomize.py`` into a folder at the front of ``PYTHONPATH``;
the interpreter imports it before anything of the stage's. It writes to the file named in
``FOREBEAR_SEEN``, one line each: ``r`` or ``w`` with a path below ``FOREBEAR_ROOT``, ``n`` with an
address. It sees what Python opens: native libraries and other programs it does not. It refuses
nothing, and an environment's own ``sitecustomize`` still runs.

Rests on: provenance page, section 5, "observed"; PEP 578.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events of changes: where each path stands among the arguments, and the folder it is relative to.
_CHANGES = {
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.truncate": ((0, None),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
}
_NEAR = ("127.", "::1", "localhost", "0.0.0.0", "::", os.sep, "\0")  # noqa: S104  # compared only
_MOST = 20_000


class _Notes:
    """What was asked for, each thing once per process."""

    def __init__(self, file: str, root: str) -> None:
        self.file = file
        self.root = root + os.sep
        self.known: set[str] = set()

    def say(self, kind: str, text: str) -> None:
        line = f"{kind}\t{text}"
        if line in self.known or len(self.known) >= _MOST or "\n" in text:
            return
        self.known.add(line)
        # opened each time: a descriptor kept open could become another file's by a daemon's hand,
        # and the notes would end up in an out
        with open(self.file, "ab", buffering=0) as stream:  # noqa: PTH123  # pathlib costs start-up
            stream.write((line + "\n").encode("utf-8", "surrogateescape"))

    def path(self, kind: str, given: Any) -> None:
        if isinstance(given, int) or given is None:  # a descriptor: noted when it was opened
            return
        text = os.fsdecode(given)
        if not text.startswith(os.sep):
            text = os.getcwd() + os.sep + text  # noqa: PTH109  # as above
        text = os.path.normpath(text)
        if text.startswith(self.root):
            self.say(kind, text[len(self.root) :])

    def address(self, host: Any, port: Any) -> None:
        text = os.fsdecode(host)
        if text and not text.startswith(_NEAR):
            self.say("n", text if port is None else f"{text}:{port}")

    def opened(self, given: Any, mode: Any, flags: Any) -> None:
        if isinstance(mode, str):
            changes = any(letter in mode for letter in "wax+")
        else:
            changes = bool(flags & _WRITES)
        self.path("w" if changes else "r", given)

    def other(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            for place, folder in _CHANGES[event]:
                if folder is None or arguments[folder] == -1:  # else below an open folder, noted
                    self.path("w", arguments[place])
        elif event == "sqlite3.connect":
            self.path("r", os.fsdecode(arguments[0]).removeprefix("file:").partition("?")[0])
        elif event == "ctypes.dlopen":
            self.path("r", arguments[0])
        elif event in {"socket.connect", "socket.sendto"}:
            if isinstance(arguments[1], tuple):
                self.address(arguments[1][0], arguments[1][1])
        elif event == "socket.getaddrinfo":
            self.address(arguments[0], arguments[1])


def _install(file: str, root: str) -> None:
    notes = _Notes(file, root)
    others = {*_CHANGES, "sqlite3.connect", "ctypes.dlopen"}
    others |= {"socket.connect", "socket.sendto", "socket.getaddrinfo"}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        try:
            if event == "open":
                notes.opened(*arguments)
            elif event in others:
                notes.other(event, arguments)
        except (OSError, TypeError, ValueError, IndexError):
            pass  # the folder is gone, or no path at all: nothing that could be named

    try:
        notes.say("s", "watched")
    except OSError:
        return  # the run is over, or this process is another user's
    sys.addaudithook(hook)


def _run_next(own: str) -> None:
    """Runs the ``sitecustomize`` that this file stands in front of."""
    from importlib.machinery import PathFinder

    sys.path[:] = [folder for folder in sys.path if folder != own]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        import importlib.util

        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    _file, _root = os.environ.get("FOREBEAR_SEEN"), os.environ.get("FOREBEAR_ROOT")
    if _file and _root:
        _install(_file, _root)
    _run_next(os.path.dirname(__file__))  # noqa: PTH120  # as above
