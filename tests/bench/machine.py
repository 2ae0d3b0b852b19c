"""Facts about the machine and the node, for the output of every benchmark."""

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.support.node import missing_programs


def describe_node() -> str:
    """Return the name and version of the node under test, or that it is the double."""
    if missing := missing_programs():
        return f"the TEST DOUBLE ({', '.join(missing)} not on PATH)"
    done = subprocess.run(["lightningd", "--version"], check=True, capture_output=True, text=True)
    return f"lightningd {done.stdout.strip()} and bitcoind, regtest"


def describe_machine() -> str:
    """Return the number of CPUs and the load before the benchmark."""
    return f"{os.cpu_count()} CPUs, load average before: {os.getloadavg()[0]:.1f}"


def cpu_seconds(processes: Iterable[Any]) -> float:
    """Return the CPU seconds of psutil processes since they started; ended processes do not count."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total
