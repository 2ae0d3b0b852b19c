"""The effect of a flood of junk on an honest client, on the plugin's CPU time and on its memory.

    python -m tests.bench.junk [--seconds N] [--per-minute N]

A hostile relay sends each sort of junk by itself, then all at once. Meanwhile two honest clients request
an invoice every second, one over the same relay and one over another. It prints figures without a
verdict.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.bench.hostile_relay import running_hostile_relay, send_junk
from tests.bench.junk_frames import Sort, Target, prepare
from tests.bench.machine import cpu_seconds, describe_machine, describe_node
from tests.support.client import Json, NwcClient
from tests.support.node import Node, node_with_plugin
from tests.support.processes import nothing_left_running
from tests.support.relay import RelayKind, running_relay

PARAMS: Json = {"amount": 21_000, "description": "A coffee and a croissant"}
ANSWER_TIMEOUT_S = 60
SETTLE_S = 20
# Junk is dated ahead, so that it is not too old (nwc-max-request-age) if its preparation takes long.
AHEAD_S = 60
# In the row "far too fast", one connection sends this many times as much as in the other rows. That is
# well beyond ten times the rate limit, up to which the plugin answers with an error.
FAR_TIMES = 10
# The connection that the junk names: forgeries and strangers' events name the honest client's.
AGAINST = {
    Sort.BAD_JSON: "honest here",
    Sort.BAD_SIGNATURE: "honest here",
    Sort.UNKNOWN_AUTHOR: "honest here",
    Sort.UNDECRYPTABLE: "babbler",
    Sort.TOO_FAST: "hurried",
}


@dataclass(slots=True)
class Honest:
    """The outcomes of an honest client's requests.

    Attributes:
        asked: the number of requests.
        latencies_ms: the latencies of those that got an invoice.

    """

    asked: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        return statistics.quantiles(self.latencies_ms, n=100, method="inclusive")[percent - 1]

    def __str__(self) -> str:
        counts = f"{len(self.latencies_ms):>5}/{self.asked:<5}"
        if len(self.latencies_ms) < 2:
            return f"{counts}{'-':>7}{'-':>7}{'-':>7}"
        slowest = max(self.latencies_ms)
        return f"{counts}{self.percentile(50):7.1f}{self.percentile(99):7.1f}{slowest:7.1f}"


@dataclass(frozen=True, slots=True)
class Moment:
    """The plugin's counters and its use of CPU and memory at one moment."""

    junk: Counter[Sort]
    answered_too_fast: int
    cpu_s: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything under test."""

    node: Node
    hostile_url: str
    clients: list[NwcClient]
    targets: dict[Sort, Target]
    frames: Path
    seconds: int
    per_minute: int

    def look(self) -> Moment:
        """Return the plugin's counters and use of resources now."""
        process = psutil.Process(self.node.plugin_pid)
        status = self.node.rpc.call("nwc-status")
        [relay] = [relay for relay in status["relays"] if relay["url"] == self.hostile_url]
        use = {shown["name"]: shown for shown in status["connections"]}
        return Moment(
            junk=_counted(relay, use),
            answered_too_fast=sum(_outcomes(shown)["RATE_LIMITED"] for shown in use.values()),
            cpu_s=cpu_seconds([process]),
            rss_mb=process.memory_info().rss / 1e6,
        )

    async def settled(self, expected: int) -> Moment:
        """Wait until the plugin has counted as much junk, SETTLE_S seconds at most, and look at it."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            moment = await asyncio.to_thread(self.look)
            if moment.junk.total() >= expected or time.monotonic() > deadline:
                return moment
            await asyncio.sleep(0.2)


def _counted(relay: Json, use: dict[str, Json]) -> Counter[Sort]:
    """Return how much junk the plugin has counted, by sort."""
    rejected = Counter[str](relay["events_rejected"])
    return Counter(
        {
            Sort.BAD_JSON: relay["invalid_frames"],
            Sort.BAD_SIGNATURE: rejected["bad id or signature"],
            Sort.UNKNOWN_AUTHOR: rejected["unknown author"],
            Sort.UNDECRYPTABLE: _handled(use["babbler"]),
            Sort.TOO_FAST: _handled(use["hurried"]),
        }
    )


def _handled(shown: Json) -> int:
    """Return how many requests of a connection were answered, or ignored by the rate limit."""
    outcomes = _outcomes(shown)
    # RATE_LIMITED answers are counted both as answered and as rate-limited.
    return outcomes.total() - outcomes["RATE_LIMITED"] + int(shown["rate_limited"])


def _outcomes(shown: Json) -> Counter[str]:
    counts = Counter[str]()
    for outcomes in shown["requests_answered"].values():
        counts.update(outcomes)
    return counts


# One row


async def ask(client: NwcClient, seconds: int) -> Honest:
    """Request an invoice every second, also while earlier requests are pending."""
    honest = Honest()

    async def ask_once() -> None:
        request = client.prepare("make_invoice", PARAMS)
        begin = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await client.ask(request)
        except TimeoutError:
            return
        latency_ms = (time.perf_counter() - begin) * 1000
        assert client.open(answer)["invoice"]
        honest.latencies_ms.append(latency_ms)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(seconds):
            honest.asked += 1
            tasks.create_task(ask_once())
            await asyncio.sleep(1)
    return honest


async def row(bench: Bench, title: str, sorts: list[Sort], times: int = 1) -> None:
    """Send junk of these sorts at the same time, `times` as fast, and print a row of its effects."""
    per_minute = bench.per_minute * times
    count, per_second = per_minute * bench.seconds // 60, per_minute / 60
    targets = {sort: bench.targets[sort] for sort in sorts}
    lines = await asyncio.to_thread(prepare, targets, count, time.time() + AHEAD_S, per_second)
    bench.frames.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    del lines
    before = await asyncio.to_thread(bench.look)
    begin = time.perf_counter()
    sending = asyncio.create_task(
        send_junk(bench.hostile_url, bench.frames, per_second * len(sorts)) if sorts else _nothing()
    )
    honest = await asyncio.gather(*(ask(client, bench.seconds) for client in bench.clients))
    sent, seconds = await sending
    after = await bench.settled(before.junk.total() + sent)
    _print_row(title, honest, sent, seconds, before, after, time.perf_counter() - begin)
    for sort in sorts:
        _print_counts(sort, count, after.junk[sort] - before.junk[sort])


async def _nothing() -> tuple[int, float]:
    return 0, 1.0


HEADING = (
    f"{'':16}{'junk per minute':>17}  {'asked over the same relay':^33}{'over another relay':^33}"
    f"{'plugin':>8}{'RSS, MB':>24}{'RATE_LIMITED':>14}\n"
    f"{'':16}{'sent':>8}{'seen':>9}  {'answered':^12}{'p50':>7}{'p99':>7}{'max':>7}"
    f"{'answered':^12}{'p50':>7}{'p99':>7}{'max':>7}"
    f"{'CPU %':>8}{'before':>8}{'after':>8}{'grown':>8}{'per s':>14}"
)


def _print_row(
    title: str,
    honest: list[Honest],
    sent: int,
    seconds: float,
    before: Moment,
    after: Moment,
    elapsed: float,
) -> None:
    per_minute = 60 / seconds
    seen = after.junk.total() - before.junk.total()
    too_fast = (after.answered_too_fast - before.answered_too_fast) / elapsed
    cpu = (after.cpu_s - before.cpu_s) / elapsed * 100
    here, there = honest
    print(
        f"{title:16}{sent * per_minute:8.0f}{seen * per_minute:9.0f}  {here}{there}{cpu:8.1f}"
        f"{before.rss_mb:8.1f}{after.rss_mb:8.1f}{after.rss_mb - before.rss_mb:8.1f}{too_fast:14.2f}",
        flush=True,
    )


def _print_counts(sort: Sort, sent: int, counted: int) -> None:
    """Print a warning if not all junk has arrived, because the row then proves nothing."""
    if counted != sent:
        print(f"  {sort}: {sent} sent, but nwc-status has counted {counted}", flush=True)


# All together


async def measure(bench: Bench) -> None:
    """Measure and print all rows."""
    await asyncio.gather(*(ask(client, 3) for client in bench.clients))
    first = await asyncio.to_thread(bench.look)
    print(HEADING)
    await row(bench, "none", [])
    for sort in Sort:
        await row(bench, sort, [sort])
    await row(bench, "far too fast", [Sort.TOO_FAST], FAR_TIMES)
    await row(bench, "all at once", list(Sort))
    last = await asyncio.to_thread(bench.look)
    print(f"\nRSS {first.rss_mb:.1f} MB before, {last.rss_mb:.1f} MB after all rows")


async def run(node: Node, honest_url: str, hostile_url: str, frames: Path, chosen: Any) -> None:
    """Create the connections, then measure."""
    names = ["honest here", "babbler", "hurried"]
    uris = {name: _connect(node, name, hostile_url) for name in names}
    there = _connect(node, "honest there", honest_url)
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(NwcClient(uri)) for uri in (uris["honest here"], there)
        ]
        targets = {sort: Target.of(uris[name]) for sort, name in AGAINST.items()}
        await measure(
            Bench(node, hostile_url, clients, targets, frames, chosen.seconds, chosen.per_minute)
        )


def _connect(node: Node, name: str, relay: str) -> str:
    return str(node.rpc.call("nwc-connect", {"name": name, "relays": [relay]})["uri"])


def print_setting(seconds: int, per_minute: int) -> None:
    """Print what is measured, and what influences the figures."""
    print(f"node: {describe_node()}; {seconds} seconds per row, {per_minute} of each sort per minute")
    print(describe_machine())
    print(
        "Client, relays, plugin and node share this machine and its CPUs. Latencies are in ms.\n"
        "Forgeries and strangers' events name the honest client of the same relay. Two other clients\n"
        "sign the requests that are too fast or undecryptable. nwc-rate-limit has its default, 20. Up\n"
        "to ten times as many requests per second are answered with RATE_LIMITED, the rest is ignored.\n"
        f'The row "far too fast" has {FAR_TIMES} times as much junk.\n'
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="per row (default 60)")
    parser.add_argument("--per-minute", type=int, default=20_000, help="of each sort (default 20000)")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    chosen = arguments()
    print_setting(chosen.seconds, chosen.per_minute)
    with (
        nothing_left_running(),
        tempfile.TemporaryDirectory(prefix="nwc-bench-") as directory,
        running_relay(RelayKind.FAST) as honest,
        running_hostile_relay() as hostile,
        node_with_plugin(Path(directory) / "node", {"nwc-relay": honest.url}) as node,
    ):
        asyncio.run(run(node, honest.url, hostile.url, Path(directory) / "frames", chosen))


if __name__ == "__main__":
    main()
