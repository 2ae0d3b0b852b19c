"""A short soak on lightningd and bitcoind."""

import os
from pathlib import Path

import pytest

from tests.cases.soak import TIMEOUT_S, short_soak


@pytest.mark.timeout(TIMEOUT_S + 20)
def test_a_short_soak_on_lightningd_passes(tmp_path: Path) -> None:
    assert "real lightningd" in short_soak(tmp_path, os.environ["PATH"])
