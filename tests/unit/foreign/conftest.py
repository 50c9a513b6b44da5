"""The throwaway repository, built once and copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workspace import Workspace, copy_template, make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    make_template(folder)
    return folder


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    return copy_template(template, tmp_path / "w")
