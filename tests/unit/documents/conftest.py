"""One finished pipeline per test, with nothing of the user's configuration in reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.documents.fixture import Project, make_project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A finished, signed pipeline without declarations."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "repository"
    root.mkdir()
    return make_project(root, tmp_path / "keys")
