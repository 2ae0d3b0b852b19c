"""The cost of many relays: how long an invoice takes over a fast one when the others are slow or down.

    python -m tests.bench.relays [--counts N ...] [--requests N]

One app sends its requests over a fast relay. The other relays of its connection deliver everything late,
never answer, or are down. It prints figures without a verdict.
"""

import argparse
import asyncio
import itertools
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.connections import Traffic, make_connections, when
from tests.bench.machine import describe_machine, describe_node
from tests.bench.make_invoice import RATE_LIMIT, Bench, Timing, time_bare, time_nwc
from tests.support.client import NwcClient
from tests.support.node import PLUGIN, node_with_plugin
from tests.support.ports import free_port
from tests.support.processes import nothing_left_running
from tests.support.relay import RelayKind, running_relay, slow_relays

COUNTS = (1, 5, 20)
# Delays in seconds. One relay in eight never answers (inf), one is down; the others are late.
DOWN = "down"
OTHERS: Sequence[float | str] = (0.05, 0.2, math.inf, DOWN, 0.1, 0.5, 0.3, 0.05)


def others(count: int) -> list[float | str]:
    """Return the kinds of `count` relays beside the fast one."""
    return list(itertools.islice(itertools.cycle(OTHERS), count))


async def measure(bench: Bench, name: str, urls: list[str]) -> None:
    """Create a connection with these relays, the fast one first, measure it and print a row."""
    [uri] = await make_connections(str(bench.node.socket), [name], tuple(urls))
    await asyncio.to_thread(bench.node.rpc.plugin_stop, PLUGIN.name)
    await asyncio.to_thread(bench.node.rpc.plugin_start, str(PLUGIN))
    async with NwcClient(uri) as client:
        await when(lambda: Traffic.of(bench.relay.url).subscriptions >= 2)
        await client.request("get_info", {})
        bare, nwc = [], []
        for count in bench.turns(1):
            bare.append(await asyncio.to_thread(time_bare, bench, 1, count))
            nwc.append(await time_nwc(bench, client, 1, count))
        asked = sum(len(timing.latencies_ms) for timing in nwc)
        late = [url for url, kind in zip(urls[1:], others(len(urls) - 1), strict=True) if kind in LATE]
        responses = [await _responses(url, asked) for url in late]
    print_row(len(urls), Timing.together(bare), Timing.together(nwc), responses, asked)


KIND_RESPONSE = "23195"
# The delays of the relays that do answer.
LATE = [kind for kind in OTHERS if isinstance(kind, float) and kind != math.inf]


async def _responses(url: str, expected: int) -> int:
    """Wait until a slow relay has received all answers, and return how many it has."""
    await when(lambda: Traffic.of(url).kinds.get(KIND_RESPONSE, 0) >= expected)
    return Traffic.of(url).kinds[KIND_RESPONSE]


def print_row(count: int, bare: Timing, nwc: Timing, responses: list[int], asked: int) -> None:
    """Print one line."""
    complete = f"{sum(number >= asked for number in responses)} of {len(responses)}"
    print(
        f"{count:>6}{bare.percentile(50):10.2f}{nwc.percentile(50):10.2f}{bare.percentile(99):10.2f}"
        f"{nwc.percentile(99):10.2f}{nwc.cpu_ms['plugin']:12.2f}{complete if responses else '-':>20}",
        flush=True,
    )


def print_heading(requests: int) -> None:
    """Print what is measured, and the heading of the rows."""
    print(f"node: {describe_node()}; {requests} requests")
    print(describe_machine())
    print("One relay is fast. Most others are 50 to 500 ms late, some never answer, some are down.\n")
    print(
        f"{'relays':>6}{'bare p50':>10}{'NWC p50':>10}{'bare p99':>10}{'NWC p99':>10}"
        f"{'plugin CPU':>12}{'late: all answers':>20}"
    )


def main() -> None:
    """Run the benchmark, on lightningd if it is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of relays")
    parser.add_argument("--requests", type=int, default=500, help="number of make_invoice requests")
    chosen = parser.parse_args()
    print_heading(chosen.requests)
    for count in chosen.counts:
        kinds = others(count - 1)
        with ExitStack() as running:
            running.enter_context(nothing_left_running())
            directory = running.enter_context(tempfile.TemporaryDirectory(prefix="nwc-bench-"))
            relay = running.enter_context(running_relay(RelayKind.FAST))
            delays = [kind for kind in kinds if isinstance(kind, float)]
            slow = iter(running.enter_context(slow_relays(delays)) if delays else ())
            urls = [f"ws://127.0.0.1:{free_port()}" if kind == DOWN else next(slow) for kind in kinds]
            options = {"nwc-relay": relay.url, "nwc-rate-limit": str(RATE_LIMIT)}
            node = running.enter_context(node_with_plugin(Path(directory), options))
            bench = Bench(node, relay, chosen.requests)
            asyncio.run(measure(bench, f"{count} relays", [relay.url, *urls]))


if __name__ == "__main__":
    main()
