"""Payments on a simulated lightningd, in a virtual time that passes only while a test waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

from nwc.cln.errors import NodeError, NodeUnavailableError
from nwc.cln.payer import Payer
from nwc.nip47.errors import Nip47Error
from nwc.wallet.connections.budget import Budget
from nwc.wallet.connections.record import Connection
from nwc.wallet.labels import request_label
from nwc.wallet.spending import payments as payments_module
from nwc.wallet.spending import sender as sender_module
from nwc.wallet.spending.breaker import CircuitBreaker
from nwc.wallet.spending.ledger import Ledger, parse_ledger
from nwc.wallet.spending.ledgers import Ledgers
from nwc.wallet.spending.payment import CommandParams, Payment, PaymentRecord
from nwc.wallet.spending.payment_records import PaymentRecords
from nwc.wallet.spending.payments import Payments
from nwc.wallet.spending.refusals import Refusals
from tests.unit.virtual_loop import VirtualLoop
from tests.unit.wallet.spending.simulation import Command, SimulatedLightningd, hash_of, preimage_of
from tests.unit.wallet.spending.values import KEY, START, amount, connection, payment

T = TypeVar("T")
Outcome = PaymentRecord | Nip47Error
A_MOMENT_S = 0.01


class Bench:
    """Payments on a simulated lightningd.

    Attributes:
        connections: by client key; KEY has a budget of 1000 msat.
        unserved: client keys of connections that are stored but not served.
        notified: request ids of the payments of which apps were notified.
        answered: records with which requests of an earlier run were answered.
        notify_error: if set, notifying raises it.

    """

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.lightningd = SimulatedLightningd(self.loop)
        self.connections: dict[str, Connection] = {KEY: connection(amount(1000))}
        self.unserved: set[str] = set()
        self.notified: list[str] = []
        self.answered: list[PaymentRecord] = []
        self.notify_error: NodeError | None = None
        self._clocks = [
            patch.object(module, "time", self) for module in (payments_module, sender_module)
        ]
        for clock in self._clocks:
            clock.start()
        self.start()

    def close(self) -> None:
        self.loop.end()
        for clock in self._clocks:
            clock.stop()

    def time(self) -> float:
        return START + self.loop.time()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def wait(self, seconds: float = A_MOMENT_S) -> None:
        self.run(asyncio.sleep(seconds))

    # The plugin

    def start(self, *, is_node_start: bool = False) -> None:
        self.payments = self.new_payments()
        self.run(self._start(is_node_start))

    def new_payments(self) -> Payments:
        """Make Payments as a start of the plugin does."""
        node = self.lightningd
        return Payments(
            Payer(node),
            Ledgers(node),
            PaymentRecords(node),
            CircuitBreaker(node),
            Refusals(node),
            connection_of=self.connections.get,
            notify=self._notify,
            answer=self._answer,
            is_stored=self.unserved.__contains__,
        )

    async def _start(self, is_node_start: bool) -> None:
        await self.payments.load(is_node_start=is_node_start)
        await self.payments.records.load(key[:16] for key in self.connections)
        self.payments.start()

    def stop(self) -> None:
        self.run(self.payments.stop())

    def crash(self, *, with_node: bool = False) -> None:
        """Stop the plugin and start it again, alone or with lightningd."""
        self.stop()
        self.start(is_node_start=with_node)

    async def _notify(self, _: str, record: PaymentRecord) -> None:
        if self.notify_error is not None:
            raise self.notify_error
        self.notified.append(record.payment.request_id)

    async def _answer(self, _: str, record: PaymentRecord) -> None:
        self.answered.append(record)

    # Requests, and what lightningd does

    def pay(
        self, wanted: Payment, key: str = KEY, params: CommandParams | None = None
    ) -> "asyncio.Task[Outcome]":
        """Ask for a payment, and run all that needs no waiting."""
        asked = self.loop.create_task(self._request(wanted, self.connections[key], params))
        self.wait()
        return asked

    async def _request(
        self, wanted: Payment, asking: Connection, params: CommandParams | None = None
    ) -> Outcome:
        try:
            return await self.payments.pay(asking, wanted, params or CommandParams())
        except Nip47Error as error:
            return error

    def command(self, number: int = 1, key: str = KEY) -> Command:
        """Return the command that lightningd got for a request."""
        return self.lightningd.commands[request_label(key[:16], f"{number:064x}")]

    def begin(self, command: Command) -> None:
        self.lightningd.begin_part(command, 10)

    def finish(self, command: Command) -> None:
        self._act(lambda: self.lightningd.finish(command))

    def fail(
        self, command: Command, code: int = 210, *, is_over: bool = True, reason: str | None = None
    ) -> None:
        self._act(lambda: self.lightningd.fail(command, code, is_over=is_over, reason=reason))

    def hang_up(self, command: Command) -> None:
        self._act(lambda: self.lightningd.hang_up(command))

    def _act(self, action: Any) -> None:
        async def act() -> None:
            action()
            await asyncio.sleep(A_MOMENT_S)

        self.run(act())

    def ledger(self, key: str = KEY) -> Ledger:
        """Return a ledger as stored."""
        stored = self.lightningd.datastore.get(("nwc", "ledgers", key))
        return parse_ledger(stored[0]) if stored else Ledger()

    def sends(self) -> int:
        """Return how many paying commands lightningd got."""
        return len(self.lightningd.called("pay")) + len(self.lightningd.called("keysend"))

    def grant(self, budget: Budget, key: str = KEY, **fields: Any) -> None:
        self.connections[key] = connection(budget, key, **fields)


def invoice(number: int = 1, name: str = "x", **fields: Any) -> Payment:
    """Return a payment of an invoice of 100 msat, for a fee of at most 10."""
    preimage = preimage_of(name)
    return payment(number, invoice=f"{name}:100", payment_hash=hash_of(preimage), **fields)


def keysend(number: int = 1, **fields: Any) -> Payment:
    """Return a keysend of 100 msat, for a fee of at most 10."""
    given: dict[str, Any] = {"invoice": None, "payment_hash": None, "first_sendpay_index": 1}
    return payment(number, method="pay_keysend", **{**given, **fields})


AWAY = NodeUnavailableError("away")
