"""The cost of make_invoice over NWC, beside the bare `invoice` RPC of the same node in the same run.

    python -m tests.bench.make_invoice [--requests N] [--relay fast|nostr-sdk]

It also measures reads, and the way over the relay alone. It prints figures without a verdict.
"""

import argparse
import asyncio
import os
import secrets
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import psutil  # type: ignore[import-untyped]

from nwc.nip47.encryption import Encryption
from tests.bench.echo import running_echo
from tests.bench.machine import cpu_seconds, describe_machine, describe_node
from tests.bench.targets import Target, print_targets
from tests.support.client import Json, NwcClient
from tests.support.node import PLUGIN, Node, missing_programs, node_with_plugin
from tests.support.processes import ROOT, family, nothing_left_running
from tests.support.relay import RelayKind, RunningRelay, running_relay

FEW, MANY = 1, 32
CONCURRENCY = (FEW, 8, MANY)
ROUNDS = 2
# The ways alternate after TURN requests, so that other load on the machine affects all of them. With
# many in flight, it is after TURN_EACH for each: at the start and end of a turn, fewer are in flight.
TURN = 100
TURN_EACH = 12
WARM_UP = 100
RATE_LIMIT = 100_000
AMOUNT_MSAT = 21_000
DESCRIPTION = "A coffee and a croissant"
SECTION_TIMEOUT_S = 110  # the plugin ignores requests older than nwc-max-request-age, 120 s

_T = TypeVar("_T")

PARAMS: Json = {"amount": AMOUNT_MSAT, "description": DESCRIPTION}
HASH_PARAMS: Json = {"amount": AMOUNT_MSAT, "description_hash": "ab" * 32}

# The ways that are measured side by side.
BARE, NIP44, NIP04, HASH, ECHO = (
    "invoice RPC, bare",
    "NWC, NIP-44",
    "NWC, NIP-04",
    "NWC, bare hash",
    "relay and back, alone",
)
READS = ("get_info", "lookup_invoice", "get_balance")

# Figures


@dataclass(frozen=True, slots=True)
class Timing:
    """The figures of one section of requests.

    Attributes:
        latencies_ms: the latency of each request.
        seconds: from the first request to the last answer.
        cpu_ms: CPU time per request, by process.
        commits: database commits of the node per request; None if they cannot be counted.

    """

    latencies_ms: list[float]
    seconds: float
    cpu_ms: dict[str, float]
    commits: float | None

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies_ms) / self.seconds

    @classmethod
    def together(cls, turns: list[Self]) -> Self:
        """Return turns with the same number of requests as one section."""
        commits = [turn.commits for turn in turns if turn.commits is not None]
        return cls(
            latencies_ms=[latency for turn in turns for latency in turn.latencies_ms],
            seconds=sum(turn.seconds for turn in turns),
            cpu_ms={k: statistics.mean(turn.cpu_ms[k] for turn in turns) for k in turns[0].cpu_ms},
            commits=statistics.mean(commits) if commits else None,
        )

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        return statistics.quantiles(self.latencies_ms, n=100)[percent - 1]


@dataclass(frozen=True, slots=True)
class Bench:
    """The node and the relay under test, and the number of requests per row."""

    node: Node
    relay: RunningRelay
    requests: int

    def turns(self, concurrency: int) -> list[int]:
        """Return the numbers of requests of the turns of a row, all equal."""
        number = max(1, self.requests // max(TURN, TURN_EACH * concurrency))
        return [self.requests // number] * number

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds since the start, by process; `node` does not include the plugin."""
        plugin = self.node.plugin_pid
        return {
            "plugin": cpu_seconds([psutil.Process(plugin)]),
            "node": cpu_seconds([p for p in family(self.node.pid) if p.pid != plugin]),
            "relay": cpu_seconds([psutil.Process(self.relay.pid)]),
            "client": cpu_seconds([psutil.Process()]),
        }

    def commits(self) -> int | None:
        """Return lightningd's counter of database commits; None for the double."""
        path = self.node.directory / "regtest" / "lightningd.sqlite3"
        if missing_programs():
            return None
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT intval FROM vars WHERE name = 'data_version'").fetchone()
        return int(row[0])

    def section(self) -> Callable[[list[float], float], Timing]:
        """Begin a section, and return the function that ends it."""
        cpu, commits = self.cpu_seconds(), self.commits()

        def end(latencies: list[float], seconds: float) -> Timing:
            count = len(latencies)
            spent = {k: (v - cpu[k]) * 1000 / count for k, v in self.cpu_seconds().items()}
            made = self.commits()
            per_request = (made - commits) / count if made is not None and commits is not None else None
            return Timing([x * 1000 for x in latencies], seconds, spent, per_request)

        return end


# The ways


def time_bare(bench: Bench, concurrency: int, count: int) -> Timing:
    """Measure `invoice`, called by `concurrency` threads without pause."""
    rpc = bench.node.rpc

    def call(label: str) -> float:
        begin = time.perf_counter()
        rpc.call(
            "invoice",
            {
                "amount_msat": AMOUNT_MSAT,
                "label": label,
                "description": DESCRIPTION,
                "expiry": 86_400,
            },
        )
        return time.perf_counter() - begin

    # As long as the plugin's own labels.
    labels = [f"bench:{secrets.token_hex(39)}" for _ in range(count)]
    end = bench.section()
    with ThreadPoolExecutor(concurrency) as threads:
        begin = time.perf_counter()
        latencies = list(threads.map(call, labels))
        seconds = time.perf_counter() - begin
    return end(latencies, seconds)


async def time_nwc(
    bench: Bench, client: NwcClient, concurrency: int, count: int, params: Json = PARAMS
) -> Timing:
    """Measure make_invoice over the relay, with `concurrency` requests always in flight."""
    timing, answers = await _time_requests(bench, client, concurrency, count, "make_invoice", params)
    hashes = {client.open(answer)["payment_hash"] for answer in answers}
    assert len(hashes) == count, "not every request got an invoice of its own"
    return timing


async def time_read(
    bench: Bench, client: NwcClient, concurrency: int, count: int, method: str, params: Json
) -> Timing:
    """Measure a method that changes nothing."""
    timing, answers = await _time_requests(bench, client, concurrency, count, method, params)
    for answer in answers:
        client.open(answer)
    return timing


async def time_echo(bench: Bench, client: NwcClient, concurrency: int, count: int) -> Timing:
    """Measure requests to a wallet that answers at once."""
    timing, _ = await _time_requests(bench, client, concurrency, count, "make_invoice", PARAMS)
    return timing


async def _time_requests(
    bench: Bench, client: NwcClient, concurrency: int, count: int, method: str, params: Json
) -> tuple[Timing, list[Json]]:
    requests = iter([client.prepare(method, params) for _ in range(count)])
    latencies: list[float] = []
    answers: list[Json] = []

    async def ask() -> None:
        for request in requests:
            begin = time.perf_counter()
            answer = await client.ask(request)
            latencies.append(time.perf_counter() - begin)
            answers.append(answer)

    end = bench.section()
    begin = time.perf_counter()
    async with asyncio.timeout(SECTION_TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(ask())
    return end(latencies, time.perf_counter() - begin), answers


# Starting


def manifest_seconds(path: str) -> float:
    """Return the seconds from the start of the plugin with this PATH to its answer to getmanifest."""
    env = {**os.environ, "LIGHTNINGD_PLUGIN": "1", "PATH": path}
    request = b'{"jsonrpc":"2.0","id":1,"method":"getmanifest","params":{}}\n\n'
    begin = time.perf_counter()
    with subprocess.Popen([PLUGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as plugin:
        assert plugin.stdin
        assert plugin.stdout
        plugin.stdin.write(request)
        plugin.stdin.flush()
        assert b"rpcmethods" in plugin.stdout.readline()
        seconds = time.perf_counter() - begin
        plugin.kill()
    return seconds


def ready_seconds(node: Node) -> float:
    """Restart the plugin; return the seconds until it answers nwc-status with its connections loaded."""
    node.rpc.plugin_stop(PLUGIN.name)
    begin = time.perf_counter()
    node.rpc.plugin_start(str(PLUGIN))
    node.rpc.call("nwc-status")
    return time.perf_counter() - begin


def print_starting(node: Node) -> None:
    """Print how long the plugin takes to start: the best of three, because of other load."""
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ways = {"getmanifest answered after": here}
    if (ROOT / ".venv").exists() and shutil.which("python3") != shutil.which("python3", path=here):
        ways["  with another python3, through .venv"] = os.environ["PATH"]
    for name, path in ways.items():
        print(f"{name:45}{_best(manifest_seconds, path):8.2f} s")
    print(f"{'ready (plugin start to nwc-status answered)':45}{_best(ready_seconds, node):8.2f} s")


def _best(measure: Callable[[_T], float], argument: _T) -> float:
    return min(measure(argument) for _ in range(3))


# The tables


def print_process(moment: str, pid: int) -> None:
    """Print the memory, threads and descriptors of the plugin's process."""
    process = psutil.Process(pid)
    rss = process.memory_info().rss / 1e6
    print(f"{moment:45}{rss:8.1f} MB, {process.num_threads()} threads, {process.num_fds()} fds")


def print_heading() -> None:
    """Print the heading of the rows of `print_timing`."""
    print(f"\n{'':32}{'ms':>16}{'':9}{'CPU ms per request':>31}")
    print(
        f"{'in flight':>9}  {'way':21}{'p50':>8}{'p99':>8}{'per s':>8}"
        f"{'plugin':>9}{'node':>7}{'relay':>7}{'client':>8}{'commits':>9}"
    )


def print_timing(concurrency: int, way: str, timing: Timing) -> None:
    """Print one section."""
    cpu = timing.cpu_ms
    commits = "-" if timing.commits is None else f"{timing.commits:.2f}"
    print(
        f"{concurrency:>9}  {way:21}{timing.percentile(50):8.2f}{timing.percentile(99):8.2f}"
        f"{timing.rate:8.0f}{cpu['plugin']:9.2f}{cpu['node']:7.2f}{cpu['relay']:7.2f}"
        f"{cpu['client']:8.2f}{commits:>9}",
        flush=True,
    )


# All together

Way = Callable[[int, int], Awaitable[Timing]]
# The rounds, by the number of requests in flight and the name of the way.
Results = dict[tuple[int, str], list[Timing]]


async def measure(bench: Bench) -> None:
    """Measure every section and print it."""
    rpc = bench.node.rpc
    uri = rpc.call("nwc-connect", {"name": "bench"})["uri"]
    reader_uri = rpc.call("nwc-connect", {"name": "reads", "view": "node"})["uri"]
    print_process("the plugin at rest", bench.node.plugin_pid)
    with running_echo(bench.relay) as echo_uri:
        async with (
            NwcClient(uri) as client,
            NwcClient(uri, Encryption.NIP04) as older,
            NwcClient(reader_uri) as reader,
            NwcClient(echo_uri) as echo,
        ):
            await asyncio.to_thread(time_bare, bench, 8, WARM_UP)
            await time_nwc(bench, client, 8, WARM_UP)
            ways: dict[str, Way] = {
                BARE: lambda concurrency, n: asyncio.to_thread(time_bare, bench, concurrency, n),
                NIP44: lambda concurrency, n: time_nwc(bench, client, concurrency, n),
                NIP04: lambda concurrency, n: time_nwc(bench, older, concurrency, n),
                HASH: lambda concurrency, n: time_nwc(bench, client, concurrency, n, HASH_PARAMS),
                ECHO: lambda concurrency, n: time_echo(bench, echo, concurrency, n),
            }
            print_heading()
            results: Results = {}
            for concurrency in CONCURRENCY:
                results |= await alternate(bench, concurrency, ways)
            results |= await alternate(bench, MANY, await _reads(bench, client, reader))
    print_targets(targets(results))
    print()
    print_process("the plugin afterwards", bench.node.plugin_pid)


async def _reads(bench: Bench, client: NwcClient, reader: NwcClient) -> dict[str, Way]:
    """Return the ways to read; lookup_invoice asks for an existing invoice."""
    made = await client.request("make_invoice", PARAMS)
    params = {"lookup_invoice": {"payment_hash": made["payment_hash"]}}

    def way(method: str) -> Way:
        given = params.get(method, {})
        return lambda concurrency, n: time_read(bench, reader, concurrency, n, method, given)

    return {method: way(method) for method in READS}


async def alternate(bench: Bench, concurrency: int, ways: dict[str, Way]) -> Results:
    """Measure the ways in turns, in more than one round so that drift is visible."""
    results: Results = {(concurrency, name): [] for name in ways}
    for _ in range(ROUNDS):
        turns: dict[str, list[Timing]] = {name: [] for name in ways}
        for count in bench.turns(concurrency):
            for name, way in ways.items():
                turns[name].append(await way(concurrency, count))
        for name in ways:
            results[concurrency, name].append(Timing.together(turns[name]))
            print_timing(concurrency, name, results[concurrency, name][-1])
    return results


def targets(results: Results) -> list[Target]:
    """Return the targets, with the means over all rounds."""

    def mean(concurrency: int, way: str, figure: Callable[[Timing], float]) -> float:
        return statistics.mean(map(figure, results[concurrency, way]))

    def ratio(concurrency: int, way: str, to: str, figure: Callable[[Timing], float]) -> float:
        return mean(concurrency, way, figure) / mean(concurrency, to, figure)

    def p50(timing: Timing) -> float:
        return timing.percentile(50)

    def p99(timing: Timing) -> float:
        return timing.percentile(99)

    def rate(timing: Timing) -> float:
        return timing.rate

    def cpu(timing: Timing) -> float:
        return timing.cpu_ms["plugin"]

    one, many = f"{FEW} in flight", f"{MANY} in flight"
    return [
        Target(f"p50 of NIP-44 / of the bare RPC, {one}", "at most 1.6", ratio(FEW, NIP44, BARE, p50)),
        Target(f"p99 of NIP-44 / of the bare RPC, {one}", "at most 3", ratio(FEW, NIP44, BARE, p99)),
        Target(
            f"per second: NIP-44 / the bare RPC, {many}", "at least 0.9", ratio(MANY, NIP44, BARE, rate)
        ),
        Target(f"the plugin's CPU, ms per request, NIP-44, {many}", "at most 1", mean(MANY, NIP44, cpu)),
        Target(f"per second: NIP-04 / NIP-44, {many}", "at least 0.9", ratio(MANY, NIP04, NIP44, rate)),
        Target(
            f"per second: bare hash / the bare RPC, {many}",
            "at least 0.3",
            ratio(MANY, HASH, BARE, rate),
        ),
        *(
            Target(f"{read} per second, {many}", "at least 1000", mean(MANY, read, rate))
            for read in READS
        ),
    ]


def print_setting(relay: RelayKind, requests: int) -> None:
    """Print what is measured, and what influences the figures."""
    print(f"node: {describe_node()}; relay: {relay}; {requests} requests per row")
    print(describe_machine())
    print(
        "Client, relay, plugin and node share this machine and its CPUs. The measured time does not\n"
        "include the app's part: requests are encrypted and signed before, answers checked and\n"
        f"decrypted after it. The ways alternate every {TURN} requests, or every {TURN_EACH} for each\n"
        f"request in flight. {ECHO!r} is a wallet that does not even decrypt."
    )
    if relay is RelayKind.NOSTR_SDK:
        print("This relay uses Nagle's algorithm, which takes some 40 ms of each request.")
    print()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000, help="per row (default 2000)")
    parser.add_argument("--relay", type=RelayKind, choices=list(RelayKind), default=RelayKind.FAST)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    chosen = arguments()
    print_setting(chosen.relay, chosen.requests)
    with (
        nothing_left_running(),
        tempfile.TemporaryDirectory(prefix="nwc-bench-") as directory,
        running_relay(chosen.relay) as relay,
        node_with_plugin(
            Path(directory), {"nwc-relay": relay.url, "nwc-rate-limit": str(RATE_LIMIT)}
        ) as node,
    ):
        print_starting(node)
        asyncio.run(measure(Bench(node, relay, chosen.requests)))


if __name__ == "__main__":
    main()
