"""One small signed release."""

from __future__ import annotations

import pytest

from tests.support.release import Simulated, build_release


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return build_release(tmp_path_factory.mktemp("built"))
