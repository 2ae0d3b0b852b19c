"""Every runtime package has a wheel for each Python and processor that nwc/INSTALL.md names.

`make wheels` asks PyPI. The answer changes when a package is published, not when our code does, so
`make test` leaves it out. uv resolves for another Python and processor than its own. pip would apply the
markers (`python_version < "3.13"`) of the Python that runs it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROCESSORS = ("aarch64", "x86_64")
# Older than any system that comes with one of these Pythons: Debian 12 has 2.36.
GLIBC = "2_28"


def resolve(requirements: Path, python: str, processor: str) -> "subprocess.CompletedProcess[str]":
    """Find a version of each package, and of each that these need, that has a wheel."""
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
    signs = "coincurve==" if python in ("3.11", "3.12") else "coincurve-cp314-fix=="
    [owner] = [line for line in done.stdout.splitlines() if line.startswith("coincurve")]
    assert owner.startswith(signs)


def test_a_package_without_a_wheel_is_found(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("coincurve==20.0.0\n")
    assert resolve(requirements, "3.12", "aarch64").returncode == 0
    done = resolve(requirements, "3.13", "aarch64")
    assert done.returncode != 0
    assert "no usable wheels" in done.stderr
