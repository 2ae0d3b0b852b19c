"""An hour of an app that means harm, on real lightningd: does the node live, and do others notice?

    python -m tests.bench.hostile [--minutes N] [--seed N]

One app with a budget of 1,000 sat asks for whatever may hurt; its payee refuses, holds or settles late.
Beside it an app makes invoices and one pays small ones. At the end the payments are held against the
books. Exit code 0 only if all is as it must be. Needs lightningd and bitcoind on PATH.
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.hostile.apps import Record, attack, cancel, pay, receive
from tests.bench.hostile.attacks import MODES, Attacks, Scene
from tests.bench.hostile.network import PAYEE_PLUGIN, Lightningd, Network
from tests.bench.hostile.verdict import (
    MAX_P99_MS,
    MAX_RESTART_S,
    Money,
    connections,
    findings,
    percentiles,
    restart_plugin,
    wait_until_quiet,
)
from tests.bench.machine import describe_machine, describe_node
from tests.support.client import NwcClient
from tests.support.node import PLUGIN, missing_programs
from tests.support.processes import nothing_left_running
from tests.support.relay import RelayKind, running_relay
from tests.support.waiting import wait_until

BUDGET = "1000sat"
ROWS = 20
MODE_EVERY_S = (0.5, 2.0, 5.0)
MAX_FINDINGS = 30
# Of a lightningd that has ended: assertions, backtraces, and what it says last.
_TELLING = r"BROKEN|UNUSUAL|Assertion|FATAL|^0x|^\t|plugin-|Last"
LAST_LINES = 60
MB = 1e6
HONEST_METHODS = ("make_invoice", "get_balance", "pay_invoice")
# A payment's time is its payee's too.
JUDGED_METHODS = ("make_invoice", "get_balance")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The command line."""

    minutes: float
    seed: int


class Run:
    """One run on a network that is there."""

    def __init__(self, chosen: Chosen, network: Network) -> None:
        self.hostile, self.receiver, self.payer = Record(), Record(), Record()
        self.died_at: float | None = None
        self._chosen = chosen
        self._network = network
        self._rng = random.Random(chosen.seed)
        self._began_at = time.monotonic()
        self._pids = (network.payer.pid, network.payer.plugin_pid)

    @property
    def honest(self) -> tuple[Record, ...]:
        """The records of those that mean no harm."""
        return self.receiver, self.payer

    async def go(self) -> None:
        """Let all apps work for the chosen time, or until lightningd or the plugin has ended."""
        uris = await asyncio.to_thread(self._connect)
        async with AsyncExitStack() as opened:
            hostile, receiver, payer = [await opened.enter_async_context(NwcClient(u)) for u in uris]
            attacks = Attacks(self._rng, self._scene())
            tasks = [
                asyncio.create_task(coroutine)
                for coroutine in (
                    attack(hostile, self.hostile, attacks, self._rng),
                    receive(receiver, self.receiver),
                    pay(payer, self.payer, lambda amount: invoice(self._network.middle, amount)),
                    self._change_modes(),
                )
            ]
            await self._watch()
            await cancel(*tasks)

    def _connect(self) -> list[str]:
        rpc = self._network.payer.rpc
        uris = [
            str(rpc.call("nwc-connect", {"name": name, **budget})["uri"])
            for name, budget in (
                ("hostile", {"budget": BUDGET}),
                ("receiver", {}),
                ("payer", {"budget": "unlimited"}),
            )
        ]

        def are_announced() -> bool:
            shown = connections(self._network.payer)
            return all(r["info_event"] == "published" for one in shown for r in one["relays"])

        wait_until(are_announced, "the connections to be announced")
        return uris

    def _scene(self) -> Scene:
        network = self._network
        offer = network.payee.rpc.call("offer", {"amount": 1000, "description": "tea"})
        return Scene(
            network.payer.id,
            network.middle.id,
            network.payee.id,
            lambda amount: invoice(network.payee, amount),
            lambda amount: invoice(network.payer, amount),
            str(offer["bolt12"]),
        )

    async def _change_modes(self) -> None:
        """Have the payee do something else every few seconds; what it held is answered likewise."""
        while True:
            mode, _, failure = self._rng.choice(MODES).partition(" ")
            params = {"mode": mode, **({"failure": failure} if failure else {})}
            await asyncio.to_thread(self._network.payee.rpc.call, "htlcs", params)
            await asyncio.sleep(self._rng.choice(MODE_EVERY_S))

    async def _watch(self) -> None:
        seconds = self._chosen.minutes * 60
        for row in range(1, ROWS + 1):
            while time.monotonic() - self._began_at < seconds * row / ROWS:
                await asyncio.sleep(0.2)
                if not self.is_alive:
                    self.died_at = time.monotonic() - self._began_at
                    return
            self._print_row()

    @property
    def is_alive(self) -> bool:
        """True if lightningd and the plugin are the processes that they were."""
        payer = self._network.payer
        return payer.process.is_running and (payer.pid, payer.plugin_pid) == self._pids

    def _print_row(self) -> None:
        node = self._network.payer
        worst = [percentiles(self.receiver.latencies_ms.get(m, []))[1] for m in JUDGED_METHODS]
        print(
            f"{time.monotonic() - self._began_at:7.0f}{self.hostile.asked:9}{self.payer.asked:7}"
            f"{sum(len(r.failures) for r in self.honest):8}{max(worst):11.0f}"
            f"{node.rss() / MB:10.0f}{node.rss('pay') / MB:8.0f}",
            flush=True,
        )


def invoice(node: Lightningd, amount_msat: int | None) -> str:
    """Make an invoice."""
    amount = "any" if amount_msat is None else amount_msat
    label = {"label": secrets.token_hex(8), "description": "bench", "amount_msat": amount}
    return str(node.rpc.call("invoice", label)["bolt11"])


def judge(run: Run, network: Network, before: Money) -> list[str]:
    """Return what is not as it must be, and print the figures."""
    print_outcomes("hostile", run.hostile)
    for record, name in zip(run.honest, ("receiver", "payer"), strict=True):
        print_outcomes(name, record)
    wrong = [failure for record in run.honest for failure in record.failures]
    for record in run.honest:
        for method in HONEST_METHODS:
            p50, p99, worst = percentiles(record.latencies_ms.get(method, []))
            if worst:
                print(f"{method:16} p50 {p50:.0f} ms, p99 {p99:.0f} ms, worst {worst:.0f} ms")
            if method in JUDGED_METHODS and p99 > MAX_P99_MS:
                wrong.append(f"{method}: p99 {p99:.0f} ms; at most {MAX_P99_MS:.0f}")
    if run.died_at is not None:
        print("\n".join(network.payer.process.last_lines(_TELLING, LAST_LINES)))
        return [*wrong, f"lightningd or the plugin ended after {run.died_at:.0f} s"]
    try:
        wait_until_quiet(network)
    except TimeoutError as error:
        wrong.append(str(error))
    wrong += findings(network, before)
    seconds = restart_plugin(network.payer, str(PLUGIN))
    print(f"the plugin was back {seconds:.1f} s after `plugin start`")
    if seconds > MAX_RESTART_S:
        wrong.append(f"the plugin needed {seconds:.1f} s to start; at most {MAX_RESTART_S:.0f}")
    return wrong


def print_outcomes(name: str, record: Record) -> None:
    """Print how an app's requests ended."""
    outcomes: dict[str, Counter[str]] = {}
    for (method, outcome), count in record.outcomes.items():
        outcomes.setdefault(method, Counter())[outcome] += count
    for method, counts in sorted(outcomes.items()):
        print(f"{name:10}{method:20}", ", ".join(f"{n} {what}" for what, n in counts.most_common()))


def arguments() -> Chosen:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="default 60; the end takes more")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: any")
    return Chosen(**vars(parser.parse_args()))


def main() -> int:
    """Run it; returns the exit code."""
    chosen = arguments()
    if missing := missing_programs():
        print(f"needs {', '.join(missing)} on PATH")
        return 2
    print(f"node: {describe_node()}; {describe_machine()}")
    print(f"{chosen.minutes:g} minutes, --seed {chosen.seed}; payee: {PAYEE_PLUGIN.name}\n")
    with (
        nothing_left_running(),
        tempfile.TemporaryDirectory(prefix="nwc-hostile-") as directory,
        running_relay(RelayKind.FAST) as relay,
        Network(Path(directory), {"nwc-relay": relay.url}) as network,
    ):
        before = Money.of(network.payer)
        print(
            f"{'seconds':>7}{'hostile':>9}{'paid':>7}{'failed':>8}{'p99 ms':>11}"
            f"{'node MB':>10}{'pay MB':>8}"
        )
        run = Run(chosen, network)
        asyncio.run(run.go())
        print()
        wrong = judge(run, network, before)
    for finding in wrong[:MAX_FINDINGS]:
        print(f"WRONG: {finding}")
    print(f"{len(wrong)} things are wrong" if wrong else "All is as it must be.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
