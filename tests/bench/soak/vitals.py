"""Memory, descriptors and threads of processes, and whether they are flat from one rest to another."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import psutil  # type: ignore[import-untyped]

from nwc.cln.rpc import MAX_IDLE

MB = 1e6
# Between two rests, under load. The ids of requests are remembered, up to 100,000 of them, at some
# 300 bytes each. The rest is what the allocator makes of it.
MAX_GROWTH_BYTES = 4_000_000
MAX_GROWTH_BYTES_PER_REQUEST = 500
MAX_MORE_FDS = 2
MAX_MORE_THREADS = 2
# What grows to its size when much is asked for at once is no leak: connections to lightningd that are
# kept, beside the 9 descriptors of a plugin with two relays; asyncio's own threads, beside four.
FULL_FDS = 9 + MAX_IDLE
FULL_THREADS = 4 + min(32, (os.cpu_count() or 1) + 4)


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process holds at a moment, and the CPU time it has used."""

    at: float
    pid: int
    rss: int
    fds: int
    threads: int
    cpu_s: float

    @classmethod
    def of(cls, pid: int | None) -> Self | None:
        """Look at a process; None when there is none."""
        if pid is None:
            return None
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                return cls(
                    time.time(),
                    pid,
                    process.memory_info().rss,
                    process.num_fds(),
                    process.num_threads(),
                    sum(process.cpu_times()[:2]),
                )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None

    def __str__(self) -> str:
        return f"{self.rss / MB:.1f} MB, {self.fds} fds, {self.threads} threads"


def is_not_flat(begin: Vitals, end: Vitals, requests: int) -> Iterator[str]:
    """Say what of the plugin grew, from one moment of rest to another, with so many requests between."""
    if begin.pid != end.pid:
        yield f"the plugin's process was another at the end: {begin.pid}, {end.pid}"
    allowed = MAX_GROWTH_BYTES + MAX_GROWTH_BYTES_PER_REQUEST * requests
    if end.rss - begin.rss > allowed:
        grown, most = (end.rss - begin.rss) / MB, allowed / MB
        yield f"memory grew by {grown:.1f} MB in {requests} requests; at most {most:.1f}"
    if end.fds > max(begin.fds + MAX_MORE_FDS, FULL_FDS):
        yield f"descriptors: {begin.fds} became {end.fds}"
    if end.threads > max(begin.threads + MAX_MORE_THREADS, FULL_THREADS):
        yield f"threads: {begin.threads} became {end.threads}"
