"""``forebear doctor``: says what on this machine or in this repository would stop a run."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

LOW_DISK_BYTES = 2 * 1024**3
MARKS = {"ok": "ok  ", "warning": "warn", "fault": "FAIL"}


@dataclass(frozen=True, slots=True)
class Line:
    """One examined thing."""

    subject: str
    state: Literal["ok", "warning", "fault"]
    text: str
    fix: str = ""


@click.command(name="doctor", epilog="Example: forebear doctor --mend")
@click.option("--mend", is_flag=True, help="Remove DVC's lock file when it is broken and unused.")
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
def command(*, mend: bool, as_json: bool) -> int:
    """Check Python, DVC, git, keys, DVC's lock and the disk.

    Exit code 4 when something would stop a run.
    """
    lines = list(_examine(mend=mend))
    if as_json:
        body = {"schema": "forebear.doctor/v1", "lines": [asdict(line) for line in lines]}
        click.echo(json.dumps(body, sort_keys=True))
    else:
        for line in lines:
            click.echo(f"{MARKS[line.state]}  {line.subject:<10} {line.text}")
            if line.fix:
                click.echo(f"      {'':<10} fix: {line.fix}")
    return 4 if any(line.state == "fault" for line in lines) else 0


def _examine(*, mend: bool) -> Iterator[Line]:
    from forebear.errors import ForebearError
    from forebear.pipeline import find_root

    yield Line("python", "ok", platform.python_version())
    yield _dvc_version()
    yield from _keys()
    yield _confinement()
    try:
        root = find_root()
    except ForebearError as error:
        yield Line("repository", "fault", f"{error.where}: {error.what}", error.fix)
        return
    yield Line("repository", "ok", str(root))
    yield _git(root)
    yield _rwlock(root, mend=mend)
    yield _disk(root)


def _dvc_version() -> Line:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Line("dvc", "ok", version("dvc"))
    except PackageNotFoundError:
        return Line("dvc", "fault", "not installed; only verifying works", "pip install dvc")


def _keys() -> Iterator[Line]:
    import os

    from forebear.signing.keyring import describe
    from forebear.signing.keys import Role, default_directory

    roles: tuple[Role, ...] = ("recorder", "owner")
    for role in roles:
        subject = f"{role} key"[:10]
        named = os.environ.get(f"FOREBEAR_{role.upper()}_KEY")
        if named:
            yield Line(subject, "ok", f"named by FOREBEAR_{role.upper()}_KEY")
            continue
        row = describe(role, default_directory())
        if row.state == "missing":
            yield Line(subject, "fault", f"there is no {role} key", f"forebear keys new {role}")
        elif row.state == "refused":
            fix = row.fix or "forebear keys show"
            yield Line(subject, "fault", f"{row.private}: {row.reason}", fix)
        elif row.state == "public":
            variable = f"FOREBEAR_{role.upper()}_KEY"
            yield Line(
                subject, "fault", f"the private half of {row.public} is not here",
                f"name its token or key service in {variable}; or move the public half away "
                f"and run forebear keys new {role}",
            )  # fmt: skip
        else:
            locked = ", encrypted" if row.state == "locked" else ""
            yield Line(subject, "ok", f"{(row.keyid or '')[:8]}{locked} {row.private}")


def _confinement() -> Line:
    """What confinement stages get here, found out by trying."""
    import os

    from forebear.recording.confine import NO_NETWORK
    from forebear.recording.trial import try_confinement

    try:
        report, seconds = try_confinement()
    except OSError as error:
        return Line("confined", "warning", f"cannot be tried: {error.strerror}")
    abi = f" ABI {report.abi}" if report.abi else ""
    text = f"{report.level} by {report.mechanism}{abi}, network: {report.network}"
    if report.level != "enforced" or report.network != NO_NETWORK:
        root = "; stages run as root, better not" if os.geteuid() == 0 else ""
        return Line("confined", "warning", f"{text} ({report.reason}{root})",
                    "a Linux kernel with Landlock and user namespaces allowed")  # fmt: skip
    return Line("confined", "ok", f"{text}, {seconds * 1000:.0f} ms")


def _git(root: Path) -> Line:
    from forebear.errors import ForebearError
    from forebear.recording.runrecord import git_state

    try:
        state = git_state(root, outs=())
    except ForebearError as error:
        return Line("git", "fault", error.what, error.fix)
    if state.commit is None:
        return Line("git", "warning", "no commit yet: links cannot name one", "git commit")
    if state.dirty:
        changed = len(state.changed)
        return Line("git", "warning", f"{state.commit[:8]}, {changed} changed file(s)")
    return Line("git", "ok", state.commit[:8])


def _rwlock(root: Path, *, mend: bool) -> Line:
    from forebear.recording.dvcstate import inspect_rwlock, mend_rwlock

    report = mend_rwlock(root) if mend else inspect_rwlock(root)
    if report.state != "broken":
        return Line("dvc lock", "ok", report.state)
    if report.mended:
        return Line("dvc lock", "ok", "was broken by a kill; mended")
    if mend:
        holders = ", ".join(map(str, report.holders)) or "unknown"
        return Line("dvc lock", "fault", f"broken, but DVC is running (process {holders})",
                    "wait for it to end, then try again")  # fmt: skip
    return Line("dvc lock", "fault", "broken by a kill", "forebear doctor --mend")


def _disk(root: Path) -> Line:
    free_bytes = shutil.disk_usage(root).free
    text = f"{free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < LOW_DISK_BYTES:
        return Line("disk", "warning", text, "`dvc gc --workspace` drops unused cache")
    return Line("disk", "ok", text)
