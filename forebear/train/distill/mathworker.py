"""Compares mathematical answers, line by line, in a process of its own. Never imported.

Reads JSON ``[expected, given]`` on standard input, writes a reason: empty when they are equal. A
process of its own, because some expressions take forever or all memory, inside libraries that no
signal interrupts: the caller kills it then. Run as ``python -I mathworker.py MEMORY_BYTES``.
"""

from __future__ import annotations

import json
import logging
import resource
import sys


def reason(expected: str, given: str) -> str:
    """Empty when the given answer equals the expected one; else why it is refuted."""
    from math_verify import parse, verify  # type: ignore[import-untyped]  # has no types

    # as LaTeX first: read as prose, x^2+2x+1 would be the last number in it, 1
    marked = "$" in expected or "\\boxed" in expected or "\\(" in expected
    gold = [] if marked else parse(f"${expected}$", parsing_timeout=None)
    gold = gold or parse(expected, parsing_timeout=None)
    if not gold:
        return "the expected answer is no mathematics"
    found = parse(given, parsing_timeout=None)
    if not found:
        return "no mathematical answer"
    return "" if verify(gold, found, timeout_seconds=None) else "not equal"


def main() -> None:
    """Serves until standard input ends."""
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)  # the libraries warn about timeouts being off
    for line in sys.stdin:
        expected, given = json.loads(line)
        try:
            verdict = reason(expected, given)
        except MemoryError:
            verdict = "too large"
        except Exception as error:  # noqa: BLE001   # whatever a hostile text does to a parser
            verdict = f"unreadable ({type(error).__name__})"
        sys.stdout.write(json.dumps(verdict) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
