"""An hour with a hostile app on real lightningd: the node must survive, and other apps not notice.

    python -m tests.bench.hostile [--minutes N] [--seed N]

A hostile app with a budget of 1,000 sat sends every request that may do harm. Its payee refuses HTLCs,
holds them or settles them late. An honest app makes invoices, and another one pays small ones. At the
end the payments are compared with the ledgers. The exit code is 0 only without findings. It needs
lightningd and bitcoind on PATH.
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
# Log lines that explain why a lightningd has ended: assertions, backtraces, plugins.
_EXPLAINING = r"BROKEN|UNUSUAL|Assertion|FATAL|^0x|^\t|plugin-|Last"
LAST_LINES = 60
MB = 1e6
HONEST_METHODS = ("make_invoice", "get_balance", "pay_invoice")
# The time of a payment depends on its payee, so it is not judged.
JUDGED_METHODS = ("make_invoice", "get_balance")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The command line."""

    minutes: float
    seed: int


class Run:
    """One run on a running network."""

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
        """The records of the honest apps."""
        return self.receiver, self.payer

    async def go(self) -> None:
        """Run all apps for the chosen time, or until lightningd or the plugin ends."""
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

        def are_published() -> bool:
            shown = connections(self._network.payer)
            return all(r["info_event"] == "published" for one in shown for r in one["relays"])

        wait_until(are_published, "the info events of the connections")
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
        """Give the payee another mode every few seconds; it also applies to the HTLCs that it holds."""
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
        """True if lightningd and the plugin are still the same processes."""
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
    """Return a new invoice of a node; None is for any amount."""
    amount = "any" if amount_msat is None else amount_msat
    label = {"label": secrets.token_hex(8), "description": "bench", "amount_msat": amount}
    return str(node.rpc.call("invoice", label)["bolt11"])


def judge(run: Run, network: Network, before: Money) -> list[str]:
    """Print the figures, and return the findings."""
    print_outcomes("hostile", run.hostile)
    for record, name in zip(run.honest, ("receiver", "payer"), strict=True):
        print_outcomes(name, record)
    found = [failure for record in run.honest for failure in record.failures]
    for record in run.honest:
        for method in HONEST_METHODS:
            p50, p99, worst = percentiles(record.latencies_ms.get(method, []))
            if worst:
                print(f"{method:16} p50 {p50:.0f} ms, p99 {p99:.0f} ms, worst {worst:.0f} ms")
            if method in JUDGED_METHODS and p99 > MAX_P99_MS:
                found.append(f"{method}: p99 {p99:.0f} ms; at most {MAX_P99_MS:.0f} are allowed")
    if run.died_at is not None:
        print("\n".join(network.payer.process.last_lines(_EXPLAINING, LAST_LINES)))
        return [*found, f"lightningd or the plugin ended after {run.died_at:.0f} s"]
    try:
        wait_until_quiet(network)
    except TimeoutError as error:
        found.append(str(error))
    found += findings(network, before)
    seconds = restart_plugin(network.payer, str(PLUGIN))
    print(f"the plugin was ready {seconds:.1f} s after `plugin start`")
    if seconds > MAX_RESTART_S:
        found.append(
            f"the plugin took {seconds:.1f} s to start; at most {MAX_RESTART_S:.0f} are allowed"
        )
    return found


def print_outcomes(name: str, record: Record) -> None:
    """Print the outcomes of an app's requests, by method."""
    outcomes: dict[str, Counter[str]] = {}
    for (method, outcome), count in record.outcomes.items():
        outcomes.setdefault(method, Counter())[outcome] += count
    for method, counts in sorted(outcomes.items()):
        listed = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        print(f"{name:10}{method:20}", listed)


def arguments() -> Chosen:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=60, help="default 60; the checks at the end take longer"
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: any")
    return Chosen(**vars(parser.parse_args()))


def main() -> int:
    """Run the benchmark, and return the exit code."""
    chosen = arguments()
    if missing := missing_programs():
        print(f"missing on PATH: {', '.join(missing)}")
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
        found = judge(run, network, before)
    for finding in found[:MAX_FINDINGS]:
        print(f"WRONG: {finding}")
    print(f"{len(found)} findings" if found else "Everything is right.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
