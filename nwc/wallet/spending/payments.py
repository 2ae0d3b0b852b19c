"""Payments: reserve, send, see how it ends, book. Each exactly once, whatever crashes in between.

Theory of operation
-------------------
A payment runs in a task of its own, so that it goes on when the client's patience, or its request, ends:

1. A request whose payment has ended gets the same answer again; one that is under way, or pays an
   invoice that is under way, waits for that.
2. *Reserve*: one write of the connection's ledger. From here on a crash leaves a reservation.
3. *Send*: lightningd gets the same limit on the fee as stands in the ledger.
4. *How it ended*: a success is one. An error is only the end of lightningd's attempts; a part may still
   be under way, or about to begin. Then, and when there was no answer, or one that cannot be read,
   `listsendpays` is asked until no part is pending.
5. *End*: the record of the payment, then the ledger (booked or released). Both can be done twice.

After a start every reservation is followed from step 4 on, or from step 5 where there is a record.
Where lightningd knows of no part, the command that was given before the crash may still be looking for a
route; so the reservation is released only when lightningd has had all the time it was given, and more.
That time runs from our start, not by the clock. What is booked and not yet told is told and answered,
for the second time perhaps.
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from nwc.cln.errors import NodeError, NodeUnavailable, RpcFailed
from nwc.cln.insist import insist
from nwc.cln.node import Json
from nwc.cln.payments import Parts, Payer, Sent
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.tasks import Tasks
from nwc.wallet.connections import Connection, View
from nwc.wallet.spending.budget import Budget, BudgetKind
from nwc.wallet.spending.failure import failure_of, is_insufficient
from nwc.wallet.spending.ledger import BadLedger, Ledger, OverBudget
from nwc.wallet.spending.ledgers import Ledgers
from nwc.wallet.spending.payment import Payment, PaymentRecord, PaymentState
from nwc.wallet.spending.payment_records import (
    MAX_FAILED_KEPT,
    MAX_SETTLED_KEPT,
    PaymentRecords,
    UnreadableRecord,
)

# Apps wait for a minute; so long lightningd may begin new attempts.
RETRY_FOR_S = 50
# How much longer a command of before a crash may take to begin with its first part.
UNSENT_GRACE_S = 60.0
# Payments in flight. The first of each connection has a place of its own, which others cannot take; all
# further ones share some. In all there are as many as lightningd is given commands for (nwc.cln.node).
MAX_PER_CONNECTION = 20
MAX_SHARED = 64
MAX_IN_ALL = 256
# How long a request waits for the books to be read after a start. Apps wait for a minute.
START_PATIENCE_S = 20.0
# `xpay` can answer with an error while it has yet to begin a part whose way is being reserved.
AFTER_ERROR_S = 2.0
_POLL_FIRST_S = 0.5
_POLL_MAX_S = 10.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Send = Callable[[Payment], Awaitable[Json]]
Outcome = PaymentRecord | Nip47Error
# The work of a payment; it may set the outcome earlier than it ends.
Run = Callable[[asyncio.Future[Outcome]], Coroutine[Any, Any, Outcome]]


def payment_label(connection_id: str, request_id: str) -> str:
    """Return the label of a payment in lightningd's own list."""
    return f"nwc:{connection_id}:{request_id}"


class Payments:
    """All payments of all connections.

    Args:
        payer: pays.
        ledgers: the books.
        records: what has ended.
        connection_of: returns the connection of a client key as it is now, None when it is revoked.
        tell: tells the apps of a settled payment of a connection (by its id); returns when they are
            told, or it is certain that they will be; raises NodeError when neither can be done now.
        answer_late: answers a request (of a client key) that an earlier run of the plugin has taken.
        is_stored: True if there is a record of the connection of a client key, though it is not served;
            its ledger stays then.

    """

    def __init__(
        self,
        payer: Payer,
        ledgers: Ledgers,
        records: PaymentRecords,
        connection_of: Callable[[str], Connection | None],
        tell: Callable[[str, PaymentRecord], Awaitable[None]],
        answer_late: Callable[[str, PaymentRecord], Awaitable[None]],
        is_stored: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.payer = payer
        self.ledgers = ledgers
        self.records = records
        self._connection_of = connection_of
        self._tell_apps = tell
        self._answer_late = answer_late
        self._is_stored = is_stored
        self._tasks = Tasks()
        # By request, and by payment hash: whose it is and what comes of it.
        self._under_way: dict[str, tuple[str, asyncio.Future[Outcome]]] = {}
        # By client key; and the requests that are counted there.
        self._in_flight: Counter[str] = Counter()
        self._placed: set[str] = set()
        self._loaded: dict[str, Ledger] = {}
        self._is_started = asyncio.Event()
        # Requests of before the start that have come again, and so get their answer in the usual way.
        self._came_again: set[str] = set()

    async def load(self) -> None:
        """Read the ledgers. Until `start`, requests may come, but nothing is paid.

        Raises:
            NodeError: lightningd is away.

        """
        self._loaded = await self.ledgers.load()

    @property
    def is_started(self) -> bool:
        """True if the books are read, so that payments can be made."""
        return self._is_started.is_set()

    def start(self) -> None:
        """Follow what was under way, and pay from now on.

        To be called when it is known which connections there are: a ledger without one is that of a
        revoked connection.
        """
        self._is_started.set()
        for client_pubkey, ledger in self._loaded.items():
            for payment in ledger.reservations.values():
                self._take_place(client_pubkey, payment.request_id)
                self._start(client_pubkey, payment, partial(self._resume, client_pubkey, payment))
            for request_id in ledger.untold:
                # What was not told may not have been answered either: both came after the booking.
                self._tasks.spawn(self._answer_untold(client_pubkey, request_id))
                self._tasks.spawn(self._tell(client_pubkey, request_id))
            is_done = not ledger.reservations and not ledger.untold
            if is_done and self._is_revoked(client_pubkey):
                self._tasks.spawn(self._insist(partial(self.forget_if_done, client_pubkey)))
        self._loaded = {}

    async def stop(self) -> None:
        """End. What is under way goes on in lightningd, and is followed after the next start."""
        await self._tasks.finish(0)

    async def metadata_of(self, payment_hash: str) -> Json | None:
        """Return the metadata of the payment with this hash, whichever connection has made it.

        Raises:
            NodeError: lightningd is away.

        """
        entry = self.records.with_hash(payment_hash)
        try:
            record = await self.records.get(entry.connection_id, entry.request_id) if entry else None
        except UnreadableRecord:
            return None
        return record.payment.metadata if record else None

    async def pay(self, connection: Connection, wanted: Payment, send: Send) -> PaymentRecord:
        """Make a payment, however long it takes, and return how it ended.

        Args:
            connection: who pays.
            wanted: what to pay; the limit on the fee is lowered to what is left of the budget.
            send: gives lightningd the command; is awaited once, or not at all.

        Raises:
            Nip47Error: nothing was sent, and nothing will be.

        """
        outcome = self._same(connection, wanted)
        if outcome is None:
            run = partial(self._run, connection, wanted, send)
            outcome = self._start(connection.client_pubkey, wanted, run)
        elif _request_name(connection.client_pubkey, wanted.request_id) in self._under_way:
            self._came_again.add(wanted.request_id)
        return await _record_of(outcome)

    async def come_before(self, connection: Connection, request_id: str) -> PaymentRecord | None:
        """Return how the payment of a request that came before ended, however long it takes; None for
        a new request, or one for which nothing was sent.

        Raises:
            Nip47Error: as `pay`; INTERNAL when the books are not read yet.
            NodeError: lightningd is away.

        """
        await self._until_started()
        name = _request_name(connection.client_pubkey, request_id)
        if name in self._under_way:
            self._came_again.add(request_id)
            return await _record_of(self._under_way[name][1])
        try:
            return await self.records.get(connection.id, request_id)
        except UnreadableRecord:
            _log.exception("a request of %r was refused", connection.name)
            raise _UNREADABLE from None

    # One payment after the other: which are under way

    def _same(self, connection: Connection, wanted: Payment) -> asyncio.Future[Outcome] | None:
        """Return what is under way for the same request or the same payment hash."""
        for name in _names(connection.client_pubkey, wanted):
            if name in self._under_way:
                client_pubkey, outcome = self._under_way[name]
                if client_pubkey != connection.client_pubkey:
                    raise Nip47Error(ErrorCode.PAYMENT_FAILED, _PAID_ALREADY)
                return outcome
        return None

    def _start(self, client_pubkey: str, payment: Payment, run: Run) -> asyncio.Future[Outcome]:
        outcome = asyncio.get_running_loop().create_future()
        task = self._tasks.spawn(run(outcome))
        names = _names(client_pubkey, payment)
        self._under_way |= dict.fromkeys(names, (client_pubkey, outcome))
        task.add_done_callback(lambda _: self._done(client_pubkey, payment, names))
        task.add_done_callback(partial(_pass_on, outcome))
        return outcome

    def _done(self, client_pubkey: str, payment: Payment, names: tuple[str, ...]) -> None:
        self._came_again.discard(payment.request_id)
        for name in names:
            del self._under_way[name]
        self._leave_place(client_pubkey, payment.request_id)

    async def _until_started(self) -> None:
        try:
            async with asyncio.timeout(START_PATIENCE_S):
                await self._is_started.wait()
        except TimeoutError:
            raise _STILL_STARTING from None

    def _check_bounds(self, client_pubkey: str) -> None:
        """Bound the payments in flight, since one can last for days, and the records that are kept."""
        own = self._in_flight[client_pubkey]
        shared = self._in_flight.total() - len(self._in_flight)
        if (
            own >= MAX_PER_CONNECTION
            or (own and shared >= MAX_SHARED)
            or self._in_flight.total() >= MAX_IN_ALL
        ):
            whose = "of this connection " if own >= MAX_PER_CONNECTION else ""
            raise Nip47Error(
                ErrorCode.RATE_LIMITED, f"too many payments {whose}are under way; try again later"
            )
        if self.records.count_failed(client_pubkey[:16]) >= MAX_FAILED_KEPT:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED, "too many payments of this connection have failed; try tomorrow"
            )
        if self.records.count_settled(client_pubkey[:16]) >= MAX_SETTLED_KEPT:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "this connection has made too many payments in two days; try tomorrow",
            )

    def _take_place(self, client_pubkey: str, request_id: str) -> None:
        self._placed.add(_request_name(client_pubkey, request_id))
        self._in_flight[client_pubkey] += 1

    def _leave_place(self, client_pubkey: str, request_id: str) -> None:
        """Give up the place of a payment; a request that was refused has had none."""
        name = _request_name(client_pubkey, request_id)
        if name not in self._placed:
            return
        self._placed.discard(name)
        self._in_flight[client_pubkey] -= 1
        if not self._in_flight[client_pubkey]:
            del self._in_flight[client_pubkey]

    # The way of a payment

    async def _run(
        self, connection: Connection, wanted: Payment, send: Send, outcome: asyncio.Future[Outcome]
    ) -> Outcome:
        try:
            ended = await self._before(connection, wanted)
            if ended is not None:
                return ended
            self._check_bounds(connection.client_pubkey)
            self._take_place(connection.client_pubkey, wanted.request_id)
            payment = await self._reserve(connection.client_pubkey, wanted)
        except Nip47Error as error:
            return error
        except NodeError as error:
            _log.debug("a payment of %r was not begun: %s", connection.name, error)
            return await self._give_up(connection, wanted, _NOT_BEGUN, outcome)
        except (BadLedger, UnreadableRecord):
            _log.exception("a payment of %r was refused: its books cannot be read", connection.name)
            return _UNREADABLE
        try:
            self._budget_of(connection.client_pubkey, time.time())
        except Nip47Error as error:  # revoked while lightningd wrote
            return await self._give_up(connection, wanted, error, outcome)
        record = await self._send(connection.client_pubkey, payment, send)
        await self._end(connection.client_pubkey, record)
        return record

    async def _before(self, connection: Connection, wanted: Payment) -> PaymentRecord | None:
        """Return how this payment ended before, None when it did not."""
        ended = await self.records.get(connection.id, wanted.request_id)
        if ended is not None or wanted.payment_hash is None:
            return ended
        entry = self.records.with_hash(wanted.payment_hash, connection.id)
        if entry is not None and entry.is_settled:
            return await self.records.get(connection.id, entry.request_id)
        parts = await self.payer.parts_by_hash(wanted.payment_hash)
        if parts.is_pending or (parts.sent and connection.view is not View.NODE):
            raise Nip47Error(ErrorCode.PAYMENT_FAILED, _PAID_ALREADY)
        return _settled(wanted, parts.sent) if parts.sent else None

    async def _reserve(self, client_pubkey: str, wanted: Payment) -> Payment:
        """Set aside what the payment may cost, by the budget as it is at this moment."""
        now = time.time()

        def change(ledger: Ledger) -> Ledger:
            budget = self._budget_of(client_pubkey, now)
            _check_cap(budget, wanted)
            left = ledger.left(budget, now)
            max_fee_msat = wanted.max_fee_msat
            if left is not None:
                max_fee_msat = max(0, min(max_fee_msat, left - wanted.amount_msat))
            try:
                reserved = replace(
                    wanted, max_fee_msat=max_fee_msat, reserved_at_us=int(now * 1_000_000)
                )
                return ledger.reserve(reserved, budget, now)
            except OverBudget as error:
                raise _over_budget(budget, error.left_msat, now) from None

        return (await self.ledgers.change(client_pubkey, change)).reservations[wanted.request_id]

    async def _give_up(
        self, connection: Connection, wanted: Payment, why: Nip47Error, outcome: asyncio.Future[Outcome]
    ) -> Nip47Error:
        """End a payment of which nothing was sent, and take back what is reserved for it."""
        # At once: until lightningd is back nobody can tell whether something is reserved.
        outcome.set_result(why)
        await self._release(connection.client_pubkey, wanted.request_id)
        return why

    async def _release(self, client_pubkey: str, request_id: str) -> None:
        """Take back a reservation that may have been made although lightningd has not said so."""
        with suppress(BadLedger):
            await self._insist(
                lambda: self.ledgers.change(client_pubkey, lambda ledger: ledger.release(request_id))
            )

    def _budget_of(self, client_pubkey: str, now: float) -> Budget:
        connection = self._connection_of(client_pubkey)
        if connection is None or connection.has_expired(now):
            raise Nip47Error(ErrorCode.UNAUTHORIZED, "this connection has ended")
        return connection.budget

    async def _send(self, client_pubkey: str, payment: Payment, send: Send) -> PaymentRecord:
        try:
            return _settled(payment, _sent(payment, await send(payment)))
        except RpcFailed as error:
            failure = await self._failure_of(error, payment)
        except NodeUnavailable:
            failure = None
        except Exception:
            # Whatever it is, lightningd may be paying: the payment must not be lost sight of.
            _log.exception("the answer to a payment was not understood")
            failure = None
        return await self._follow(client_pubkey, payment, failure)

    async def _failure_of(self, error: RpcFailed, payment: Payment) -> Nip47Error:
        if is_insufficient(error) and await self._is_short_of_funds(payment):
            return _INSUFFICIENT
        return failure_of(error, payment)

    async def _is_short_of_funds(self, payment: Payment) -> bool:
        try:
            return await self.payer.spendable_msat() < payment.amount_msat
        except (NodeError, KeyError, TypeError):
            return False

    async def _resume(self, client_pubkey: str, payment: Payment, _: asyncio.Future[Outcome]) -> Outcome:
        """Follow a payment of before the start to its end, and answer its request."""
        record = await self._ended_before(client_pubkey, payment)
        if record is None:
            record = await self._follow(client_pubkey, payment, None)
        await self._end(client_pubkey, record)
        if payment.request_id not in self._came_again:
            await self._answer_late(client_pubkey, record)
        return record

    async def _ended_before(self, client_pubkey: str, payment: Payment) -> PaymentRecord | None:
        """Return the record of a payment that only its ledger does not know to have ended."""
        try:
            return await self._insist(lambda: self.records.get(client_pubkey[:16], payment.request_id))
        except UnreadableRecord:
            return None

    async def _follow(
        self, client_pubkey: str, payment: Payment, failure: Nip47Error | None
    ) -> PaymentRecord:
        """Ask lightningd until the payment has ended.

        Args:
            client_pubkey: who pays.
            payment: reserved, and given to lightningd or not.
            failure: what the client is to be told if nothing of it is complete; None when nobody knows
                whether lightningd is still at it.

        """
        loop = asyncio.get_running_loop()
        unsent_until = loop.time() + (AFTER_ERROR_S if failure else RETRY_FOR_S + UNSENT_GRACE_S)
        delay = _POLL_FIRST_S
        while True:
            asked_at = loop.time()
            parts = await self._insist(lambda: self._parts(client_pubkey, payment))
            if not parts.is_pending:
                if parts.sent is not None:
                    return _settled(payment, parts.sent)
                is_over = failure is not None and parts.payment_hash is None
                if is_over or asked_at >= unsent_until:
                    return _failed(payment, parts, failure or _NOT_SENT)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _POLL_MAX_S)

    async def _parts(self, client_pubkey: str, payment: Payment) -> Parts:
        if payment.payment_hash is not None:
            return await self.payer.parts_by_hash(payment.payment_hash)
        label = payment_label(client_pubkey[:16], payment.request_id)
        return await self.payer.parts_by_label(label, payment.first_sendpay_index)

    async def _end(self, client_pubkey: str, record: PaymentRecord) -> None:
        """Keep the record, then book or release. A crash in between has both done again."""
        request_id = record.payment.request_id
        await self._insist(lambda: self.records.keep(client_pubkey[:16], record))

        def change(ledger: Ledger) -> Ledger:
            if not record.is_settled:
                return ledger.release(request_id, untold=True)
            connection = self._connection_of(client_pubkey)
            budget = connection.budget if connection else None
            return ledger.book(request_id, record.sent_msat, budget, time.time())

        try:
            await self._insist(lambda: self.ledgers.change(client_pubkey, change))
        except BadLedger:
            # Nothing is spent from it any more; the client is told of this payment all the same.
            _log.exception("a payment of connection %s is not booked", client_pubkey[:16])
            return
        connection = self._connection_of(client_pubkey)
        name = connection.name if connection else f"revoked {client_pubkey[:16]}"
        _log.info("%s of %r: %s", record.payment.method, name, record.state)
        self._tasks.spawn(self._tell(client_pubkey, request_id))

    async def _tell(self, client_pubkey: str, request_id: str) -> None:
        """Have the apps told of a payment if it is settled, then note that they know how it ended."""
        connection_id = client_pubkey[:16]
        try:
            record = await self._insist(lambda: self.records.get(connection_id, request_id))
        except UnreadableRecord:
            record = None
        if record is not None and record.is_settled:
            await self._insist(partial(self._tell_apps, connection_id, record))
        await self._insist(
            lambda: self.ledgers.change(client_pubkey, lambda ledger: ledger.told(request_id))
        )
        await self._insist(partial(self.forget_if_done, client_pubkey))

    async def _answer_untold(self, client_pubkey: str, request_id: str) -> None:
        """Answer, perhaps once more, a request whose payment has ended before the start."""
        try:
            record = await self._insist(lambda: self.records.get(client_pubkey[:16], request_id))
        except UnreadableRecord:
            return
        if record is not None:
            await self._answer_late(client_pubkey, record)

    async def receive(self, client_pubkey: str, amount_msat: int, pay_index: int) -> None:
        """Count what came in through a connection, for a budget of what it has received; once.

        Raises:
            NodeError: lightningd is away.

        """
        try:
            await self.ledgers.change(
                client_pubkey, lambda ledger: ledger.receive(amount_msat, pay_index)
            )
        except BadLedger:
            _log.error("connection %s: what it received is not counted", client_pubkey[:16])

    async def forget_if_done(self, client_pubkey: str) -> None:
        """Delete the ledger of a connection that is revoked, once nothing of it is under way.

        Raises:
            NodeError: lightningd is away.

        """

        def is_done(ledger: Ledger) -> bool:
            is_revoked = self._is_revoked(client_pubkey)
            return is_revoked and not ledger.reservations and not ledger.untold

        # Before the start nobody knows what is in flight; `start` deletes what is left until then.
        if self.is_started and self._is_revoked(client_pubkey):
            with suppress(BadLedger):  # it has been logged, and is left for a person to look at
                await self.ledgers.forget(client_pubkey, is_done)

    def _is_revoked(self, client_pubkey: str) -> bool:
        return self._connection_of(client_pubkey) is None and not self._is_stored(client_pubkey)

    async def _insist(self, action: Callable[[], Awaitable[_T]]) -> _T:
        """Do something that must be done, however long lightningd is away."""
        return await insist(action, _POLL_FIRST_S, _POLL_MAX_S, _note_waiting)


def _note_waiting(error: NodeError) -> None:
    _log.debug("a payment waits for lightningd: %s", error)


_PAID_ALREADY = "this invoice is paid already, or is being paid"
_INSUFFICIENT = Nip47Error(
    ErrorCode.INSUFFICIENT_BALANCE, "the node cannot send that much at the moment"
)
_UNREADABLE = Nip47Error(ErrorCode.INTERNAL, "the books of this connection cannot be read")
_STILL_STARTING = Nip47Error(
    ErrorCode.INTERNAL, "the plugin is still starting; nothing was paid; try again in a minute"
)
_NOT_BEGUN = Nip47Error(ErrorCode.INTERNAL, "the node could not do this now; nothing was paid")
_NOT_SENT = Nip47Error(ErrorCode.PAYMENT_FAILED, "the payment was interrupted; nothing was paid")


async def _record_of(outcome: asyncio.Future[Outcome]) -> PaymentRecord:
    """Wait for a payment, which goes on when nobody waits any more."""
    ended = await asyncio.shield(outcome)
    if isinstance(ended, Nip47Error):
        raise ended
    return ended


def _pass_on(outcome: asyncio.Future[Outcome], task: asyncio.Task[Outcome]) -> None:
    """Tell who waits how a payment ended, where it was not told before its task ended."""
    if outcome.done():
        return
    if task.cancelled():
        outcome.cancel()
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
        outcome.exception()  # nobody may wait for it; it has been logged
    else:
        outcome.set_result(task.result())


def _request_name(client_pubkey: str, request_id: str) -> str:
    return f"{client_pubkey}:{request_id}"


def _names(client_pubkey: str, payment: Payment) -> tuple[str, ...]:
    """By what a payment under way is known: its request, and the payment hash where there is one."""
    request = _request_name(client_pubkey, payment.request_id)
    return (request,) if payment.payment_hash is None else (request, payment.payment_hash)


def _check_cap(budget: Budget, wanted: Payment) -> None:
    cap = budget.max_payment_msat
    if cap is not None and wanted.amount_msat > cap:
        raise Nip47Error(
            ErrorCode.QUOTA_EXCEEDED,
            f"amount: must be at most {cap} msat for this connection; got {wanted.amount_msat}",
        )


def _over_budget(budget: Budget, left_msat: int, now: float) -> Nip47Error:
    match budget.kind:
        case BudgetKind.NOTHING:
            return Nip47Error(ErrorCode.RESTRICTED, "this connection can only receive")
        case BudgetKind.RECEIVED:
            return Nip47Error(
                ErrorCode.INSUFFICIENT_BALANCE,
                f"amount: must be at most the {left_msat} msat received here and not spent",
            )
        case _:
            renews_at = budget.renews_at(now)
            when = "" if renews_at is None else f"; it renews in {max(1, int(renews_at - now))} seconds"
            return Nip47Error(
                ErrorCode.QUOTA_EXCEEDED,
                f"amount: must be at most the {left_msat} msat that are left of the budget{when}",
            )


def _sent(payment: Payment, answer: Json) -> Sent:
    """Read the answer of a command that has paid."""
    preimage: str = answer["payment_preimage"]
    payment_hash = payment.payment_hash or hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
    return Sent(payment_hash, preimage, int(answer["amount_sent_msat"]))


def _settled(payment: Payment, sent: Sent) -> PaymentRecord:
    return PaymentRecord(
        replace(payment, payment_hash=sent.payment_hash),
        PaymentState.SETTLED,
        int(time.time()),
        sent.sent_msat,
        sent.preimage,
    )


def _failed(payment: Payment, parts: Parts, error: Nip47Error) -> PaymentRecord:
    return PaymentRecord(
        replace(payment, payment_hash=payment.payment_hash or parts.payment_hash),
        PaymentState.FAILED,
        int(time.time()),
        error_code=error.code,
        error_message=error.message,
    )
