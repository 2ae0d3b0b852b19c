"""The version of lightningd that the integration tests run on, and expectations that depend on it."""

import shutil
import subprocess
from functools import cache
from typing import TypeVar

from nwc.cln.versions import parse_version

_T = TypeVar("_T")


@cache
def running_version() -> str | None:
    """Return the version that the lightningd on PATH reports; None if there is no lightningd."""
    program = shutil.which("lightningd")
    if program is None:
        return None
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.split()[-1]


def runs_since(version: str) -> bool:
    """Return True if the lightningd on PATH has this version or a later one, or if there is none."""
    running = running_version()
    return running is None or parse_version(running) >= parse_version(version)


def since(version: str, *lines: _T) -> tuple[_T, ...]:
    """Return the lines if this version or a later one runs, otherwise nothing."""
    return lines if runs_since(version) else ()


def before(version: str, *lines: _T) -> tuple[_T, ...]:
    """Return the lines if an older version runs, otherwise nothing."""
    return () if runs_since(version) else lines
