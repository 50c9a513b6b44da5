"""A throwaway DVC repository with two recorded stages, and the commands to work in it.

The real ``dvc`` and the real recorder run in it; nothing of the caller's configuration is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebear.formats.dsse import Envelope, parse_envelope
from forebear.formats.link import Link, parse_link
from forebear.signing.keys import create_key, key_files, load_public
from forebear.signing.signer import verify_envelope

REPOSITORY = Path(__file__).parents[2]
PARAMS = "seed: 7\nmake:\n  lr: 1e-5\n  text: hello\n  allow:\n  - rule: odd\n    by: me\n"
MAKE = """
import json, os, pathlib, sys
params = json.loads(pathlib.Path(os.environ["FOREBEAR_PARAMS"]).read_text())
out = pathlib.Path(sys.argv[1])
(out / "sub").mkdir(parents=True)
(out / "x.txt").write_text(params["make"]["text"])
(out / "sub" / "y.txt").write_text(str(params["seed"]))
pathlib.Path("metrics.json").write_text('{"n": 2}')
"""
PIPELINE = """
stages:
  make:
    cmd: forebear record make -- python make.py out/tree
    deps:
    - make.py
    params:
    - seed
    - make
    outs:
    - out/tree:
        type: model
    - links/make.link
    metrics:
    - metrics.json:
        cache: false
  use:
    cmd: forebear record use -- cp out/tree/x.txt final.txt
    deps:
    - out/tree
    outs:
    - final.txt
    - links/use.link
"""


@dataclass(frozen=True)
class Workspace:
    """One repository with its keys."""

    root: Path
    keys: Path
    env: dict[str, str]

    def write(self, path: str, text: str) -> Path:
        """Writes a file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def read(self, path: str) -> str:
        """Text of a file below the root."""
        return (self.root / path).read_text(encoding="utf-8")

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a command at the root, with both streams caught."""
        return subprocess.run(
            words, cwd=self.root, env={**self.env, **env}, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Starts a command at the root and leaves it running."""
        return subprocess.Popen(
            words, cwd=self.root, env=self.env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def repro(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``dvc repro`` that must succeed."""
        done = self.run("dvc", "repro", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def envelope(self, stage: str) -> Envelope:
        """The stage's link as signed."""
        file = self.root / "links" / f"{stage}.link"
        return parse_envelope(file.read_bytes(), where=file.name)

    def link(self, stage: str) -> Link:
        """The stage's link, its signature checked with this workspace's recorder key."""
        envelope = self.envelope(stage)
        verify_envelope(envelope, load_public(key_files("recorder", self.keys)[1]))
        return parse_link(envelope.payload, where=stage)

    def run_record(self, stage: str) -> dict[str, Any]:
        """``byproducts.forebear`` of the stage's link."""
        record: dict[str, Any] = self.link(stage).byproducts["forebear"]
        return record


def make_template(folder: Path) -> None:
    """An initialised repository in ``folder/repo``, keys, and a ``forebear`` command."""
    keys = folder / "config" / "forebear" / "keys"
    for role in ("recorder", "owner"):
        create_key(role, keys, None)  # type: ignore[arg-type]  # the two literals
    binaries = folder / "bin"
    binaries.mkdir()
    script = binaries / "forebear"
    call = "from forebear.cli.main import main; main()"
    script.write_text(
        f"#!/bin/sh\nPYTHONPATH='{REPOSITORY}' exec '{sys.executable}' -P -c '{call}' \"$@\"\n"
    )
    script.chmod(0o755)
    workspace = open_workspace(folder)
    workspace.root.mkdir()
    workspace.write("dvc.yaml", PIPELINE)
    workspace.write("params.yaml", PARAMS)
    workspace.write("make.py", MAKE)
    for words in (
        ("git", "init", "-q"),
        ("dvc", "init", "-q"),
        ("git", "add", "-A"),
        ("git", "commit", "-q", "-m", "start"),
    ):
        done = workspace.run(*words)
        assert done.returncode == 0, done.stderr


def copy_template(template: Path, folder: Path) -> Workspace:
    """A copy of the template that a test may change."""
    shutil.copytree(template, folder, symlinks=True)
    return open_workspace(folder)


def open_workspace(folder: Path) -> Workspace:
    """The workspace in ``folder``; its environment holds nothing of the caller's but the shell."""
    path = [folder / "bin", Path(sys.executable).parent, Path("/usr/bin"), Path("/bin")]
    env = {
        "PATH": os.pathsep.join(map(str, path)),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.org",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": tempfile.gettempdir(),
    }
    return Workspace(folder / "repo", folder / "config" / "forebear" / "keys", env)
