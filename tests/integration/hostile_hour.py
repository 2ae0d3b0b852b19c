"""A hostile app against a real node for as long as NWC_HOSTILE_MINUTES says, beside two honest apps.

Not a test module by its name, since it takes an hour: `make bench BENCH=hostile` runs it, and
test_hostile_app.py runs it for half a minute. What it does is drawn from NWC_HOSTILE_SEED.
"""

import itertools
import os
import random
import secrets
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.cases.fixtures import Connect, ConnectedApp, wait_until_announced
from tests.cases.spending import books
from tests.integration.forged import forged_invoice, invented_nodes
from tests.integration.hostile_line import *  # noqa: F403
from tests.integration.hostile_line import (
    is_alive,
    reservations,
    spendable_msat,
    wait_until_free,
)
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode
from tests.support.channel import Json
from tests.support.restartable_relay import RestartableRelay
from tests.support.waiting import wait_until

MINUTES = float(os.environ.get("NWC_HOSTILE_MINUTES", "0.5"))
SEED = int(os.environ.get("NWC_HOSTILE_SEED", "1"))
MAX_P99_S = 1.0
MAX_RESTART_S = 5.0
# Failure messages of BOLT4 and none of it: codes that lightningd does not know among them.
FAILURES = ["4010", "3fff", "0000", "2002", "6003", "0017", "400f" + "00" * 12]
REST_S = 60 * MINUTES + 400


class Hostile:
    """An app that means harm, and the payee that helps it."""

    def __init__(self, app: ConnectedApp, payee: RealPayee, node: RealNode, seed: int) -> None:
        self.app, self.payee, self.node = app, payee, node
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.invoices: list[str] = []
        self.sent: list[Json] = []

    def act(self) -> None:
        """Do one thing that is drawn by lot."""
        actions: list[Callable[[], None]] = [
            self.pay_refused,
            self.pay_held,
            self.pay_again,
            self.pay_forged,
            self.pay_too_much,
            self.keysend_with_records,
            self.keysend_anywhere,
            self.odd_parameters,
            self.burst,
            self.replay,
            self.let_go,
        ]
        action = self.random.choice(actions)
        action()
        self.done[action.__name__] += 1

    def send(self, method: str, params: Any) -> None:
        request = self.app.request(method, params)
        self.sent = [*self.sent[-200:], request]
        self.app.send(request)

    def pay(self, amount_msat: int, **params: Any) -> None:
        invoice = self.payee.invoice(amount_msat)["bolt11"]
        self.invoices = [*self.invoices[-50:], invoice]
        self.send("pay_invoice", {"invoice": invoice, **params})

    def pay_refused(self) -> None:
        self.payee.refuse(self.random.choice(FAILURES))
        self.pay(self.random.choice([1, 1000, 20_000]))

    def pay_held(self) -> None:
        self.payee.hold()
        self.pay(1000, max_fee=self.random.choice([0, 1000, 10**15]))

    def pay_again(self) -> None:
        if self.invoices:
            self.send("pay_invoice", {"invoice": self.random.choice(self.invoices)})

    def pay_forged(self) -> None:
        hops = [invented_nodes(self.random.randint(1, 12)) for _ in range(self.random.randint(0, 25))]
        if hops and self.random.random() < 0.5:
            hops[0] = [hops[0][0]] * 2
        metadata = b"\1" * self.random.choice([0, 0, 300, 639])
        amount_msat = self.random.choice([1, 1000, 10**9, 10**12])
        self.send("pay_invoice", {"invoice": forged_invoice(amount_msat, hops, metadata=metadata)})

    def pay_too_much(self) -> None:
        self.pay(self.random.choice([1_000_001, 30_000_000, spendable_msat(self.node) + 1, 10**13]))

    def keysend_with_records(self) -> None:
        count, size = self.random.randint(0, 60), self.random.choice([0, 1, 20, 200])
        records = [{"type": 2**63 + 2 * n + 1, "value": "00" * size} for n in range(count)]
        params = {"amount": 1000, "pubkey": self.payee.id, "tlv_records": records}
        self.send("pay_keysend", params)

    def keysend_anywhere(self) -> None:
        pubkey = self.random.choice([self.payee.id, self.node.id, "02" * 33, invented_nodes(1)[0].hex()])
        amount = self.random.choice([1, 1000, 30_000_000, 2**63, -1])
        self.send("pay_keysend", {"amount": amount, "pubkey": pubkey})

    def odd_parameters(self) -> None:
        odd: list[Any] = [None, -1, 2**63, 2**64, 1e300, "", "x" * 5000, [], {}, [[]] * 500, True]
        method = self.random.choice(
            ["make_invoice", "lookup_invoice", "list_transactions", "pay_invoice", "pay_keysend", "none"]
        )
        names = ["amount", "expiry", "description", "invoice", "pubkey", "from", "limit", "metadata"]
        self.send(method, {name: self.random.choice(odd) for name in self.random.sample(names, 4)})

    def burst(self) -> None:
        for _ in range(50):
            self.send("make_invoice", {"amount": 1, "metadata": {"a": "é" * 3000}})

    def replay(self) -> None:
        if self.sent:
            self.app.send(self.random.choice(self.sent))

    def let_go(self) -> None:
        """What is held is refused or taken."""
        if self.random.random() < 0.5:
            self.payee.refuse(self.random.choice(FAILURES))
        else:
            self.payee.accept()


class Honest(threading.Thread):
    """An app that asks once in a while, and notes how long each answer takes."""

    def __init__(self, app: ConnectedApp, ask: Callable[[ConnectedApp, int], None]) -> None:
        super().__init__(daemon=True)
        self.app, self.ask = app, ask
        self.took_s: list[float] = []
        self.failure: BaseException | None = None
        self.is_over = threading.Event()

    def run(self) -> None:
        try:
            for number in itertools.count():
                if self.is_over.wait(0.5):
                    return
                began = time.monotonic()
                self.ask(self.app, number)
                self.took_s.append(time.monotonic() - began)
        except BaseException as error:
            self.failure = error

    def end(self) -> list[float]:
        self.is_over.set()
        self.join(60)
        assert self.failure is None, self.failure
        return sorted(self.took_s)


def receive_and_read(app: ConnectedApp, number: int) -> None:
    if number % 2:
        assert app.ask("make_invoice", {"amount": 1000 + number}).result["amount"] == 1000 + number
    else:
        assert app.ask("get_balance").result["balance"] >= 0


def quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


@pytest.mark.timeout(REST_S)
def test_a_hostile_app(
    node: RealNode,
    payee: RealPayee,
    neighbour: RealPayee,
    connect: Connect,
    own_relay: RestartableRelay,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """lightningd lives, the others are served, the books are right, and nothing stays locked.

    The honest apps have a relay of their own: one that drops its connections under a flood loses the
    requests that pass then.
    """
    pid, before_msat = node.pid, spendable_msat(node)
    hostile = [
        Hostile(connect(budget="1000sat"), payee, node, SEED),
        Hostile(connect(budget="1000sat"), payee, node, SEED + 1),
    ]
    payer = connect(budget="unlimited", relays=own_relay.url)
    paid_msat: list[int] = []

    def pay_neighbour(app: ConnectedApp, number: int) -> None:
        invoice = neighbour.invoice(1000 + number)["bolt11"]
        assert app.ask("pay_invoice", {"invoice": invoice}).result["preimage"]
        paid_msat.append(1000 + number)

    receiver = connect(relays=own_relay.url)
    honest = [Honest(receiver, receive_and_read), Honest(payer, pay_neighbour)]
    for one in honest:
        one.start()
    ends_at = time.monotonic() + 60 * MINUTES
    while time.monotonic() < ends_at and not any(one.failure for one in honest):
        for app in hostile:
            app.act()
        assert is_alive(node)
        time.sleep(0.05)  # as fast as an app is served, not as fast as this can write
    took = [one.end() for one in honest]

    payee.let_go()
    for app in hostile:
        wait_until_free(node, app.app)
    wait_until(lambda: not reservations(node), "no reservation in askrene")
    wait_until(lambda: not any(htlcs(node)), "no HTLC in flight", 120)
    with capsys.disabled():
        report(hostile, took)
    assert (node.pid, is_alive(node)) == (pid, True)
    for app in hostile:
        assert books(node, app.app) == (complete_msat(node, app.app), 0)
        assert complete_msat(node, app.app) <= 1_000_000
    assert books_of_unlimited(node, payer) == complete_msat(node, payer) == sum(paid_msat)
    sent_msat = sum(complete_msat(node, app) for app in (payer, *(one.app for one in hostile)))
    wait_until(lambda: spendable_msat(node) >= before_msat - 2 * sent_msat - 20_000_000, "liquidity")
    assert quantile(took[0], 0.99) < MAX_P99_S
    took_s = restart(node, payer, neighbour)
    with capsys.disabled():
        print(f"the plugin started again and paid after {took_s:.2f} s")
    assert took_s < MAX_RESTART_S


def htlcs(node: RealNode) -> list[list[Json]]:
    return [channel.get("htlcs", []) for channel in node.rpc.listpeerchannels()["channels"]]


def complete_msat(node: RealNode, app: ConnectedApp) -> int:
    """Return what lightningd says was sent for the payments of a connection."""
    own = f"nwc:{app.shown['client_pubkey'][:16]}:"
    listed = node.rpc.call("listsendpays", {"status": "complete"})["payments"]
    return sum(part["amount_sent_msat"] for part in listed if str(part.get("label")).startswith(own))


def books_of_unlimited(node: RealNode, app: ConnectedApp) -> int:
    [shown] = node.rpc.call("nwc-list", {"name": app.name})["connections"]
    return int(shown["budget"]["spent_msat"])


def restart(node: RealNode, app: ConnectedApp, payee: RealPayee) -> float:
    """Start the plugin again, and return the seconds until it has paid."""
    node.stop_plugin()
    began = time.monotonic()
    node.start_plugin()
    wait_until_announced(node, app.name)
    invoice = payee.invoice(1000)["bolt11"]
    assert app.ask("pay_invoice", {"invoice": invoice}).result["preimage"]
    return time.monotonic() - began


def report(hostile: list[Hostile], took: list[list[float]]) -> None:
    print()
    print(f"{MINUTES:g} minutes, seed {SEED}, {len(hostile)} hostile apps ({secrets.token_hex(2)})")
    for name, count in sorted(sum((app.done for app in hostile), Counter[str]()).items()):
        print(f"  {name:24}{count:8}")
    for name, values in zip(("others receive and read", "others pay"), took, strict=True):
        p50_ms, p99_ms = statistics.median(values) * 1000, quantile(values, 0.99) * 1000
        print(f"{name:26}{len(values):8} answers, p50 {p50_ms:.0f} ms, p99 {p99_ms:.0f} ms")
