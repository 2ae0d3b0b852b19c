"""What make_invoice over NWC costs, beside the bare `invoice` RPC of the same node in the same run.

    python -m tests.bench.make_invoice [--requests N] [--relay fast|nostr-sdk]

Beside them stand reads, and the way over the relay alone. It prints figures and judges nothing.
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
import uvloop

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
# All ways take turns after so many requests, so that what else the machine does falls on each; and after
# so many for each one under way, since with the first and the last of a turn there are less.
TURN = 100
TURN_EACH = 12
WARM_UP = 100
RATE_LIMIT = 100_000
AMOUNT_MSAT = 21_000
DESCRIPTION = "A coffee and a croissant"
SECTION_TIMEOUT_S = 110  # nwc-max-request-age ends what was signed before

_T = TypeVar("_T")

PARAMS: Json = {"amount": AMOUNT_MSAT, "description": DESCRIPTION}
HASH_PARAMS: Json = {"amount": AMOUNT_MSAT, "description_hash": "ab" * 32}

# What is measured side by side.
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
    """The requests of one section.

    Attributes:
        latencies_ms: of each request.
        seconds: from the first to the last.
        cpu_ms: CPU time a request, by process.
        commits: database commits of the node a request, None where they cannot be seen.

    """

    latencies_ms: list[float]
    seconds: float
    cpu_ms: dict[str, float]
    commits: float | None

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies_ms) / self.seconds

    @classmethod
    def together(cls, turns: list[Self]) -> Self:
        """Return several turns of the same number of requests as one section."""
        commits = [turn.commits for turn in turns if turn.commits is not None]
        return cls(
            latencies_ms=[latency for turn in turns for latency in turn.latencies_ms],
            seconds=sum(turn.seconds for turn in turns),
            cpu_ms={k: statistics.mean(turn.cpu_ms[k] for turn in turns) for k in turns[0].cpu_ms},
            commits=statistics.mean(commits) if commits else None,
        )

    def percentile(self, percent: int) -> float:
        """Return the latency that so many percent of the requests stay within."""
        return statistics.quantiles(self.latencies_ms, n=100)[percent - 1]


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything under test, and where it can be looked at."""

    node: Node
    relay: RunningRelay
    requests: int

    def turns(self, concurrency: int) -> list[int]:
        """Cut the requests of a row into turns of the same length."""
        number = max(1, self.requests // max(TURN, TURN_EACH * concurrency))
        return [self.requests // number] * number

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time since the start, by process; the node is all of lightningd but the plugin."""
        plugin = self.node.plugin_pid
        return {
            "plugin": cpu_seconds([psutil.Process(plugin)]),
            "node": cpu_seconds([p for p in family(self.node.pid) if p.pid != plugin]),
            "relay": cpu_seconds([psutil.Process(self.relay.pid)]),
            "client": cpu_seconds([psutil.Process()]),
        }

    def commits(self) -> int | None:
        """lightningd's counter of database commits; the double has none."""
        path = self.node.directory / "regtest" / "lightningd.sqlite3"
        if missing_programs():
            return None
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT intval FROM vars WHERE name = 'data_version'").fetchone()
        return int(row[0])

    def section(self) -> Callable[[list[float], float], Timing]:
        """Begin a section; call what is returned at its end."""
        cpu, commits = self.cpu_seconds(), self.commits()

        def end(latencies: list[float], seconds: float) -> Timing:
            count = len(latencies)
            spent = {k: (v - cpu[k]) * 1000 / count for k, v in self.cpu_seconds().items()}
            made = self.commits()
            per_request = (made - commits) / count if made is not None and commits is not None else None
            return Timing([x * 1000 for x in latencies], seconds, spent, per_request)

        return end


# The two ways


def time_bare(bench: Bench, concurrency: int, count: int) -> Timing:
    """Call `invoice` from threads, each with a call under way all the time."""
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
    """Ask for invoices over the relay, with so many requests under way all the time."""
    timing, answers = await _time_requests(bench, client, concurrency, count, "make_invoice", params)
    hashes = {client.open(answer)["payment_hash"] for answer in answers}
    assert len(hashes) == count, "not every request has got an invoice of its own"
    return timing


async def time_read(
    bench: Bench, client: NwcClient, concurrency: int, count: int, method: str, params: Json
) -> Timing:
    """Call a method that changes nothing."""
    timing, answers = await _time_requests(bench, client, concurrency, count, method, params)
    for answer in answers:
        client.open(answer)
    return timing


async def time_echo(bench: Bench, client: NwcClient, concurrency: int, count: int) -> Timing:
    """Ask a wallet that answers at once."""
    timing, _ = await _time_requests(bench, client, concurrency, count, "make_invoice", PARAMS)
    return timing


async def _time_requests(
    bench: Bench, client: NwcClient, concurrency: int, count: int, method: str, params: Json
) -> tuple[Timing, list[Json]]:
    requests = [client.prepare(method, params) for _ in range(count)]
    waiting = iter(requests)
    latencies: list[float] = []
    answers: list[Json] = []

    async def ask() -> None:
        for request in waiting:
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
    """Start the plugin with this PATH as lightningd does, until it has answered getmanifest."""
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
    """Stop the plugin, and start it until it answers nwc-status, its connections loaded."""
    node.rpc.plugin_stop(PLUGIN.name)
    begin = time.perf_counter()
    node.rpc.plugin_start(str(PLUGIN))
    node.rpc.call("nwc-status")
    return time.perf_counter() - begin


def print_starting(node: Node) -> None:
    """Print how long the plugin takes to start: the best of some, since others use the machine."""
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ways = {"getmanifest answered after": here}
    if (ROOT / ".venv").exists() and shutil.which("python3") != shutil.which("python3", path=here):
        ways["  from another python3, by way of .venv"] = os.environ["PATH"]
    for name, path in ways.items():
        print(f"{name:45}{_best(manifest_seconds, path):8.2f} s")
    print(f"{'ready (plugin start to nwc-status answered)':45}{_best(ready_seconds, node):8.2f} s")


def _best(measure: Callable[[_T], float], argument: _T) -> float:
    return min(measure(argument) for _ in range(3))


# The tables


def print_process(moment: str, pid: int) -> None:
    """Print what the plugin's process holds."""
    process = psutil.Process(pid)
    rss = process.memory_info().rss / 1e6
    print(f"{moment:45}{rss:8.1f} MB, {process.num_threads()} threads, {process.num_fds()} fds")


def print_heading() -> None:
    """Print the heading of the rows of `print_timing`."""
    print(f"\n{'':32}{'ms':>16}{'':9}{'CPU ms a request':>31}")
    print(
        f"{'under way':>9}  {'what':21}{'p50':>8}{'p99':>8}{'per s':>8}"
        f"{'plugin':>9}{'node':>7}{'relay':>7}{'client':>8}{'commits':>9}"
    )


def print_timing(concurrency: int, what: str, timing: Timing) -> None:
    """Print one section."""
    cpu = timing.cpu_ms
    commits = "-" if timing.commits is None else f"{timing.commits:.2f}"
    print(
        f"{concurrency:>9}  {what:21}{timing.percentile(50):8.2f}{timing.percentile(99):8.2f}"
        f"{timing.rate:8.0f}{cpu['plugin']:9.2f}{cpu['node']:7.2f}{cpu['relay']:7.2f}"
        f"{cpu['client']:8.2f}{commits:>9}",
        flush=True,
    )


# All together

Way = Callable[[int, int], Awaitable[Timing]]
# The rounds of each way, by how many requests were under way.
Results = dict[tuple[int, str], list[Timing]]


async def measure(bench: Bench) -> None:
    """Run every section and print it."""
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
    """Return ways to read; what is looked up is there."""
    made = await client.request("make_invoice", PARAMS)
    params = {"lookup_invoice": {"payment_hash": made["payment_hash"]}}

    def way(method: str) -> Way:
        asked = params.get(method, {})
        return lambda concurrency, n: time_read(bench, reader, concurrency, n, method, asked)

    return {method: way(method) for method in READS}


async def alternate(bench: Bench, concurrency: int, ways: dict[str, Way]) -> Results:
    """Measure several ways in turns; more than one round, so that drift shows instead of misleading."""
    results: Results = {(concurrency, what): [] for what in ways}
    for _ in range(ROUNDS):
        turns: dict[str, list[Timing]] = {what: [] for what in ways}
        for count in bench.turns(concurrency):
            for what, way in ways.items():
                turns[what].append(await way(concurrency, count))
        for what in ways:
            results[concurrency, what].append(Timing.together(turns[what]))
            print_timing(concurrency, what, results[concurrency, what][-1])
    return results


def targets(results: Results) -> list[Target]:
    """Return what the figures ought to be, all rounds taken together."""

    def mean(concurrency: int, what: str, figure: Callable[[Timing], float]) -> float:
        return statistics.mean(map(figure, results[concurrency, what]))

    def ratio(concurrency: int, what: str, to: str, figure: Callable[[Timing], float]) -> float:
        return mean(concurrency, what, figure) / mean(concurrency, to, figure)

    def p50(timing: Timing) -> float:
        return timing.percentile(50)

    def p99(timing: Timing) -> float:
        return timing.percentile(99)

    def rate(timing: Timing) -> float:
        return timing.rate

    def cpu(timing: Timing) -> float:
        return timing.cpu_ms["plugin"]

    one, many = f"{FEW} under way", f"{MANY} under way"
    return [
        Target(f"p50 of NIP-44 / of the bare RPC, {one}", "at most 1.6", ratio(FEW, NIP44, BARE, p50)),
        Target(f"p99 of NIP-44 / of the bare RPC, {one}", "at most 3", ratio(FEW, NIP44, BARE, p99)),
        Target(
            f"per second: NIP-44 / the bare RPC, {many}", "at least 0.9", ratio(MANY, NIP44, BARE, rate)
        ),
        Target(f"the plugin's CPU, ms a request, NIP-44, {many}", "at most 1", mean(MANY, NIP44, cpu)),
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
    """Print what is measured, and what else is in the figures."""
    print(f"node: {describe_node()}; relay: {relay}; {requests} requests a row")
    print(describe_machine())
    print(
        "Client, relay, plugin and node share this machine and its CPUs. Requests are encrypted and\n"
        "signed before, answers checked and decrypted after the time taken: that is the app's part.\n"
        f"All ways take turns every {TURN} requests, or {TURN_EACH} for each one under way. {ECHO!r}\n"
        "is a wallet that does not even decrypt."
    )
    if relay is RelayKind.NOSTR_SDK:
        print("This relay leaves Nagle's algorithm on: some 40 ms of each request are its own.")
    print()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000, help="a row (default 2000)")
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
        uvloop.run(measure(Bench(node, relay, chosen.requests)))


if __name__ == "__main__":
    main()
