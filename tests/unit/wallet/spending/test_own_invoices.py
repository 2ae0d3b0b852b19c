"""A connection that pays its own invoices: no order of debits, credits and crashes makes it richer.

lightningd settles such a payment and its invoice together. The plugin books the one and credits the
other later, each on its own.
"""

import asyncio
from collections import deque
from contextlib import suppress
from enum import Enum
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nwc.cln.errors import NodeError
from nwc.cln.node import Json
from nwc.nip47.errors import Nip47Error
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.spending.payment import CommandParams
from tests.unit.wallet.spending.bench import Bench
from tests.unit.wallet.spending.simulation import Command, Trouble, hash_of, preimage_of
from tests.unit.wallet.spending.values import DAY, KEY, START, amount, payment

# What was received from others, or the amount of the budget, in msat.
GRANTED = 100
LONG_S = 1000.0


class Event(Enum):
    PAY = "an own invoice is paid"
    PAY_AGAIN = "a further request pays the newest invoice"
    SETTLE = "lightningd settles a payment"
    SETTLE_UNSEEN = "lightningd settles a payment, but its answer is lost"
    FAIL = "lightningd refuses a payment"
    CREDIT = "the plugin handles the next paid invoice"
    CRASH = "the plugin crashes"
    CRASH_ALL = "lightningd and the plugin crash"
    TROUBLE = "the next call is not answered, though it took effect"
    WAIT = "two minutes pass"
    NEXT_DAY = "the budget renews"


class OwnInvoices(Bench):
    """A bench on which all invoices are the connection's own."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.grant(budget)
        # Paid invoices in the order of their pay_index, and how many of them are credited.
        self.paid: list[int] = []
        self.credited = 0
        self.asked = 0
        self.invoices: list[tuple[str, int]] = []
        self.waiting: deque[asyncio.Task[Any]] = deque()
        self.lightningd._listinvoices = self._listinvoices  # type: ignore[attr-defined]
        if budget.kind is BudgetKind.RECEIVED:
            self.paid.append(GRANTED)
            self.credit()

    def _listinvoices(self, payment_hash: str) -> Json:
        complete = {part["payment_hash"] for part in self.lightningd._complete()}
        return {"invoices": [{"status": "paid" if payment_hash in complete else "unpaid"}]}

    def credit(self) -> None:
        if self.credited < len(self.paid):
            with suppress(NodeError):  # it is handled again
                amount_msat = self.paid[self.credited]
                self.run(self.payments.receive(KEY, amount_msat, self.credited + 1))
                self.credited += 1

    def ask(self, amount_msat: int, *, again: bool) -> None:
        if not again or not self.invoices:
            self.invoices.append((f"own{len(self.invoices)}", amount_msat))
        name, amount_msat = self.invoices[-1]
        self.asked += 1
        wanted = payment(
            self.asked,
            invoice=f"{name}:{amount_msat}",
            payment_hash=hash_of(preimage_of(name)),
            amount_msat=amount_msat,
            max_fee_msat=0,
        )
        paying = self.payments.pay(self.connections[KEY], wanted, CommandParams(is_own=True))
        task = self.loop.create_task(paying)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.waiting.append(task)
        self.wait()

    def open_commands(self) -> list[Command]:
        now = self.loop.time()
        return [c for c in self.lightningd.commands.values() if c.may_begin(now)]

    def settle(self, *, unseen: bool) -> None:
        for command in self.open_commands()[-1:]:
            self.paid.append(command.amount_msat)
            if unseen:
                self.begin(command)
                self.lightningd.end_part(command, 0, complete=True)
                self.hang_up(command)
            else:
                self.finish(command)

    def refuse(self) -> None:
        for command in self.open_commands()[-1:]:
            self.fail(command, 203)

    def restart(self, *, with_node: bool) -> None:
        for task in self.waiting:
            task.cancel()
        self.run(self.lightningd.crash(lands=True))
        self.lightningd.troubles.clear()
        self.crash(with_node=with_node)

    def happen(self, event: Event, amount_msat: int) -> None:
        match event:
            case Event.PAY | Event.PAY_AGAIN:
                self.ask(amount_msat, again=event is Event.PAY_AGAIN)
            case Event.SETTLE | Event.SETTLE_UNSEEN:
                self.settle(unseen=event is Event.SETTLE_UNSEEN)
            case Event.FAIL:
                self.refuse()
            case Event.CREDIT:
                self.credit()
            case Event.CRASH | Event.CRASH_ALL:
                self.restart(with_node=event is Event.CRASH_ALL)
            case Event.TROUBLE:
                self.lightningd.troubles.append(Trouble.LOST)
            case Event.WAIT:
                self.wait(120)
            case Event.NEXT_DAY:
                self.wait(DAY)

    def come_to_rest(self) -> None:
        self.lightningd.troubles.clear()
        # Twice: a command can reach lightningd during the first round.
        for _ in range(2):
            while self.open_commands():
                self.refuse()
            for command in self.lightningd.commands.values():
                self.hang_up(command)
            self.wait(LONG_S)
        while self.credited < len(self.paid):
            self.credit()


EVENTS = st.lists(st.tuples(st.sampled_from(Event), st.sampled_from([1, 60, GRANTED])), max_size=25)


@given(EVENTS)
def test_a_connection_that_spends_what_it_receives_does_not_gain(
    events: list[tuple[Event, int]],
) -> None:
    bench = OwnInvoices(Budget(BudgetKind.RECEIVED, since=START))
    try:
        for event, amount_msat in events:
            bench.happen(event, amount_msat)
            ledger = bench.ledger()
            left_msat = ledger.received_msat - ledger.total_spent_msat - ledger.reserved_msat
            assert 0 <= left_msat <= GRANTED
        bench.come_to_rest()
        ledger = bench.ledger()
        assert not ledger.reservations
        assert ledger.total_spent_msat == sum(bench.paid[1:]), "each payment is booked once"
        assert ledger.received_msat == sum(bench.paid), "each invoice is credited once"
    finally:
        bench.close()


@given(EVENTS)
def test_a_connection_with_an_amount_a_day_gets_nothing_back(events: list[tuple[Event, int]]) -> None:
    bench = OwnInvoices(amount(GRANTED, Renewal.DAILY))
    try:
        for event, amount_msat in events:
            bench.happen(event, amount_msat)
            days = int(bench.time() - START) // DAY + 1
            assert sum(bench.paid) <= days * GRANTED
            ledger, budget = bench.ledger(), bench.connections[KEY].budget
            spent_msat = ledger.spent_at(budget, bench.time())
            assert ledger.left(budget, bench.time()) == GRANTED - spent_msat - ledger.reserved_msat >= 0
        bench.come_to_rest()
        assert bench.ledger().total_spent_msat == sum(bench.paid)
    finally:
        bench.close()


def test_a_refused_request_is_an_error() -> None:
    bench = OwnInvoices(Budget(BudgetKind.RECEIVED, since=START))
    bench.ask(GRANTED + 1, again=False)
    assert isinstance(bench.waiting[-1].exception(), Nip47Error)
    assert bench.sends() == 0
    bench.close()
