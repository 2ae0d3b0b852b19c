"""The cost of many connections on one relay: start, memory, subscriptions, latency, and one more.

    python -m tests.bench.connections [--counts N ...] [--requests N]

It writes the records as the plugin does, then restarts the plugin and measures that. It prints figures
without a verdict.
"""

import argparse
import asyncio
import json
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nwc.cln.node import Node
from nwc.nip47.uri import connection_uri
from nwc.nostr.keys import KeyPair
from nwc.wallet.connections.record import Connection, ConnectionStore, wallet_keys
from nwc.wallet.spending.ledgers import Ledgers
from tests.bench.machine import describe_machine, describe_node
from tests.bench.make_invoice import RATE_LIMIT, Bench, Timing, time_bare, time_nwc
from tests.support.client import NwcClient
from tests.support.node import PLUGIN, node_with_plugin
from tests.support.processes import nothing_left_running
from tests.support.relay import RelayKind, running_relay

COUNTS = (1, 100, 1_000)
APPS = 20
CHECK_EVERY_S = 0.05
SETTLE_TIMEOUT_S = 300

Rows = dict[str, str]


async def make_connections(rpc_path: str, names: Sequence[str], relays: tuple[str, ...]) -> list[str]:
    """Write records of connections that have each received a payment, and return their URIs.

    The records are as the plugin's. It serves the connections after its next start.
    """
    node = Node(rpc_path)
    store, ledgers = ConnectionStore(node), Ledgers(node)

    async def make(name: str) -> str:
        client = KeyPair.generate()
        record = Connection(name, client.public_key, relays, int(time.time()))
        await store.create(record)
        await ledgers.change(client.public_key, lambda ledger: ledger.receive(21_000, 1))
        wallet = await wallet_keys(node, client.public_key)
        return connection_uri(wallet.public_key, relays, client.secret_hex(), None)

    try:
        return await asyncio.gather(*map(make, names))
    finally:
        node.close()


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of the fast relay so far.

    Attributes:
        subscriptions: those open now.
        recipients: how many different keys their `#p` name.
        frames: the number of frames from clients, by type of message.

    """

    subscriptions: int
    recipients: int
    frames: dict[str, int]

    @classmethod
    def of(cls, url: str) -> "Traffic":
        """Return the traffic of a relay."""
        with urllib.request.urlopen(f"http{url.removeprefix('ws')}/traffic") as answer:
            return cls(**json.loads(answer.read()))


async def when(condition: Callable[[], bool]) -> float:
    """Wait until a condition is true, and return the time, by time.perf_counter."""
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a relay sends no events
            await asyncio.sleep(CHECK_EVERY_S)
    return time.perf_counter()


async def measure(bench: Bench, uris: list[str]) -> Rows:
    """Measure with these connections, and return the figures by title."""
    return {
        "connections": f"{len(uris):,}",
        **await starting(bench, uris),
        **await latency(bench, uris),
        **await one_more(bench),
        "memory at most, MB": f"{most_memory(bench):.0f}",
    }


async def starting(bench: Bench, uris: list[str]) -> Rows:
    """Restart the plugin while an app of its last connection sends requests all the time."""
    rpc, url = bench.node.rpc, bench.relay.url
    await asyncio.to_thread(rpc.plugin_stop, PLUGIN.name)
    await when(lambda: Traffic.of(url).subscriptions == 0)
    async with NwcClient(uris[-1]) as client:
        begin = time.perf_counter()
        answered = asyncio.create_task(_first_answer(client))
        await asyncio.to_thread(rpc.plugin_start, str(PLUGIN))
        await asyncio.to_thread(rpc.call, "nwc-status")
        ready = time.perf_counter()
        # One more than the plugin's: the app has a subscription too.
        subscribed = await when(lambda: Traffic.of(url).recipients > len(uris))
        return {
            "start until nwc-status answers, s": f"{ready - begin:.2f}",
            "all subscribed, s": f"{subscribed - begin:.2f}",
            "first answer, s": f"{await answered - begin:.2f}",
            "subscriptions": f"{Traffic.of(url).subscriptions - 1}",
        }


async def _first_answer(client: NwcClient) -> float:
    """Send requests, each for CHECK_EVERY_S, until one is answered; return the time then."""
    while True:
        try:
            async with asyncio.timeout(CHECK_EVERY_S):
                await client.request("get_info", {})
            return time.perf_counter()
        except TimeoutError:
            continue


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
    before = Counter(Traffic.of(bench.relay.url).frames)
    begin = time.perf_counter()
    await asyncio.to_thread(bench.node.rpc.call, "nwc-connect", {"name": "one more"})
    seconds = time.perf_counter() - begin
    sent = Counter(Traffic.of(bench.relay.url).frames) - before
    await asyncio.to_thread(bench.node.rpc.call, "nwc-revoke", {"name": "one more"})
    return {
        "nwc-connect of one more, ms": f"{seconds * 1000:.0f}",
        "frames it sends": ", ".join(f"{number} {name}" for name, number in sent.items()),
    }


def most_memory(bench: Bench) -> float:
    """Return the most memory that the plugin's process has had, in MB."""
    lines = Path(f"/proc/{bench.node.plugin_pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peak * 1024 / 1e6


def print_table(columns: list[Rows]) -> None:
    """Print one column per number of connections."""
    for title in columns[0]:
        values = "".join(f"{column[title]:>20}" for column in columns)
        print(f"{title:40}{values}")


async def run(bench: Bench, counts: list[int]) -> None:
    """Measure with each number of connections, adding those that are missing."""
    uris: list[str] = []
    columns = []
    for count in sorted(counts):
        names = [f"app {number}" for number in range(len(uris), count)]
        uris += await make_connections(str(bench.node.socket), names, (bench.relay.url,))
        columns.append(await measure(bench, uris))
        print(f"measured with {count:,} connections", flush=True)
    print_table(columns)


def main() -> None:
    """Run the benchmark, on lightningd if it is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of connections"
    )
    parser.add_argument("--requests", type=int, default=400, help="number of make_invoice requests")
    chosen = parser.parse_args()
    print(f"node: {describe_node()}; {describe_machine()}")
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
