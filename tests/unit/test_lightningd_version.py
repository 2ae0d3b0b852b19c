"""Which version of lightningd the integration tests run on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import lightningd_version
from tests.support.lightningd_version import before, running_version, since


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    running_version.cache_clear()
    yield
    running_version.cache_clear()


@pytest.fixture
def lightningd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Make this the only lightningd on PATH."""
    program = tmp_path / "lightningd"
    program.write_text(f"#!/bin/sh\necho '{request.param}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.usefixtures("lightningd")
@pytest.mark.parametrize(
    ("lightningd", "version", "is_since"),
    [
        ("v25.02.2-modded", "v25.02.2-modded", False),
        ("Core Lightning v26.04.10", "v26.04.10", False),
        ("v26.06", "v26.06", True),
        ("v27.03rc1", "v27.03rc1", True),
    ],
    indirect=["lightningd"],
)
def test_since_and_before_select_by_the_version(version: str, is_since: bool) -> None:
    assert running_version() == version
    assert since("26.06", 1, 2) == ((1, 2) if is_since else ())
    assert before("26.06", 1, 2) == (() if is_since else (1, 2))


def test_without_lightningd_the_newest_version_is_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert running_version() is None
    assert lightningd_version.runs_since("99.12")
