"""Boltz's plugin `hold`, which is built outside the repository: NWC_HOLD_PLUGIN, or `hold` on PATH."""

import os
import shutil
from pathlib import Path

import pytest

_FOUND = os.environ.get("NWC_HOLD_PLUGIN") or shutil.which("hold")
HOLD = Path(_FOUND or "hold")

needs_hold = pytest.mark.skipif(
    _FOUND is None,
    reason="NOT RUN: hold invoices on lightningd: hold is not on PATH, and NWC_HOLD_PLUGIN is not set",
)
