"""A short soak on the double, as a person without lightningd runs it."""

import sys
from pathlib import Path

import pytest

from tests.cases.soak import TIMEOUT_S, short_soak


@pytest.mark.timeout(TIMEOUT_S + 20)
def test_soak(tmp_path: Path) -> None:
    assert "TEST DOUBLE" in short_soak(tmp_path, str(Path(sys.executable).parent))
