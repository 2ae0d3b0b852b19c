"""Hypothesis without its deadline: a busy machine is no failure."""

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
    """A double without plugins, in this process. Its parameter, if any, is for its Settings."""
    monkeypatch.chdir(tmp_path)  # and back: the double goes to its directory
    double = Double(Settings(tmp_path, **getattr(request, "param", {})))
    yield double
    double.close()


@pytest.fixture
def world(lightningd: Double) -> World:
    return World(lightningd)
