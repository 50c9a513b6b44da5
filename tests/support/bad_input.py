"""What tests of bad input share: a clone run as far as ``tokenize``, commands, and what must hold.

A fault must end in one message with the documented exit code, no traceback, and leave every out as
it was.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import yaml

from tests.support.clone import REPOSITORY, Clone, clone_smoke


def command(stage: str) -> tuple[str, ...]:
    """The stage's own command in ``dvc.yaml``, without the recorder."""
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    words = pipeline["stages"][stage]["cmd"].split()
    return tuple(words[words.index("--") + 1 :])


@cache
def built_clone(folder: Path) -> Clone:
    """The one clone of the session, run as far as ``tokenize``; tests put back what they change."""
    cloned = clone_smoke(folder / "clone", config=folder / "config")
    # a stage without a recorder leaves its scratch in the system's temporary folder
    (folder / "tmp").mkdir(parents=True)
    made = Clone(cloned.root, {**cloned.env, "TMPDIR": str(folder / "tmp")})
    made.run("forebear", "keys", "ensure")
    made.run("dvc", "repro", "tokenize")
    return made


@contextmanager
def unchanged(clone: Clone) -> Iterator[None]:
    """Puts params and links back after the block; every out must be as it was before."""
    params, links = clone.root / "params.yaml", clone.root / "links"
    kept = {file: file.read_bytes() for file in (params, *links.glob("*.link"))}
    before = outs(clone)
    yield
    for file, content in kept.items():
        file.write_bytes(content)
    assert outs(clone) == before


def outs(clone: Clone) -> dict[str, str]:
    """SHA-256 of every file below ``data``, half-written ones included."""
    return {
        file.relative_to(clone.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((clone.root / "data").rglob("*"))
        if file.is_file()
    }


def change(clone: Clone, *changes: tuple[str, str]) -> None:
    """Replaces text in the params, which must hold each old text once."""
    params = clone.root / "params.yaml"
    text = params.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, f"params of the smoke profile no longer hold {old!r} once"
        text = text.replace(old, new)
    params.write_text(text, encoding="utf-8")


def require_one_message(
    done: subprocess.CompletedProcess[str], code: int, what: str, *also: str
) -> None:
    """The command ended with ``code`` and said ``what`` once, in the only error it showed."""
    shown = done.stdout + done.stderr
    assert done.returncode == code, shown
    assert "Traceback" not in shown
    assert shown.count(what) == 1, shown
    for part in also:
        assert part in shown
    # the recorder adds which stage ended and that nothing was signed: the outcome, not the fault
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len([line for line in errors if "no link was signed" not in line]) == 1, shown
