"""What is built once for all end-to-end tests: the smoke pipeline, and an adopted repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clone import Clone, clone_smoke
from tests.support.foreign import commit, make_foreign, require
from tests.support.workspace import Workspace, copy_template


@pytest.fixture(scope="session")
def foreign_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository after init, repro and pack."""
    pytest.importorskip("model_signing")
    folder = tmp_path_factory.mktemp("foreign") / "w"
    workspace = make_foreign(folder)
    require(workspace, "forebear", "init", "--ship", "model", "--yes")
    commit(workspace, "recorded from now on")
    workspace.repro()
    commit(workspace, "a run")
    require(workspace, "forebear", "pack", "../packed")
    return folder


@pytest.fixture
def foreign(foreign_release: Path, tmp_path: Path) -> Workspace:
    return copy_template(foreign_release, tmp_path / "w")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The smoke pipeline, run; tests that change it put it back."""
    folder = tmp_path_factory.mktemp("smoke")
    made = clone_smoke(folder / "clone", config=folder / "config")
    made.run("forebear", "keys", "ensure")
    made.run("dvc", "repro")
    return made
