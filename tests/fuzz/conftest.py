"""One signed release with every kind of file, built once."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import waived_release
from tests.support.release import Simulated


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return waived_release(tmp_path_factory.mktemp("built"))
