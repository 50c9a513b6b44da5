"""The two programs that judge code: ``answer`` runs it, ``examine`` runs the tests. Never imported.

They run in jails of their own and talk over two pipes in plain Python literals, so the code under
test shares no memory with the tests: it sees neither them nor the token that stands for success,
and an object that equals everything cannot cross. Run as ``python -I -S -B -c <this> ROLE …``.
"""

from __future__ import annotations

import ast
import builtins
import os
import sys
from typing import Any

_LONGEST = 1 << 20
_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None))


def _plain(value: Any, depth: int = 0) -> bool:
    """Exactly the built-in types, all the way down: no subclass with an opinion on equality."""
    if type(value) not in _PLAIN or depth > 50:
        return False
    if type(value) is dict:
        pairs = value.items()
        return all(_plain(k, depth + 1) and _plain(v, depth + 1) for k, v in pairs)
    if type(value) in (list, tuple, set, frozenset):
        return all(_plain(entry, depth + 1) for entry in value)
    return True


def _encode(value: object) -> bytes:
    if not _plain(value):
        raise TypeError("only plain values can be passed to the answer and come back")
    text = repr(_tagged(value)).encode()
    if len(text) > _LONGEST:
        raise ValueError("too long a value")
    return text + b"\n"


def _tagged(value: Any) -> object:
    """Sets, frozensets and floats that are no literals, as tagged tuples."""
    if type(value) is list:
        return [_tagged(entry) for entry in value]
    if type(value) is tuple:
        return ("t", *(_tagged(entry) for entry in value))
    if type(value) is dict:
        return {_tagged(k): _tagged(v) for k, v in value.items()}
    if type(value) in (set, frozenset):
        return ("s" if type(value) is set else "f", *(_tagged(entry) for entry in value))
    if type(value) is float:
        return ("n", repr(value))
    return value


def _untagged(value: Any) -> Any:
    if type(value) is list:
        return [_untagged(entry) for entry in value]
    if type(value) is dict:
        return {_untagged(k): _untagged(v) for k, v in value.items()}
    if type(value) is not tuple:
        return value
    tag, rest = value[0], value[1:]
    if tag == "n":
        return float(rest[0])
    kinds: dict[str, Any] = {"t": tuple, "s": set, "f": frozenset}
    return kinds[tag](_untagged(entry) for entry in rest)


def _decode(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        raise EOFError("the answer's process has ended")
    value = _untagged(ast.literal_eval(line.decode()))
    if not _plain(value):
        raise TypeError("no plain value")
    return value


def answer(source_file: str) -> None:
    """Runs the code under test, then calls its functions as told on descriptor 0."""
    calls, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    with open(source_file, encoding="utf-8") as handle:  # noqa: PTH123  # few imports
        source = handle.read()
    namespace: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(source, "answer.py", "exec"), namespace)  # noqa: S102
        names = sorted(k for k, v in namespace.items() if callable(v) and type(k) is str)
        results.write(_encode(("ready", names)))
    except BaseException as error:  # noqa: BLE001
        results.write(_encode(("raised", type(error).__name__)))
        results.flush()
        return
    results.flush()
    while line := calls.readline(_LONGEST + 1):
        name, positional, named = _decode(line)
        try:
            reply = _encode(("value", namespace[name](*positional, **named)))
        except BaseException as error:  # noqa: BLE001
            reply = _encode(("raised", type(error).__name__))
        results.write(reply)
        results.flush()


class _Answer:
    """The functions of the other process, called over two pipes."""

    def __init__(self, calls_fd: str, results_fd: str) -> None:
        self._calls, self._results = (
            os.fdopen(int(calls_fd), "wb"),
            os.fdopen(int(results_fd), "rb"),
        )
        self.called = False

    def receive(self) -> tuple:  # type: ignore[type-arg]  # what the other process says
        """Its next message: a word and a value."""
        message = _decode(self._results.readline(_LONGEST + 1))
        if type(message) is not tuple or len(message) != 2:
            raise TypeError("no message")
        return message

    def proxy(self, name: str) -> object:
        """A function that stands for ``name`` over there."""

        def call(*positional: object, **named: object) -> object:
            self.called = True
            self._calls.write(_encode((name, list(positional), named)))
            self._calls.flush()
            kind, value = self.receive()
            if kind == "raised":
                error: Any = getattr(builtins, str(value), None)
                known = isinstance(error, type) and issubclass(error, Exception)
                raise (error if known else RuntimeError)(f"the answer raised {value}")
            return value

        return call


def _outcome(tests: str, other: _Answer) -> str:
    """Empty when the tests pass."""
    try:
        kind, names = other.receive()
    except BaseException:  # noqa: BLE001
        return "the answer ended early"
    if kind != "ready":
        return f"the answer raised {names}"
    # a built-in's name is not the answer's to redefine: the tests would use it
    usable = [n for n in names if n.isidentifier() and not hasattr(builtins, n)]
    namespace = {"__name__": "tests", **{name: other.proxy(name) for name in usable}}
    try:
        exec(compile(tests, "tests.py", "exec"), namespace)  # noqa: S102
    except (EOFError, BrokenPipeError):
        return "the answer ended early"
    except AssertionError:
        return "a test failed"
    except BaseException as error:  # noqa: BLE001
        return f"the tests raised {type(error).__name__}"
    return "" if other.called else "the tests never called the answer"


def examine(calls_fd: str, results_fd: str) -> None:
    """Reads token and tests on descriptor 0; writes the outcome on descriptor 1."""
    outcome = os.fdopen(os.dup(1), "w")
    token, tests = ast.literal_eval(sys.stdin.read())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    print(_outcome(tests, _Answer(calls_fd, results_fd)) or f"token {token}", file=outcome)
    outcome.flush()


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(sys.argv[2])
    else:
        examine(sys.argv[2], sys.argv[3])
