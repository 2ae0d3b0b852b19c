"""Fixtures of the unit tests. Hypothesis has no deadline, since the machine may be busy."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.double.node import Node as Double
from tests.double.settings import Settings
from tests.unit.in_process import World

settings.register_profile("unit", deadline=None)
settings.register_profile("long", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))


@pytest.fixture
def lightningd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Double]:
    """Yield a double without plugins, in this process. A parameter has keyword arguments of Settings."""
    monkeypatch.chdir(tmp_path)  # restored after the test; the double changes its directory
    double = Double(Settings(tmp_path, **getattr(request, "param", {})))
    yield double
    double.close()


@pytest.fixture
def world(lightningd: Double) -> World:
    return World(lightningd)
