"""A DVC repository that was written without Forebear in mind: two stages, params, a tracked input.

Its scripts know nothing of the recorder. The real ``dvc`` and the real recorder run in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.workspace import Workspace, make_template, open_workspace

PREPARE = """\
import pathlib, yaml
share = yaml.safe_load(pathlib.Path("params.yaml").read_text())["prepare"]["share"]
rows = pathlib.Path("data/raw.csv").read_text().splitlines()
pathlib.Path("features").mkdir(exist_ok=True)
pathlib.Path("features/rows.csv").write_text("\\n".join(rows[: int(len(rows) * share)]) + "\\n")
"""
TRAIN = """\
import json, pathlib, sys, yaml
rate = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]["rate"]
rows = pathlib.Path("features/rows.csv").read_text().splitlines()
total = sum(int(row.split(",")[1]) for row in rows)
out = pathlib.Path(sys.argv[1])
out.mkdir(exist_ok=True)
(out / "weights.json").write_text(json.dumps({"w": total * rate}))
(out / "README.txt").write_text("a model\\n")
pathlib.Path("scores.json").write_text(json.dumps({"rows": len(rows)}))
"""
PARAMS = "prepare:\n  share: 0.5\ntrain:\n  rate: 0.25\n"
RAW = "".join(f"r{number},{number}\n" for number in range(40))
PIPELINE = """\
# A small pipeline of our own.
stages:
  prepare:
    cmd: python prepare.py    # halves the rows
    deps:
    - prepare.py
    - data/raw.csv
    params:
    - prepare
    outs:
    - features
  train:
    cmd: >-
      python train.py model
      && test -s model/weights.json
    deps: [features, train.py]
    params: [train]
    outs:
      - model
    metrics:
    - scores.json:
        cache: false   # small, in git
"""


def make_foreign(folder: Path) -> Workspace:
    """The repository, committed, in a folder that is made by :func:`make_template`."""
    folder.mkdir(parents=True, exist_ok=True)
    make_template(folder)
    workspace = open_workspace(folder)
    (workspace.root / "make.py").unlink()
    for path, text in (
        ("dvc.yaml", PIPELINE), ("params.yaml", PARAMS), ("prepare.py", PREPARE),
        ("train.py", TRAIN), ("data/raw.csv", RAW),
    ):  # fmt: skip
        workspace.write(path, text)
    require(workspace, "dvc", "add", "-q", "data/raw.csv")
    commit(workspace, "a repository of somebody else")
    return workspace


def require(workspace: Workspace, *words: str, **env: str) -> str:
    """Runs a command that must succeed; gives both its outputs."""
    done = workspace.run(*words, **env)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def commit(workspace: Workspace, message: str) -> None:
    """Commits everything that git does not ignore."""
    require(workspace, "git", "add", "-A")
    require(workspace, "git", "commit", "-q", "-m", message)


def results(workspace: Workspace, place: str = ".") -> dict[str, dict[str, Any]]:
    """Verdict of every check by its id, with the owner's key of the repository trusted."""
    key = str(workspace.keys / "owner.pub")
    done = workspace.run("forebear", "verify", place, "--trust", key, "--json")
    return {entry["id"]: entry for entry in json.loads(done.stdout)["checks"]}


def failing(found: dict[str, dict[str, Any]]) -> set[str]:
    """Ids of the checks that failed."""
    return {name for name, entry in found.items() if entry["status"] == "failed"}
