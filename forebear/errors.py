"""Every error that Forebear raises on purpose, and the exit code each one stands for.

    ForebearError(what, where, fix)      exit
    ├─ UsageError      ConfigError         2   wrong call, wrong configuration
    ├─ EnvironmentFailure                  4   missing file, permission, disk, network
    │  └─ MissingExtra                     4   names the extra to install
    ├─ FormatError     PathError           2   bytes that break a format (1 from ``verify``)
    ├─ SignatureError  PolicyError         1   a signature or a trust rule does not hold
    └─ RecordError     GateError           1   a stage broke what it declares, or the gate is shut

Raised at a border, shown once, by the command line. Never used for control flow.
"""

from __future__ import annotations

from typing import ClassVar


class ForebearError(Exception):
    """What is wrong, where, and how to mend it.

    Args:
        what: the fault in one sentence; values quoted and shortened, secrets never.
        where: file, line, key or stage; empty when the whole call is at fault.
        fix: what the reader can do about it; empty when nothing sensible can be said.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  fix: {self.fix}" if self.fix else text


class UsageError(ForebearError):
    """The command was called in a way that it does not accept."""

    exit_code = 2


class ConfigError(ForebearError):
    """A file that a person writes (params, policy, declarations) does not hold."""

    exit_code = 2


class EnvironmentFailure(ForebearError):
    """The machine refused: missing file, no permission, full disk, no network."""

    exit_code = 4


class MissingExtra(EnvironmentFailure):
    """An optional part is not installed.

    Args:
        extra: name of the extra in ``pyproject.toml``.
        needed_for: what the caller wanted to do.
    """

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the extra '{extra}'",
            fix=f"pip install 'forebear[{extra}]'",
        )


class FormatError(ForebearError):
    """Bytes that break the format they claim to have."""

    exit_code = 2


class PathError(ForebearError):
    """A path that breaks the path rules (provenance page, section 1)."""

    exit_code = 2


class SignatureError(ForebearError):
    """A signature does not hold."""


class PolicyError(ForebearError):
    """The auditor's trust policy does not allow it."""


class RecordError(ForebearError):
    """A stage did not do what ``dvc.yaml`` declares, so no link is signed."""


class GateError(ForebearError):
    """The gate did not pass, so no release is signed."""
