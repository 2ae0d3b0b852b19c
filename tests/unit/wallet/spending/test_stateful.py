"""Ledgers and payments under everything that can happen to them, in any order.

At any time, no more leaves the node than was granted, all that left it is booked or reserved, and no
request is paid twice. When nothing is in flight any more, the ledgers are exact. HYPOTHESIS_PROFILE=long
tries more.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any, TypeVar
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nwc.cln.errors import NodeError
from nwc.cln.node import DatastoreKey
from nwc.cln.payer import Payer
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.budget import Budget, BudgetKind, Renewal
from nwc.wallet.connections.record import Connection, View
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
from tests.unit.helpers import Errors
from tests.unit.virtual_loop import VirtualLoop
from tests.unit.wallet.spending.simulation import (
    Command,
    SimulatedLightningd,
    Trouble,
    hash_of,
    preimage_of,
)

T = TypeVar("T")
START = 1_700_000_000
KEYS = ("a1" * 32, "b2" * 32)
MANY = 100
# Longer than anything that the plugin waits for.
REST_S = 1000.0
AMOUNTS_MSAT = st.sampled_from([1, 10, 60, 100])
FEES_MSAT = st.sampled_from([0, 1, 10, 60])

# The issuer of the second one makes all its invoices with one payment hash.
OFFERS = ("o", "r")
NAMES = st.none() | st.sampled_from(["x", "y", "z", *OFFERS])

Outcome = PaymentRecord | Nip47Error


class Fate(Enum):
    """What happens to a payment."""

    BEGIN = "a part begins"
    COMPLETE = "a part is paid"
    RETURN = "a part fails"
    FINISH = "all is paid, and the command succeeds"
    FAIL = "the command fails"
    CUT_OFF = "the answer is lost"
    WAIT = "a moment passes"
    WAIT_LONG = "most of a minute passes"
    CRASH = "the plugin crashes"
    AWAY = "the next call is not answered"
    LOST = "the answer to the next call is lost"
    RENEWAL = "every period is over"


# How a payment begins; anything can follow. Without these, sequences of more than three steps are rare.
BEGINNINGS = (
    (),
    (Fate.BEGIN, Fate.FAIL),
    (Fate.BEGIN, Fate.RETURN, Fate.FAIL),
    (Fate.BEGIN, Fate.CUT_OFF),
    (Fate.BEGIN, Fate.CRASH),
    (Fate.FINISH,),
)
# After each event: this many steps of the loop, or (None) all that need no waiting.
TURNS = st.integers(0, 25) | st.none()


@dataclass
class Asked:
    """A request, and its outcome for each delivery.

    Attributes:
        key: the client key.
        name: of the invoice or, in OFFERS, of the offer; None for a keysend.
        budgets_seen: how many budgets its connection had had at the first delivery.
        early: the outcomes that were given while a part was still pending.

    """

    id: str
    key: str
    name: str | None
    amount_msat: int
    max_fee_msat: int
    budgets_seen: int
    outcomes: list[Outcome] = field(default_factory=list)
    early: list[Outcome] = field(default_factory=list)


class Clock:
    """The `time` of the modules: the loop's time plus the error of the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.off_s = 0

    def time(self) -> float:
        return START + self._loop.time() + self.off_s


class Spending(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.unhandled: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.unhandled.append(str(context)))
        self.clock = Clock(self.loop)
        self.errors = Errors()
        self.exit = ExitStack()
        for module in (payments_module, sender_module):
            self.exit.enter_context(patch.object(module, "time", self.clock))
        self.exit.callback(logging.getLogger("nwc").removeHandler, self.errors)
        logging.getLogger("nwc").addHandler(self.errors)

        self.lightningd = SimulatedLightningd(self.loop)
        self.lightningd.on_write = self.on_write
        self.lightningd.on_command = self.on_command
        self.connections: dict[str, Connection] = {}
        self.budgets: dict[str, list[Budget]] = {key: [] for key in KEYS}
        self.received_msat: dict[str, int] = defaultdict(int)
        self.pay_index = 0
        self.asked: list[Asked] = []
        self.waiting: set[asyncio.Task[None]] = set()
        # By request: the period in which its reservation ended.
        self.ended_in: dict[str, int] = {}
        # Requests sent before the ledger of their revoked connection was deleted.
        self.forgotten: set[str] = set()
        self.notified: set[str] = set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # What must hold whenever something is written or sent

    def of_key(self, key: str) -> list[tuple[str, Command]]:
        """Return the commands of a connection that its current ledger covers, with their requests."""
        found = [(label.split(":")[2], c) for label, c in self.lightningd.commands.items()]
        ids = {asked.id for asked in self.asked if asked.key == key} - self.forgotten
        return [(id_, command) for id_, command in found if id_ in ids]

    def stored(self, key: str) -> Ledger:
        record = self.lightningd.datastore.get(("nwc", "ledgers", key))
        return parse_ledger(record[0]) if record else Ledger()

    def on_write(self, name: DatastoreKey, old: str | None, new: str | None) -> None:
        if name[:2] != ("nwc", "ledgers"):
            return
        key = name[2]
        before = parse_ledger(old) if old else Ledger()
        if new is None:
            assert not before.reservations
            # Requests of the connection that has this key now are not among them: none is sent yet.
            self.forgotten |= {id_ for id_, _ in self.of_key(key)}
            self.received_msat[key] = 0
            return
        after = parse_ledger(new)
        assert after.period_started_at >= before.period_started_at
        for id_ in before.reservations.keys() - after.reservations.keys():
            self.ended_in[id_] = after.period_started_at
        for id_ in after.reservations.keys() - before.reservations.keys():
            self.check_granted(key, id_, after)

    def check_granted(self, key: str, request_id: str, ledger: Ledger) -> None:
        """Check that a new reservation, with all that was sent, is within what was granted."""
        asked = next(asked for asked in self.asked if asked.id == request_id)
        now = self.loop.time()
        ended = [(id_, c) for id_, c in self.of_key(key) if id_ not in ledger.reservations]
        assert all(not c.may_begin(now) and not c.active("pending") for _, c in ended)
        in_period = [c.sent_msat() for id_, c in ended if self.ended_in[id_] == ledger.period_started_at]
        ever = [c.sent_msat() for _, c in ended]
        budgets = self.budgets[key][asked.budgets_seen - 1 :]
        assert any(
            budget.kind is BudgetKind.UNLIMITED
            or (
                budget.kind is BudgetKind.AMOUNT
                and sum(in_period) + ledger.reserved_msat <= budget.amount_msat
            )
            or (
                budget.kind is BudgetKind.RECEIVED
                and sum(ever) + ledger.reserved_msat <= self.received_msat[key]
            )
            for budget in budgets
        ), "more than was granted"

    def on_command(self, command: Command) -> None:
        _, connection_id, request_id = command.label.split(":")
        [key] = [key for key in KEYS if key.startswith(connection_id)]
        reserved = self.stored(key).reservations[request_id]
        assert command.amount_msat + command.max_fee_msat <= reserved.reserved_msat

    # The plugin

    @initialize(
        amount_msat=st.sampled_from([60, 130, 300]),
        renewal=st.sampled_from(Renewal),
    )
    def begin(self, amount_msat: int, renewal: Renewal) -> None:
        self.grant(KEYS[0], Budget(BudgetKind.AMOUNT, amount_msat, renewal, START))
        self.grant(KEYS[1], Budget(BudgetKind.RECEIVED, since=START))
        self.run(self.boot())
        self.receive(200)

    async def boot(self) -> None:
        node = self.lightningd
        self.payments = Payments(
            Payer(node),
            Ledgers(node),
            PaymentRecords(node),
            CircuitBreaker(node),
            Refusals(node),
            connection_of=self.connections.get,
            notify=self.notify,
            answer=self.answer,
        )
        while True:
            with suppress(NodeError):
                await self.payments.load(is_node_start=False)
                break
        self.payments.start()

    async def notify(self, connection_id: str, record: PaymentRecord) -> None:
        await self.lightningd.call("help", command="pay")
        self.notified.add(record.payment.request_id)

    async def answer(self, key: str, record: PaymentRecord) -> None:
        [asked] = [asked for asked in self.asked if asked.id == record.payment.request_id]
        asked.outcomes.append(record)

    def grant(self, key: str, budget: Budget) -> None:
        view = View.NODE if key == KEYS[1] else View.OWN
        self.budgets[key].append(budget)
        self.connections[key] = Connection("app", key, ("wss://r",), START, view=view, budget=budget)

    async def ask(self, asked: Asked) -> None:
        """Ask as the handlers of pay_invoice and pay_keysend do."""
        connection = self.connections.get(asked.key)
        if connection is None:
            return
        payer = self.payments.payer
        try:
            record = await self.payments.previous_outcome(connection, asked.id, START)
            has_no_hash = asked.name is None or asked.name in OFFERS
            first_index = await payer.next_sendpay_index() if has_no_hash else 0
        except NodeError:
            return  # a request that only reads fails in the same way
        except Nip47Error as error:
            asked.outcomes.append(error)
            return
        try:
            wanted = self.wanted(asked, first_index)
            fetch = partial(self.fetch, asked.name or "") if wanted.is_bolt12 else None
            record = record or await self.payments.pay(connection, wanted, CommandParams(), fetch)
            asked.outcomes.append(record)
            if self.payments.is_in_flight(asked.key, record.payment.request_id):
                asked.early.append(record)
        except Nip47Error as error:
            asked.outcomes.append(error)

    async def fetch(self, offer: str, wanted: Payment) -> tuple[Payment, CommandParams]:
        label = request_label(wanted_key(self.asked, wanted)[:16], wanted.request_id)
        assert label not in self.lightningd.commands, "a request that was sent fetches another invoice"
        payer, amount_msat = self.payments.payer, wanted.amount_msat
        invoice = await payer.fetch_invoice(offer, amount_msat=amount_msat, payer_note=None)
        payment_hash = hash_of(preimage_of(invoice.split(":")[0]))
        return replace(wanted, payment_hash=payment_hash, invoice=invoice), CommandParams()

    def wanted(self, asked: Asked, first_index: int) -> Payment:
        is_bolt12 = asked.name in OFFERS
        name = None if is_bolt12 else asked.name
        return Payment(
            request_id=asked.id,
            request_created_at=START,
            method="pay" if is_bolt12 else "pay_keysend" if name is None else "pay_invoice",
            is_bolt12=is_bolt12,
            encryption="nip44_v2",
            created_at=int(self.clock.time()),
            amount_msat=asked.amount_msat,
            max_fee_msat=asked.max_fee_msat,
            payment_hash=None if name is None else hash_of(preimage_of(name)),
            invoice=None if name is None else f"{name}:{asked.amount_msat}",
            destination="02",
            first_sendpay_index=first_index,
        )

    def give(self, asked: Asked) -> None:
        task = self.loop.create_task(self.ask(asked))
        self.waiting.add(task)

    # Rules: what apps, the owner and other people do

    @rule(
        key=st.sampled_from(KEYS),
        name=NAMES,
        amount_msat=AMOUNTS_MSAT,
        max_fee_msat=FEES_MSAT,
    )
    def request(self, key: str, name: str | None, amount_msat: int, max_fee_msat: int) -> None:
        self.new_request(key, name, amount_msat, max_fee_msat)

    def new_request(self, key: str, name: str | None, amount_msat: int, max_fee_msat: int) -> Asked:
        id_ = f"{len(self.asked):064x}"
        if name is not None and name not in OFFERS:  # an invoice has one amount
            amount_msat = {"x": 10, "y": 60, "z": 100}[name]
        asked = Asked(id_, key, name, amount_msat, max_fee_msat, len(self.budgets[key]))
        self.asked.append(asked)
        self.give(asked)
        return asked

    @rule(
        key=st.sampled_from(KEYS),
        name=NAMES,
        amount_msat=AMOUNTS_MSAT,
        max_fee_msat=FEES_MSAT,
        beginning=st.sampled_from(BEGINNINGS),
        events=st.lists(st.tuples(st.sampled_from(Fate), TURNS), max_size=5),
    )
    def payment(
        self,
        key: str,
        name: str | None,
        amount_msat: int,
        max_fee_msat: int,
        beginning: tuple[Fate, ...],
        events: list[tuple[Fate, int | None]],
    ) -> None:
        """Make a request, and let events happen to its payment."""
        asked = self.new_request(key, name, amount_msat, max_fee_msat)
        self.some_turns(None)
        for event, turns in [*((event, 5) for event in beginning), *events]:
            self.happen_to(asked, event)
            self.some_turns(turns)

    def some_turns(self, turns: int | None) -> None:
        async def go_on() -> None:
            for _ in range(turns or 0):
                await asyncio.sleep(0)

        self.run(asyncio.sleep(0.01) if turns is None else go_on())

    def happen_to(self, asked: Asked, event: Fate) -> None:
        match event:
            case Fate.AWAY | Fate.LOST:
                self.lightningd.troubles.append(Trouble[event.name])
            case Fate.RENEWAL:
                self.clock.off_s += 32_000_000
            case Fate.WAIT:
                self.run(asyncio.sleep(0.9))
            case Fate.WAIT_LONG:
                self.run(asyncio.sleep(45))
            case Fate.CRASH:
                self.crash(lands=True)
            case _:
                command = self.lightningd.commands.get(request_label(asked.key[:16], asked.id))
                if command is not None:
                    self.happen_to_command(command, event)

    def happen_to_command(self, command: Command, event: Fate) -> None:
        node = self.lightningd
        match event:
            case Fate.BEGIN:
                node.begin_part(command, 5)
            case Fate.COMPLETE | Fate.RETURN:
                node.end_part(command, 0, complete=event is Fate.COMPLETE)
            case Fate.FINISH:
                self.run(self.act(lambda: node.finish(command)))
            case Fate.FAIL:
                self.run(self.act(lambda: node.fail(command, 210)))
            case Fate.CUT_OFF:
                self.run(self.act(lambda: node.hang_up(command)))

    @rule(number=st.integers(0, 1000))
    def same_request_again(self, number: int) -> None:
        if self.asked:
            asked = self.asked[-1 - number % len(self.asked)]
            # With a deleted ledger, this model no longer knows what was sent before.
            if asked.id not in self.forgotten:
                self.give(asked)

    @rule(
        key=st.sampled_from(KEYS),
        kind=st.sampled_from(BudgetKind),
        amount_msat=st.sampled_from([60, 130, 300]),
        renewal=st.none() | st.sampled_from(Renewal),
    )
    def change_budget(
        self, key: str, kind: BudgetKind, amount_msat: int, renewal: Renewal | None
    ) -> None:
        old = self.budgets[key][-1]
        since = old.since if renewal is None else int(self.clock.time())
        self.grant(key, Budget(kind, amount_msat, renewal or old.renewal, since))

    @rule(key=st.sampled_from(KEYS))
    def revoke(self, key: str) -> None:
        if self.connections.pop(key, None) is not None:
            with suppress(NodeError):
                self.run(self.payments.forget_if_done(key))

    @rule(amount_msat=st.sampled_from([10, 100, 1000]))
    def receive(self, amount_msat: int) -> None:
        key = KEYS[1]
        self.pay_index += 1
        if key not in self.connections:
            return
        self.received_msat[key] += amount_msat  # it can be counted before we get an answer
        for _ in range(MANY):
            with suppress(NodeError):
                self.run(self.payments.receive(key, amount_msat, self.pay_index))
                return
        raise AssertionError("the received amount is not counted")

    # Rules: what lightningd, the clock and crashes do

    def commands(self) -> list[Command]:
        return list(self.lightningd.commands.values())

    def command(self, number: int) -> Command:
        """Return a command; newer ones are likelier."""
        return self.commands()[-1 - number % len(self.commands())]

    def is_paying(self) -> bool:
        return any(not c.answer.done() or c.may_begin(self.loop.time()) for c in self.commands())

    def is_pending(self) -> bool:
        return any(command.active("pending") for command in self.commands())

    @precondition(lambda self: self.is_paying())
    @rule(number=st.integers(0, 5), tenths=st.integers(1, 10))
    def part_begins(self, number: int, tenths: int) -> None:
        command = self.command(number)
        self.run(self.act(lambda: self.lightningd.begin_part(command, tenths)))

    @precondition(lambda self: self.is_pending())
    @rule(number=st.integers(0, 5), part=st.integers(0, 3), complete=st.booleans())
    def part_ends(self, number: int, part: int, complete: bool) -> None:
        command = self.command(number)
        self.lightningd.end_part(command, part, complete)

    @precondition(lambda self: self.is_paying())
    @rule(number=st.integers(0, 5))
    def command_succeeds(self, number: int) -> None:
        command = self.command(number)
        self.run(self.act(lambda: self.lightningd.finish(command)))

    @precondition(lambda self: self.is_paying())
    @rule(number=st.integers(0, 5), code=st.sampled_from([203, 205, 206, 210]), is_over=st.booleans())
    def command_fails(self, number: int, code: int, is_over: bool) -> None:
        command = self.command(number)
        self.run(self.act(lambda: self.lightningd.fail(command, code, is_over=is_over)))

    @precondition(lambda self: self.is_paying())
    @rule(number=st.integers(0, 5))
    def command_is_cut_off(self, number: int) -> None:
        command = self.command(number)
        self.run(self.act(lambda: self.lightningd.hang_up(command)))

    async def act(self, action: Any) -> None:
        action()

    @rule(troubles=st.lists(st.sampled_from(Trouble), max_size=6))
    def trouble(self, troubles: list[Trouble]) -> None:
        self.lightningd.troubles.extend(troubles)

    @rule(turns=st.integers(1, 12))
    def go_on(self, turns: int) -> None:
        self.some_turns(turns)

    @rule(seconds=st.sampled_from([0.1, 1.1, 5, 30, 49, 61, 130]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(seconds=st.sampled_from([-700_000, -90_000, -1, 40_000, 90_000, 700_000, 32_000_000]))
    def clock_jumps(self, seconds: int) -> None:
        self.clock.off_s = max(-START, self.clock.off_s + seconds)

    @rule(lands=st.booleans())
    def crash(self, lands: bool) -> None:
        self.run(self.stop())
        self.run(self.lightningd.crash(lands))
        self.run(self.boot())

    async def stop(self) -> None:
        for task in self.waiting:
            task.cancel()
        await asyncio.gather(*self.waiting, return_exceptions=True)
        self.waiting.clear()
        await self.payments.stop()

    # What must hold at any time

    @invariant()
    def what_is_sent_stands_in_the_books(self) -> None:
        now = self.loop.time()
        for key in KEYS:
            sent_msat = sum(c.exposure_msat(now) for _, c in self.of_key(key))
            ledger = self.stored(key)
            assert ledger.total_spent_msat + ledger.reserved_msat >= sent_msat

    @invariant()
    def nothing_goes_wrong_unseen(self) -> None:
        assert not self.errors.seen
        assert not self.unhandled
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.discard(task)
            task.result()

    @invariant()
    def answers_are_true_and_stay(self) -> None:
        complete = {part["payment_hash"] for part in self.lightningd._complete()}
        for asked in self.asked:
            self.check_kept(asked)
            for record in [o for o in asked.outcomes if isinstance(o, PaymentRecord) and o.is_settled]:
                assert record.payment.payment_hash in complete
                assert hash_of(record.preimage or "") == record.payment.payment_hash

    def check_kept(self, asked: Asked) -> None:
        """Check that a request whose payment has ended gets the same answer from then on.

        An answer given while a part is still pending is left out: it cannot know the whole cost.
        """
        if asked.id in {entry.request_id for entry in self.payments.records.all()}:
            own = [o for o in asked.outcomes if is_of(o, asked)]
            later = asked.outcomes[asked.outcomes.index(own[0]) :] if own else []
            final = [o for o in later if not any(o is early for early in asked.early)]
            assert len({answer_of(outcome) for outcome in final if not is_away(outcome)}) <= 1

    @rule()
    def all_comes_to_rest(self) -> None:
        self.lightningd.troubles.clear()

        async def end() -> None:
            for number, command in enumerate(self.lightningd.commands.values()):
                self.lightningd.fail(command, 210)
                self.lightningd.hang_up(command)
                while command.active("pending"):
                    self.lightningd.end_part(command, 0, complete=number % 2 == 0)
            await asyncio.sleep(REST_S)

        # Twice: a command can reach lightningd during the first round.
        self.run(end())
        self.run(end())
        self.nothing_goes_wrong_unseen()
        assert not self.waiting
        for key in KEYS:
            ledger = self.stored(key)
            assert not ledger.reservations
            assert not ledger.unannounced
            sent = {id_: command.sent_msat() for id_, command in self.of_key(key)}
            assert ledger.total_spent_msat == sum(sent.values())
        self.check_records()

    def check_records(self) -> None:
        sent = {label[-64:]: c.sent_msat() for label, c in self.lightningd.commands.items()}
        for asked in self.asked:
            record = self.run(self.payments.records.get(asked.key[:16], asked.id))
            assert (record.sent_msat if record else 0) == sent.get(asked.id, 0)
            if record is not None:
                assert record.is_settled == bool(record.sent_msat)
                assert not record.is_settled or asked.id in self.notified

    def teardown(self) -> None:
        try:
            if hasattr(self, "payments"):
                self.all_comes_to_rest()
                self.run(self.stop())
        finally:
            self.loop.end()
            self.exit.close()


def is_of(outcome: Outcome, asked: Asked) -> bool:
    """Return True if the outcome is of this request, not of another one that paid the same invoice."""
    return isinstance(outcome, PaymentRecord) and outcome.payment.request_id == asked.id


def is_away(outcome: Outcome) -> bool:
    """Return True if lightningd could not be asked."""
    return isinstance(outcome, Nip47Error) and outcome.code is ErrorCode.INTERNAL


def answer_of(outcome: Outcome) -> tuple[Any, ...]:
    """Return what the client gets as the answer."""
    if isinstance(outcome, Nip47Error):
        return outcome.code, outcome.message
    return (
        outcome.state,
        outcome.preimage,
        outcome.sent_msat,
        outcome.payer_proof,
        outcome.error_code,
        outcome.error_message,
    )


def wanted_key(asked: list[Asked], wanted: Payment) -> str:
    """Return the client key of the request that a payment is made for."""
    [key] = [one.key for one in asked if one.id == wanted.request_id]
    return key


TestSpending = Spending.TestCase
TestSpending.settings = settings(
    max_examples=5 * settings().max_examples,
    stateful_step_count=50,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
