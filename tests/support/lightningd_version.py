"""Which version of lightningd the integration tests run on, and what that means for them."""

import shutil
import subprocess
from functools import cache
from typing import TypeVar

from nwc.cln.versions import parse_version

_T = TypeVar("_T")


@cache
def running_version() -> str | None:
    """Return how the lightningd on PATH names its version; None if there is no lightningd."""
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
    """Return the lines, which hold from this version on; nothing if an older lightningd runs."""
    return lines if runs_since(version) else ()


def before(version: str, *lines: _T) -> tuple[_T, ...]:
    """Return the lines, which hold before this version; nothing if this or a later one runs."""
    return () if runs_since(version) else lines
