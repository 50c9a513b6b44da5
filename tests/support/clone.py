"""A clone of the repository as a user has it, with the smoke profile, for end-to-end tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Clone:
    """One clone: its folder, and the environment its commands run in."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, *command: str, check: bool = True, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of the environment in the clone; both outputs are captured as text."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**self.env, **(extra or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def start(
        self, *command: str, extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a command in its own session; its outputs go to ``started.log``."""
        with (self.root / "started.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env={**self.env, **(extra or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def clone_smoke(root: Path, *, config: Path) -> Clone:
    """Copies every file that git knows or would know to ``root`` and commits it with smoke params.

    Args:
        root: the clone's folder, made anew.
        config: folder for keys, shared by clones of one person.
    """
    shutil.copytree(REPOSITORY, root, ignore=_untracked(REPOSITORY))
    shutil.copy(root / "recipes" / "smoke.yaml", root / "params.yaml")
    (root / "dvc.lock").unlink(missing_ok=True)
    clone = Clone(root, _environment(config))
    clone.run("git", "init", "--quiet")
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "--message", "smoke profile")
    return clone


def _untracked(repository: Path) -> object:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    files = {repository / name for name in listed if name}
    folders = {parent for file in files for parent in file.parents}

    def ignore(folder: str, names: Sequence[str]) -> set[str]:
        here = Path(folder)
        return {name for name in names if here / name not in files and here / name not in folders}

    return ignore


def _environment(config: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FOREBEAR_", "DVC_"))}
    return {
        **inherited,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "XDG_CONFIG_HOME": str(config),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(config / "dvc"),
        "FOREBEAR_THREADS": "1",
    }
