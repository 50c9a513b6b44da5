"""One small signed release, built once; each row of the matrix changes a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.release import Simulated, build_release
from tests.tamper.case import Case


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return build_release(tmp_path_factory.mktemp("built"))


@pytest.fixture
def case(built: Simulated, tmp_path: Path) -> Case:
    folder = tmp_path / "packed"
    shutil.copytree(built.packed, folder)
    return Case(folder, built)
