"""The packages of the bundle: each has an exact version, which the plugin accepts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / ".bundle" / "requirements.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def requirements(path: Path) -> Iterator[Requirement]:
    """Yield the requirements of a file, without hashes and comments."""
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if text := line.partition("#")[0].partition("--hash")[0].strip():
            yield Requirement(text)


def applies(requirement: Requirement, python: str) -> bool:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_every_package_is_pinned_with_hashes() -> None:
    assert all(re.fullmatch(r"==[^,*]+", str(locked.specifier)) for locked in requirements(LOCK))
    entries = re.split(r"\n(?=[a-z])", LOCK.read_text())[1:]
    assert len(entries) == len(list(requirements(LOCK)))
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_plugin_accepts_every_pinned_version(python: str) -> None:
    pinned = {locked.name: locked for locked in requirements(LOCK) if applies(locked, python)}
    for asked in requirements(ROOT / "nwc" / "requirements.txt"):
        if applies(asked, python):
            [specifier] = pinned[asked.name].specifier
            assert specifier.version in asked.specifier, asked.name
