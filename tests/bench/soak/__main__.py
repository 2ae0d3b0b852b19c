"""An hour of steady load on the plugin, while relays, plugin and node are killed and restarted.

    python -m tests.bench.soak [--minutes N] [--rate N] [--seed N]

In the first two thirds, everything is killed and restarted in turn. In the last third only the relays
are, and the plugin's memory, descriptors and threads must not grow. At the end, the node's books are
compared with the answers and notifications of the clients. The exit code is 0 only without findings.
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.soak import reconcile
from tests.bench.soak.books import Books, Trouble
from tests.bench.soak.clients import Client
from tests.bench.soak.load import BURST, Load
from tests.bench.soak.misfortunes import OF_RELAYS, RESTARTS_PLUGIN, Misfortune, Planned, Scene, plan
from tests.bench.soak.reconcile import NodeBooks
from tests.bench.soak.report import (
    Rests,
    print_figures,
    print_findings,
    print_row,
    print_setting,
    print_trouble,
)
from tests.bench.soak.vitals import Vitals, is_not_flat
from tests.support.app import NIP04, NIP44
from tests.support.node import node_with_plugin
from tests.support.processes import nothing_left_running
from tests.support.relay import RelayKind
from tests.support.restartable_relay import RestartableRelay

# How much longer than its minutes a run may take: to recover, to send again, to read the node's books.
EXTRA_S = 900
REPLAYED = 8
REPLAY_YOUNGER_THAN_S = 100
ROWS = 12
REST_S = 2.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The command line."""

    minutes: float
    rate: float
    connections: int
    seed: int

    @property
    def seconds(self) -> float:
        """The duration of the load."""
        return self.minutes * 60


class Soak:
    """One run."""

    def __init__(self, chosen: Chosen, scene: Scene) -> None:
        self.books = Books()
        self._chosen = chosen
        self._scene = scene
        self._rng = random.Random(chosen.seed)
        self._plans = random.Random(chosen.seed)
        self._load = Load(self._rng, scene.node, self.books, chosen.rate)
        self._began_at = time.time()
        self._plugin_pid = scene.node.plugin_pid

    async def run(self) -> tuple[Rests, NodeBooks]:
        """Run the load and the misfortunes; return the plugin's vitals at rest and the node's books."""
        self._load.clients = await asyncio.to_thread(self._connect)
        async with asyncio.timeout(self._chosen.seconds + EXTRA_S), asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(client.run()) for client in self._load.clients]
            background += [tasks.create_task(self._load.run()), tasks.create_task(self._print_rows())]
            rests = await self._live()
            rpc = self._scene.node.rpc
            await asyncio.to_thread(reconcile.wait_until_notified, rpc, self.books)
            for task in background:
                task.cancel()
        return rests, await asyncio.to_thread(reconcile.read_node, self._scene.node.rpc)

    def _connect(self) -> list[Client]:
        """Create the connections, each with two clients: one with NIP-44 and one with NIP-04 only."""
        rpc = self._scene.node.rpc
        uris = [rpc.call("nwc-connect", [f"app {n}"])["uri"] for n in range(self._chosen.connections)]
        self._scene.wait_until_recovered()
        return [
            Client(uri, encryption, self.books, self._load.on_invoice)
            for uri in uris
            for encryption in (NIP44, NIP04)
        ]

    async def _live(self) -> Rests:
        seconds = self._chosen.seconds
        self._load.resume()
        await self._play(plan(self._plans, list(Misfortune), seconds * 2 / 3), seconds * 2 / 3)
        self._load.ask(BURST)
        await asyncio.sleep(seconds / 30)
        begin, asked = await self._at_rest(), len(self.books.asked)
        self._load.resume()
        rest = seconds / 3 - seconds / 30
        await self._play(plan(self._plans, OF_RELAYS, rest), rest)
        return Rests(begin, await self._at_rest(), len(self.books.asked) - asked)

    async def _play(self, planned: Sequence[Planned], seconds: float) -> None:
        began = time.monotonic()
        for next_ in planned:
            await asyncio.sleep(began + next_.after_s - time.monotonic())
            await self._cause(next_)
        await asyncio.sleep(began + seconds - time.monotonic())

    async def _cause(self, planned: Planned) -> None:
        trouble = Trouble(planned.misfortune, time.time())
        self.books.troubles.append(trouble)
        await asyncio.to_thread(self._scene.cause, planned.misfortune, planned.down_s)
        self._plugin_pid = self._scene.node.plugin_pid
        await asyncio.to_thread(self._scene.wait_until_recovered)
        trouble.ended_at = time.time()
        print_trouble(self._seconds(), trouble)
        if planned.misfortune in RESTARTS_PLUGIN:
            self._replay()
            self._load.ask(BURST)

    def _replay(self) -> None:
        """Send some answered requests again: the plugin's new process does not know them."""
        now = time.time()
        recent = [
            asked
            for asked in self.books.asked.values()
            if asked.answers and now - asked.sent_at < REPLAY_YOUNGER_THAN_S
        ]
        for asked in self._rng.sample(recent, min(REPLAYED, len(recent))):
            self.books.replayed.add(asked.event["id"])
            asked.app.send(asked.event)

    async def _at_rest(self) -> Vitals:
        """Pause the load until no request is pending, and return the plugin's lowest vitals then."""
        await self._load.pause()
        samples = []
        for _ in range(10):
            await asyncio.sleep(REST_S / 10)
            samples.append(self._plugin_vitals())
        return min(samples, key=lambda sample: (sample.fds, sample.threads, sample.rss))

    def _plugin_vitals(self) -> Vitals:
        vitals = Vitals.of(self._plugin_pid)
        assert vitals is not None, "the plugin died by itself"
        return vitals

    def _seconds(self) -> float:
        return time.time() - self._began_at

    async def _print_rows(self) -> None:
        while True:
            pids = (self._plugin_pid, self._scene.node.pid, *(r.pid for r in self._scene.relays))
            print_row(self._seconds(), self.books, [Vitals.of(pid) for pid in pids])
            await asyncio.sleep(self._chosen.seconds / ROWS)


def arguments() -> Chosen:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--minutes",
        type=float,
        default=60,
        help="default 60; the checks at the end take a little longer",
    )
    parser.add_argument("--rate", type=float, default=4, help="requests per second (default 4)")
    parser.add_argument(
        "--connections",
        type=int,
        default=8,
        help="number of connections, with two clients each (default 8)",
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: any")
    return Chosen(**vars(parser.parse_args()))


def main() -> int:
    """Run the soak, and return the exit code."""
    chosen = arguments()
    print_setting(chosen.minutes, chosen.rate, chosen.connections, chosen.seed)
    with (
        nothing_left_running(),
        tempfile.TemporaryDirectory(prefix="nwc-soak-") as directory,
        RestartableRelay() as relay_a,
        RestartableRelay(RelayKind.FAST) as relay_b,
        node_with_plugin(Path(directory), {"nwc-relay": [relay_a.url, relay_b.url]}) as node,
    ):
        soak = Soak(chosen, Scene(node, (relay_a, relay_b)))
        rests, node_books = asyncio.run(soak.run())
    findings = [
        *soak.books.findings(),
        *reconcile.findings(soak.books, node_books),
        *is_not_flat(rests.begin, rests.end, rests.requests),
    ]
    print_figures(chosen.minutes, soak.books, node_books, rests)
    print_findings(findings)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
