"""Memory, descriptors and threads of processes, and the check that they do not grow."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import psutil  # type: ignore[import-untyped]

from nwc.cln.rpc import MAX_IDLE

MB = 1e6
# Limits between two rests, under load. The plugin remembers the ids of up to 100,000 requests, at some
# 300 bytes each. The allocator adds to that.
MAX_GROWTH_BYTES = 4_000_000
MAX_GROWTH_BYTES_PER_REQUEST = 500
MAX_MORE_FDS = 2
MAX_MORE_THREADS = 2
# Growth up to these sizes is not a leak, because a burst of requests causes it. Descriptors: the idle
# connections to lightningd and 9 of a plugin with two relays. Threads: asyncio's own and four others.
FULL_FDS = 9 + MAX_IDLE
FULL_THREADS = 4 + min(32, (os.cpu_count() or 1) + 4)


@dataclass(frozen=True, slots=True)
class Vitals:
    """The memory, descriptors, threads and CPU time of a process at one moment."""

    at: float
    pid: int
    rss: int
    fds: int
    threads: int
    cpu_s: float

    @classmethod
    def of(cls, pid: int | None) -> Self | None:
        """Return the vitals of a process; None if it does not run."""
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
    """Yield what grew too much in the plugin between two rests, with so many requests between them."""
    if begin.pid != end.pid:
        yield f"the plugin was another process at the end: {end.pid}, not {begin.pid}"
    allowed = MAX_GROWTH_BYTES + MAX_GROWTH_BYTES_PER_REQUEST * requests
    if end.rss - begin.rss > allowed:
        grown, limit = (end.rss - begin.rss) / MB, allowed / MB
        yield f"memory grew by {grown:.1f} MB in {requests} requests; at most {limit:.1f} are allowed"
    if end.fds > max(begin.fds + MAX_MORE_FDS, FULL_FDS):
        yield f"descriptors grew from {begin.fds} to {end.fds}"
    if end.threads > max(begin.threads + MAX_MORE_THREADS, FULL_THREADS):
        yield f"threads grew from {begin.threads} to {end.threads}"
