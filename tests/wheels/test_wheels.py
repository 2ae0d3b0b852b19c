"""Every runtime package has a wheel for each Python and processor that nwc/INSTALL.md names.

Only `make wheels` runs this, not `make test`: it asks PyPI, whose answer changes with a new package, not
with our code. It uses uv because pip would apply the markers (`python_version < "3.13"`) of the Python
that runs it; uv resolves for any Python and processor.
"""

import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROCESSORS = ("aarch64", "x86_64")
# Older than the glibc of any system that ships one of these Pythons: Debian 12 has 2.36.
GLIBC = "2_28"


def resolve(requirements: Path, python: str, processor: str) -> "subprocess.CompletedProcess[str]":
    """Run uv to find a version with a wheel for each package and for its dependencies."""
    target = [f"--python-version={python}", f"--python-platform={processor}-manylinux_{GLIBC}"]
    options = ["--no-config", "--no-python-downloads", "--only-binary=:all:", *target]
    return subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", *options, str(requirements)],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_a_wheel(python: str, processor: str) -> None:
    done = resolve(REQUIREMENTS, python, processor)
    assert done.returncode == 0, done.stderr
    expected = "coincurve==" if python in ("3.11", "3.12") else "coincurve-cp314-fix=="
    [resolved] = [line for line in done.stdout.splitlines() if line.startswith("coincurve")]
    assert resolved.startswith(expected)


def test_a_package_without_a_wheel_is_reported(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("coincurve==20.0.0\n")
    assert resolve(requirements, "3.12", "aarch64").returncode == 0
    done = resolve(requirements, "3.13", "aarch64")
    assert done.returncode != 0
    assert "no usable wheels" in done.stderr
