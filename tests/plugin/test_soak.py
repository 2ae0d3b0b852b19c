"""A short soak on the double, as on a machine without lightningd."""

import sys
from pathlib import Path

import pytest

from tests.cases.soak import TIMEOUT_S, short_soak


@pytest.mark.timeout(TIMEOUT_S + 20)
def test_a_short_soak_on_the_double_passes(tmp_path: Path) -> None:
    assert "TEST DOUBLE" in short_soak(tmp_path, str(Path(sys.executable).parent))
