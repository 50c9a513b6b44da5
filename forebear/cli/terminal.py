"""What every command does before it prints names that it did not choose itself."""

from __future__ import annotations


def safe(line: str) -> str:
    """``line`` without anything that steers a terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
