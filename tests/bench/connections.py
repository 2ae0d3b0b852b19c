"""The cost of many connections on one relay: start, memory, subscriptions, latency, and one more.

    python -m tests.bench.connections [--counts N ...] [--requests N]

It writes the records as the plugin does, then restarts the plugin and measures that. It prints figures
without a verdict.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from nwc.wallet.connections.manager import MAX_CONNECTIONS
from tests.bench.make_invoice import RATE_LIMIT, Bench, Timing, time_bare, time_nwc
from tests.bench.scale import Asker, Traffic, ask_relay, make_connections, p50, when, worst_meanwhile
from tests.support.client import NwcClient
from tests.support.node import PLUGIN, missing_programs, node_with_plugin
from tests.support.processes import nothing_left_running
from tests.support.relay import RelayKind, running_relay

COUNTS = (1, 100, 1_000, 5_000)
APPS = 20
KIND_INFO = "13194"

Rows = dict[str, str]


async def measure(bench: Bench, uris: list[str]) -> Rows:
    """Measure with these connections, and return the figures by title."""
    rows: Rows = {"connections": f"{len(uris):,}"}
    rows |= await starting(bench, uris)
    rows |= subscriptions(bench)
    rows |= await latency(bench, uris)
    if len(uris) < MAX_CONNECTIONS:
        rows |= await one_more(bench)
    rows |= await commands(bench, uris[-1])
    rows |= await relay_comes_back(bench, uris)
    rows |= memory(bench, "memory at the end, MB")
    return rows


async def starting(bench: Bench, uris: list[str]) -> Rows:
    """Restart the plugin while an app of its last connection sends requests all the time."""
    rpc = bench.node.rpc
    await asyncio.to_thread(rpc.plugin_stop, PLUGIN.name)
    await when(lambda: Traffic.of(bench.relay.url).subscriptions == 0)
    before = Traffic.of(bench.relay.url)
    async with Asker(uris[-1]) as asker:
        begin = time.perf_counter()
        await asyncio.to_thread(rpc.plugin_start, str(PLUGIN))
        ready = asyncio.create_task(_ended(lambda: rpc.call("nwc-status")))
        settled = await _settled(bench, uris, before, asker, begin)
        return {
            "start until nwc-status answers, s": f"{await ready - begin:.2f}",
            **settled,
            **memory(bench, "memory, MB"),
        }


async def relay_comes_back(bench: Bench, uris: list[str]) -> Rows:
    """Cut the plugin's connection to the relay, and measure how it recovers."""
    before = Traffic.of(bench.relay.url)
    cpu = bench.cpu_seconds()["plugin"]
    ask_relay(bench.relay.url, "/cut")
    begin = time.perf_counter()
    async with Asker(uris[-1]) as asker:
        settled = await _settled(bench, uris, before, asker, begin, cpu)
    return {f"relay back: {title}": value for title, value in settled.items()}


async def _settled(
    bench: Bench, uris: list[str], before: Traffic, asker: Asker, begin: float, cpu: float = 0
) -> Rows:
    """Wait until all connections are subscribed, their info events published and a request answered."""
    events = before.kinds.get(KIND_INFO, 0) + len(uris)
    subscribed, first, published = await asyncio.gather(
        # One more than the plugin's: the app has a subscription too.
        when(lambda: Traffic.of(bench.relay.url).recipients > len(uris)),
        asker.first_answer_at,
        when(lambda: Traffic.of(bench.relay.url).kinds.get(KIND_INFO, 0) >= events),
    )
    return {
        "all subscribed, s": f"{subscribed - begin:.2f}",
        "first answer, s": f"{first - begin:.2f}",
        "all info events published, s": f"{published - begin:.2f}",
        "CPU of the plugin until then, s": f"{bench.cpu_seconds()['plugin'] - cpu:.2f}",
        "answers until then, p50 ms": f"{p50(asker.latencies_ms):.1f}",
        "answers until then, slowest ms": f"{max(asker.latencies_ms):.1f}",
    }


async def _ended(call: Callable[[], Any]) -> float:
    await asyncio.to_thread(call)
    return time.perf_counter()


def subscriptions(bench: Bench) -> Rows:
    """Return the number of subscriptions on the relay and the size of the longest."""
    traffic = Traffic.of(bench.relay.url)
    return {
        "subscriptions": f"{traffic.subscriptions}",
        "longest REQ, bytes": f"{traffic.longest['REQ']:,}",
    }


async def latency(bench: Bench, uris: list[str]) -> Rows:
    """Measure make_invoice over some of the connections, one after the other, beside the bare RPC."""
    chosen = uris[:: max(1, len(uris) // APPS)][:APPS]
    each = max(2, bench.requests // len(chosen))
    bare, nwc = [], []
    for uri in chosen:
        async with NwcClient(uri) as client:
            await client.request("get_info", {})
            nwc.append(await time_nwc(bench, client, 1, each))
        bare.append(await asyncio.to_thread(time_bare, bench, 1, each))
    over, alone = Timing.together(nwc), Timing.together(bare)
    return {
        "make_invoice p50, ms": f"{over.percentile(50):.2f}",
        "make_invoice p99, ms": f"{over.percentile(99):.2f}",
        "bare invoice p50, ms": f"{alone.percentile(50):.2f}",
        "CPU of the plugin per request, ms": f"{over.cpu_ms['plugin']:.2f}",
    }


async def one_more(bench: Bench) -> Rows:
    """Create one more connection, and measure the time and the frames that the plugin sends for it."""
    before = Traffic.of(bench.relay.url)
    begin = time.perf_counter()
    await asyncio.to_thread(bench.node.rpc.call, "nwc-connect", {"name": "one more"})
    seconds = time.perf_counter() - begin
    sent = Traffic.of(bench.relay.url).since(before)
    await asyncio.to_thread(bench.node.rpc.call, "nwc-revoke", {"name": "one more"})
    return {
        "nwc-connect of one more, ms": f"{seconds * 1000:.0f}",
        "frames it sends (characters)": ", ".join(
            f"{n} {name} ({size:,})" for name, (n, size) in sent.items()
        ),
    }


async def commands(bench: Bench, uri: str) -> Rows:
    """Measure nwc-list and nwc-status, and the answers to lightningd and to an app meanwhile."""
    rows: Rows = {}
    async with NwcClient(uri) as client:
        for command in ("nwc-list", "nwc-status"):
            call = partial(_show, bench, command)
            node_ms, (seconds, size) = await worst_meanwhile(
                lambda: asyncio.to_thread(bench.node.rpc.getinfo), call
            )
            app_ms, _ = await worst_meanwhile(lambda: client.request("get_info", {}), call)
            rows |= {
                f"{command}, s": f"{seconds:.2f}",
                f"{command}, MB": f"{size / 1e6:.2f}",
                f"{command}: getinfo meanwhile, slowest ms": f"{node_ms:.0f}",
                f"{command}: an app meanwhile, slowest ms": f"{app_ms:.0f}",
            }
    return rows


def _show(bench: Bench, command: str) -> tuple[float, int]:
    begin = time.perf_counter()
    shown = bench.node.rpc.call(command)
    return time.perf_counter() - begin, len(json.dumps(shown))


def memory(bench: Bench, title: str) -> Rows:
    """Return the memory of the plugin's process and its maximum so far."""
    pid = bench.node.plugin_pid
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    rss = psutil.Process(pid).memory_info().rss
    return {title: f"{rss / 1e6:.0f}", f"{title}, at most": f"{peak * 1024 / 1e6:.0f}"}


def print_table(columns: list[Rows]) -> None:
    """Print one column per number of connections."""
    for title in columns[0]:
        values = "".join(f"{column.get(title, '-'):>28}" for column in columns)
        print(f"{title:52}{values}")


async def run(bench: Bench, counts: list[int]) -> None:
    """Measure with each number of connections, adding those that are missing."""
    uris: list[str] = []
    columns = []
    for count in sorted(counts):
        begin = time.perf_counter()
        names = [f"app {number}" for number in range(len(uris), count)]
        uris += await make_connections(str(bench.node.socket), names, (bench.relay.url,))
        print(f"{len(names):,} records written in {time.perf_counter() - begin:.1f} s", flush=True)
        columns.append(await measure(bench, uris))
        print_table(columns[-1:])
        print(flush=True)
    print_table(columns)


def main() -> None:
    """Run the benchmark, on lightningd if it is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of connections"
    )
    parser.add_argument("--requests", type=int, default=400, help="number of make_invoice requests")
    chosen = parser.parse_args()
    missing = missing_programs()
    print(f"node: {'the TEST DOUBLE' if missing else 'lightningd and bitcoind, regtest'}; relay: fast")
    print(f"{os.cpu_count()} CPUs, load average before: {os.getloadavg()[0]:.1f}\n")
    with (
        nothing_left_running(),
        tempfile.TemporaryDirectory(prefix="nwc-bench-") as directory,
        running_relay(RelayKind.FAST) as relay,
        node_with_plugin(
            Path(directory), {"nwc-relay": relay.url, "nwc-rate-limit": str(RATE_LIMIT)}
        ) as node,
    ):
        asyncio.run(run(Bench(node, relay, chosen.requests), chosen.counts))


if __name__ == "__main__":
    main()
