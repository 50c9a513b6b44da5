"""Small signed releases, built once; each row of the matrix changes a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.full_release import FullCase, build_full_release
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


@pytest.fixture(scope="session")
def full_built(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """The release with ledger, gate and documents: ``tests.support.full_release``."""
    return build_full_release(tmp_path_factory.mktemp("full"))


@pytest.fixture
def full_case(full_built: Simulated, tmp_path: Path) -> FullCase:
    folder = tmp_path / "full"
    shutil.copytree(full_built.packed, folder)
    return FullCase(folder, full_built)
