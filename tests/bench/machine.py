"""What every benchmark says of the machine and the node it runs on."""

import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.support.node import missing_programs


def describe_node() -> str:
    """Name the node under test; say so when it is none."""
    if missing := missing_programs():
        return f"the TEST DOUBLE ({', '.join(missing)} not on PATH)"
    done = subprocess.run(["lightningd", "--version"], check=True, capture_output=True, text=True)
    return f"lightningd {done.stdout.strip()} and bitcoind, regtest"


def describe_machine() -> str:
    """Say what the processes of a benchmark share, and with how much else."""
    return f"{os.cpu_count()} CPUs, load average before: {os.getloadavg()[0]:.1f}"


def cpu_seconds(processes: Iterable[Any]) -> float:
    """Return the CPU time of processes of psutil since their starts, without those that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total
