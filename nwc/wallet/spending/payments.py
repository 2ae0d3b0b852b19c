"""Payments: reserve, send, see how it ends, book. Each exactly once, whatever crashes in between.

Theory of operation
-------------------
A payment runs in a task of its own, so that it goes on when the client's patience, or its request, ends:

1. A request whose payment has ended gets the same answer again; one that is under way, or pays an
   invoice that is under way, waits for that.
2. *Reserve*: one write of the connection's ledger. From here on a crash leaves a reservation.
3. *Send*: lightningd gets the same limit on the fee as stands in the ledger.
4. *Follow*: `listsendpays` is asked until no part is pending, also after a success: what counts is the
   sum of the complete parts. After an error that is not certainly the end (`PayCommandError.is_over`),
   or without an answer, a part may still begin. Then the payment ends only when lightningd has had all
   the time it was given, and more.
5. *End*: the record of the payment, then the ledger (booked or released). Both can be done twice.

The client is answered as soon as a part is complete: that part's preimage proves the payment.

After a start every reservation is followed from step 4 on, or from step 5 where there is a record; the
time of step 4 runs from our start, not by the clock. What is booked and not yet told is told and
answered, for the second time perhaps.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from nwc.cln.errors import NodeError, RpcCallError
from nwc.cln.node import Json
from nwc.cln.payer import PayCommandError, Payer, Sent
from nwc.cln.retry import retry
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.tasks import Tasks
from nwc.wallet.connections.budget import Budget, BudgetKind
from nwc.wallet.connections.record import Connection, View, connection_id_of
from nwc.wallet.slots import Slots
from nwc.wallet.spending.breaker import CircuitBreaker
from nwc.wallet.spending.large import LargePayments
from nwc.wallet.spending.ledger import BudgetExceededError, Ledger, LedgerError
from nwc.wallet.spending.ledgers import Ledgers
from nwc.wallet.spending.payment import (
    CommandParams,
    Payment,
    PaymentRecord,
    PaymentState,
    usual_fee_limit_msat,
)
from nwc.wallet.spending.payment_errors import INSUFFICIENT, failure_of, is_insufficient
from nwc.wallet.spending.payment_records import (
    MAX_FAILED_KEPT,
    MAX_SETTLED_KEPT,
    PaymentRecords,
    UnreadableRecordError,
)
from nwc.wallet.spending.refusals import Refusals

# Apps wait for a minute; so long lightningd may begin new attempts.
RETRY_FOR_S = 50
# How much longer a command may begin with parts when nobody knows whether it has ended.
UNSENT_GRACE_S = 60.0
# Payments in flight. The first of each connection has a place of its own, which others cannot take; all
# further ones share some. In all there are as many as lightningd is given commands for (nwc.cln.node).
MAX_PER_CONNECTION = 20
MAX_SHARED = 64
MAX_IN_ALL = 256
# Of one connection, for one payment hash: lightningd lists all attempts at a hash with each new one.
MAX_FAILED_PER_HASH = 10
# How long a request waits for the books to be read after a start. Apps wait for a minute.
START_PATIENCE_S = 20.0
_POLL_FIRST_S = 0.5
_POLL_MAX_S = 10.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Outcome = PaymentRecord | Nip47Error
# The work of a payment; it may set the outcome earlier than it ends.
Run = Callable[[asyncio.Future[Outcome]], Coroutine[Any, Any, Outcome]]


def payment_label(connection_id: str, request_id: str) -> str:
    """Return the label of a payment in lightningd's own list."""
    return f"nwc:{connection_id}:{request_id}"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What is known of a payment when lightningd has got its command.

    Attributes:
        payment: as reserved.
        may_begin_until: by the loop's clock, until when lightningd may begin a part of it.
        sent: what lightningd said to have sent, None without a success.
        failure: what the client is told if nothing of it is complete, None without an error.

    """

    payment: Payment
    may_begin_until: float
    sent: Sent | None = None
    failure: Nip47Error | None = None


class Payments:
    """All payments of all connections.

    Args:
        payer: pays.
        ledgers: the books.
        records: what has ended.
        breaker: which connections may not pay, since lightningd stopped while they did.
        refusals: which requests were refused before the start.
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
        breaker: CircuitBreaker,
        refusals: Refusals,
        connection_of: Callable[[str], Connection | None],
        tell: Callable[[str, PaymentRecord], Awaitable[None]],
        answer_late: Callable[[str, PaymentRecord], Awaitable[None]],
        is_stored: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.payer = payer
        self.ledgers = ledgers
        self.records = records
        self.breaker = breaker
        self.refusals = refusals
        self._connection_of = connection_of
        self._tell_apps = tell
        self._answer_late = answer_late
        self._is_stored = is_stored
        self._tasks = Tasks()
        # By request, and by payment hash: whose it is and what comes of it.
        self._under_way: dict[str, tuple[str, asyncio.Future[Outcome]]] = {}
        self._places = Slots(own=1, most=MAX_PER_CONNECTION, shared=MAX_SHARED)
        # The requests that have one of them.
        self._placed: set[str] = set()
        self._large = LargePayments(lambda: asyncio.get_running_loop().time())
        self._loaded: dict[str, Ledger] = {}
        self._is_started = asyncio.Event()
        # Requests of before the start that have come again, and so get their answer in the usual way.
        self._came_again: set[str] = set()

    async def load(self, *, is_node_start: bool) -> None:
        """Read the ledgers. Until `start`, requests may come, but nothing is paid.

        Args:
            is_node_start: True if lightningd itself has just started, so that it had ended before.

        Raises:
            NodeError: lightningd is away.

        """
        await self.breaker.load()
        await self.refusals.load()
        self._loaded = await self.ledgers.load()
        for client_pubkey, ledger in self._loaded.items():
            if is_node_start and ledger.reservations:
                in_flight = frozenset(ledger.reservations)
                await self.breaker.lightningd_stopped(client_pubkey, in_flight, time.time())

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
            self._warn_if_suspended(client_pubkey)
            for payment in ledger.reservations.values():
                self._take_place(client_pubkey, payment.request_id)
                self._start(client_pubkey, payment, partial(self._resume, client_pubkey, payment))
            for request_id in ledger.untold:
                # What was not told may not have been answered either: both came after the booking.
                self._tasks.spawn(self._answer_untold(client_pubkey, request_id))
                self._tasks.spawn(self._tell(client_pubkey, request_id))
            is_done = not ledger.reservations and not ledger.untold
            if is_done and self._is_revoked(client_pubkey):
                self._tasks.spawn(self._retry(partial(self.forget_if_done, client_pubkey)))
        self._loaded = {}

    def _warn_if_suspended(self, client_pubkey: str) -> None:
        connection = self._connection_of(client_pubkey)
        if connection is not None and self.breaker.is_suspended(client_pubkey):
            _log.warning(
                "payments of %r are suspended: lightningd stopped twice within an hour while this "
                "connection was paying; nwc-update with resume=true lets it pay again",
                connection.name,
            )

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
        except UnreadableRecordError:
            return None
        return record.payment.metadata if record else None

    async def pay(self, connection: Connection, wanted: Payment, params: CommandParams) -> PaymentRecord:
        """Make a payment, however long it takes, and return how it ended.

        Args:
            connection: who pays.
            wanted: what to pay; the limit on the fee is lowered to what is left of the budget.
            params: what the paying command needs beside the payment.

        Raises:
            Nip47Error: nothing was sent, and nothing will be.

        """
        outcome = self._same(connection, wanted)
        if outcome is None:
            run = partial(self._run, connection, wanted, params)
            outcome = self._start(connection.client_pubkey, wanted, run)
        elif _request_name(connection.client_pubkey, wanted.request_id) in self._under_way:
            self._came_again.add(wanted.request_id)
        return await _record_of(outcome)

    async def come_before(
        self, connection: Connection, request_id: str, created_at: int
    ) -> PaymentRecord | None:
        """Return how the payment of a request that came before ended, however long it takes; None for
        a new request.

        Args:
            connection: who pays.
            request_id: id of the request event.
            created_at: the request event's own time, Unix seconds.

        Raises:
            Nip47Error: as `pay`; INTERNAL when the books are not read yet; OTHER when the request may
                have been refused before a restart.
            NodeError: lightningd is away.

        """
        await self._until_started()
        name = _request_name(connection.client_pubkey, request_id)
        if name in self._under_way:
            self._came_again.add(request_id)
            return await _record_of(self._under_way[name][1])
        try:
            record = await self.records.get(connection.id, request_id)
        except UnreadableRecordError:
            _log.exception("a request of %r was refused", connection.name)
            raise _UNREADABLE from None
        if record is None and self.refusals.is_refused(connection.client_pubkey, created_at):
            raise Nip47Error(ErrorCode.OTHER, _REFUSED_BEFORE)
        return record

    def count_in_flight(self) -> int:
        """Return how many payments of all connections have not ended."""
        return len({id(outcome) for _, outcome in self._under_way.values()})

    async def forget_what_was_read(self) -> None:
        """Go by what is in the datastore now: others have deleted records.

        Raises:
            NodeError: lightningd is away.

        """
        self.ledgers.forget_what_was_read()
        self.records.forget_what_was_read()
        await self.breaker.load()
        await self.refusals.load()

    def is_in_flight(self, client_pubkey: str, request_id: str) -> bool:
        """Return True if the payment of this request has not ended."""
        return _request_name(client_pubkey, request_id) in self._under_way

    async def book_late(self, client_pubkey: str, payment: Payment) -> None:
        """Book a payment that is complete in lightningd and not in the books, and tell the apps.

        It gets a reservation, whatever is left of the budget, and is followed from there: so a crash in
        between loses nothing.

        Raises:
            NodeError: lightningd is away.

        """
        if self.is_in_flight(client_pubkey, payment.request_id):
            return
        with suppress(LedgerError):  # it has been logged; nothing is spent from it any more
            await self.ledgers.change(client_pubkey, lambda ledger: ledger.restore(payment))
            self._take_place(client_pubkey, payment.request_id)
            self._start(client_pubkey, payment, partial(self._book_late, client_pubkey, payment))

    async def _book_late(
        self, client_pubkey: str, payment: Payment, outcome: asyncio.Future[Outcome]
    ) -> Outcome:
        record = await self._follow(client_pubkey, _Attempt(payment, 0), outcome)
        await self._end(client_pubkey, record)
        return record

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

    def _check_bounds(self, connection: Connection, wanted: Payment) -> None:
        """Bound the payments in flight, since one can last for days, and the records that are kept."""
        if self.breaker.is_suspended(connection.client_pubkey):
            raise Nip47Error(ErrorCode.RESTRICTED, _SUSPENDED)
        has_place = self._places.are_free(connection.client_pubkey)
        if not has_place or len(self._placed) >= MAX_IN_ALL:
            has_most = self._places.has_most(connection.client_pubkey)
            whose = "of this connection " if has_most else ""
            raise Nip47Error(
                ErrorCode.RATE_LIMITED, f"too many payments {whose}are under way; try again later"
            )
        if self.records.count_failed(connection.id) >= MAX_FAILED_KEPT:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED, "too many payments of this connection have failed; try tomorrow"
            )
        if self.records.count_settled(connection.id) >= MAX_SETTLED_KEPT:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "this connection has made too many payments in two days; try tomorrow",
            )
        if self._has_failed_too_often(connection.id, wanted.payment_hash):
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                f"this invoice could not be paid {MAX_FAILED_PER_HASH} times; ask for a new one",
            )

    def _has_failed_too_often(self, connection_id: str, payment_hash: str | None) -> bool:
        """Return True if one more attempt would make lightningd's list for this hash too long."""
        if payment_hash is None:
            return False
        return self.records.count_failed_with(payment_hash, connection_id) >= MAX_FAILED_PER_HASH

    def _take_place(self, client_pubkey: str, request_id: str) -> None:
        self._placed.add(_request_name(client_pubkey, request_id))
        self._places.take(client_pubkey)

    def _leave_place(self, client_pubkey: str, request_id: str) -> None:
        """Give up the place of a payment; a request that was refused has had none."""
        name = _request_name(client_pubkey, request_id)
        if name not in self._placed:
            return
        self._placed.discard(name)
        self._places.give_back(client_pubkey)

    # The way of a payment

    async def _run(
        self,
        connection: Connection,
        wanted: Payment,
        params: CommandParams,
        outcome: asyncio.Future[Outcome],
    ) -> Outcome:
        try:
            ended = await self.records.get(connection.id, wanted.request_id)
            if ended is not None:
                return ended
            self._check_bounds(connection, wanted)
            self._take_place(connection.client_pubkey, wanted.request_id)
            ended = await self._paid_before(connection, wanted)
            if ended is not None:
                return ended
            sendable = await self.payer.sendable()
            payment = await self._reserve(connection.client_pubkey, wanted)
        except Nip47Error as error:
            return error
        except NodeError as error:
            _log.debug("a payment of %r was not begun: %s", connection.name, error)
            return await self._give_up(connection, wanted, _NOT_BEGUN, outcome)
        except (LedgerError, UnreadableRecordError):
            _log.exception("a payment of %r was refused: its books cannot be read", connection.name)
            return _UNREADABLE
        try:
            # Only now: how much the node can send is shown to nobody whose budget is less.
            with self._large.place(connection.client_pubkey, payment, sendable) as is_large:
                if is_large:
                    await self._check_route(payment)
                # It can have been revoked while lightningd wrote.
                self._budget_of(connection.client_pubkey, time.time())
                attempt = await self._send(connection.client_pubkey, payment, params)
        except Nip47Error as error:
            return await self._give_up(connection, wanted, error, outcome)
        except NodeError:
            return await self._give_up(connection, wanted, _NOT_BEGUN, outcome)
        record = await self._follow(connection.client_pubkey, attempt, outcome)
        await self._end(connection.client_pubkey, record)
        return record

    async def _check_route(self, payment: Payment) -> None:
        """Refuse a large payment for which `pay` would try thousands of routes in vain."""
        if not await self.payer.may_have_route(
            payment.destination or "", payment.amount_msat, payment.max_fee_msat
        ):
            raise Nip47Error(
                ErrorCode.PAYMENT_FAILED,
                f"no route to the payee was found for a fee of at most {payment.max_fee_msat} msat",
            )

    async def _paid_before(self, connection: Connection, wanted: Payment) -> PaymentRecord | None:
        """Return how this invoice was paid before, None when it was not."""
        if wanted.payment_hash is None:
            return None
        entry = self.records.with_hash(wanted.payment_hash, connection.id)
        if entry is not None and entry.is_settled:
            return await self.records.get(connection.id, entry.request_id)
        parts = await self.payer.history_of(wanted.payment_hash)
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
            max_fee_msat = _fee_limit(budget, wanted)
            if left is not None:
                max_fee_msat = max(0, min(max_fee_msat, left - wanted.amount_msat))
            try:
                reserved = replace(
                    wanted, max_fee_msat=max_fee_msat, reserved_at_us=int(now * 1_000_000)
                )
                return ledger.reserve(reserved, budget, now)
            except BudgetExceededError as error:
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
        with suppress(LedgerError):
            await self._retry(
                lambda: self.ledgers.change(client_pubkey, lambda ledger: ledger.release(request_id))
            )

    def _budget_of(self, client_pubkey: str, now: float) -> Budget:
        connection = self._connection_of(client_pubkey)
        if connection is None or connection.has_expired(now):
            raise Nip47Error(ErrorCode.UNAUTHORIZED, "this connection has ended")
        return connection.budget

    async def _send(self, client_pubkey: str, payment: Payment, params: CommandParams) -> "_Attempt":
        """Give lightningd the command, and return what is known of the payment then."""
        begun_at = asyncio.get_running_loop().time()
        may_begin_until = begun_at + RETRY_FOR_S + UNSENT_GRACE_S
        unknown = _Attempt(payment, may_begin_until)
        try:
            answer = await self._call_command(client_pubkey, payment, params)
            return replace(unknown, sent=_sent(payment, answer))
        except PayCommandError as error:
            self._large.note_failure(client_pubkey, error.attempts)
            failure = await self._failure_of(error, payment)
            return replace(
                unknown, failure=failure, may_begin_until=begun_at if error.is_over else may_begin_until
            )
        except NodeError:
            return unknown
        except Exception:
            # Whatever it is, lightningd may be paying: the payment must not be lost sight of.
            _log.exception("the answer to a payment was not understood")
            return unknown

    async def _call_command(self, client_pubkey: str, payment: Payment, params: CommandParams) -> Json:
        """Call the paying command for a reserved payment, and return its answer."""
        label = payment_label(connection_id_of(client_pubkey), payment.request_id)
        if payment.invoice is None:
            return await self.payer.keysend(
                payment.destination or "",
                amount_msat=payment.amount_msat,
                max_fee_msat=payment.max_fee_msat,
                retry_for_s=RETRY_FOR_S,
                label=label,
                tlvs=params.tlvs,
            )
        return await self.payer.pay_invoice(
            payment.invoice,
            amount_msat=payment.amount_msat if params.needs_amount else None,
            max_fee_msat=payment.max_fee_msat,
            retry_for_s=RETRY_FOR_S,
            label=label,
        )

    async def _failure_of(self, error: RpcCallError, payment: Payment) -> Nip47Error:
        if is_insufficient(error) and await self._is_short_of_funds(payment):
            return INSUFFICIENT
        return failure_of(error, payment)

    async def _is_short_of_funds(self, payment: Payment) -> bool:
        try:
            return (await self.payer.sendable()).total_msat < payment.amount_msat
        except NodeError:
            return False

    async def _resume(
        self, client_pubkey: str, payment: Payment, outcome: asyncio.Future[Outcome]
    ) -> Outcome:
        """Follow a payment of before the start to its end, and answer its request."""
        record = await self._ended_before(client_pubkey, payment)
        if record is None:
            now = asyncio.get_running_loop().time()
            attempt = _Attempt(payment, now + RETRY_FOR_S + UNSENT_GRACE_S)
            record = await self._follow(client_pubkey, attempt, outcome)
        await self._end(client_pubkey, record)
        if payment.request_id not in self._came_again:
            await self._answer_late(client_pubkey, record)
        return record

    async def _ended_before(self, client_pubkey: str, payment: Payment) -> PaymentRecord | None:
        """Return the record of a settled payment that its ledger does not know to have ended.

        The record of a failed one may be older than the reservation (`book_late`): lightningd is asked.
        """
        try:
            record = await self._retry(
                lambda: self.records.get(connection_id_of(client_pubkey), payment.request_id)
            )
        except UnreadableRecordError:
            return None
        return record if record is not None and record.is_settled else None

    async def _follow(
        self, client_pubkey: str, attempt: "_Attempt", outcome: asyncio.Future[Outcome]
    ) -> PaymentRecord:
        """Ask lightningd until the payment has ended, and return how.

        The outcome is set earlier when a part is complete while others are pending.
        """
        payment, loop = attempt.payment, asyncio.get_running_loop()
        label = payment_label(connection_id_of(client_pubkey), payment.request_id)
        delay = _POLL_FIRST_S
        while True:
            asked_at = loop.time()
            parts = await self._retry(
                lambda: self.payer.parts(
                    payment.first_sendpay_index, payment_hash=payment.payment_hash, label=label
                )
            )
            sent = parts.sent or attempt.sent
            if parts.is_pending:
                if sent is not None and not outcome.done():
                    outcome.set_result(_settled(payment, sent))
            elif sent is not None:
                return _settled(payment, sent)
            elif asked_at >= attempt.may_begin_until:
                return await self._failed(attempt, label)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _POLL_MAX_S)

    async def _failed(self, attempt: "_Attempt", label: str) -> PaymentRecord:
        """Return the record of a payment of which nothing can follow any more."""
        payment = attempt.payment
        with suppress(NodeError):  # lightningd may have no askrene
            await self.payer.release_reservations(label)
        payment_hash = payment.payment_hash or await self._retry(
            lambda: self.payer.hash_of(payment.first_sendpay_index, label)
        )
        error = attempt.failure or _NOT_SENT
        return PaymentRecord(
            replace(payment, payment_hash=payment_hash),
            PaymentState.FAILED,
            int(time.time()),
            error_code=error.code,
            error_message=error.message,
        )

    async def _end(self, client_pubkey: str, record: PaymentRecord) -> None:
        """Keep the record, then book or release. A crash in between has both done again."""
        request_id = record.payment.request_id
        await self._retry(lambda: self.records.keep(connection_id_of(client_pubkey), record))

        def change(ledger: Ledger) -> Ledger:
            if not record.is_settled:
                return ledger.release(request_id, untold=True)
            connection = self._connection_of(client_pubkey)
            budget = connection.budget if connection else None
            return ledger.book(request_id, record.sent_msat, budget, time.time())

        try:
            await self._retry(lambda: self.ledgers.change(client_pubkey, change))
        except LedgerError:
            # Nothing is spent from it any more; the client is told of this payment all the same.
            _log.exception("a payment of connection %s is not booked", connection_id_of(client_pubkey))
            return
        connection = self._connection_of(client_pubkey)
        name = connection.name if connection else f"revoked {connection_id_of(client_pubkey)}"
        _log.info("%s of %r: %s", record.payment.method, name, record.state)
        self._tasks.spawn(self._tell(client_pubkey, request_id))

    async def _tell(self, client_pubkey: str, request_id: str) -> None:
        """Have the apps told of a payment if it is settled, then note that they know how it ended."""
        connection_id = connection_id_of(client_pubkey)
        try:
            record = await self._retry(lambda: self.records.get(connection_id, request_id))
        except UnreadableRecordError:
            record = None
        if record is not None and record.is_settled:
            await self._retry(partial(self._tell_apps, connection_id, record))
        await self._retry(
            lambda: self.ledgers.change(client_pubkey, lambda ledger: ledger.told(request_id))
        )
        await self._retry(partial(self.forget_if_done, client_pubkey))

    async def _answer_untold(self, client_pubkey: str, request_id: str) -> None:
        """Answer, perhaps once more, a request whose payment has ended before the start."""
        try:
            record = await self._retry(
                lambda: self.records.get(connection_id_of(client_pubkey), request_id)
            )
        except UnreadableRecordError:
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
        except LedgerError:
            _log.error("connection %s: what it received is not counted", connection_id_of(client_pubkey))

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
            with suppress(LedgerError):  # it has been logged, and is left for a person to look at
                await self.ledgers.forget(client_pubkey, is_done)
            await self.breaker.resume(client_pubkey)
            await self.refusals.forget(client_pubkey)

    def _is_revoked(self, client_pubkey: str) -> bool:
        return self._connection_of(client_pubkey) is None and not self._is_stored(client_pubkey)

    async def _retry(self, action: Callable[[], Awaitable[_T]]) -> _T:
        """Do something that must be done, however long lightningd is away."""
        return await retry(action, _POLL_FIRST_S, _POLL_MAX_S, _note_waiting)


def _note_waiting(error: NodeError) -> None:
    _log.debug("a payment waits for lightningd: %s", error)


_PAID_ALREADY = "this invoice is paid already, or is being paid"
_UNREADABLE = Nip47Error(ErrorCode.INTERNAL, "the books of this connection cannot be read")
_STILL_STARTING = Nip47Error(
    ErrorCode.INTERNAL, "the plugin is still starting; nothing was paid; try again in a minute"
)
_NOT_BEGUN = Nip47Error(ErrorCode.INTERNAL, "the node could not do this now; nothing was paid")
_SUSPENDED = (
    "payments of this connection are suspended, since the node stopped during two of them; "
    "its owner can resume them"
)
_REFUSED_BEFORE = (
    "this request was sent before the wallet service started, and may have been refused then; "
    "nothing was paid; send a new request"
)
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


def _fee_limit(budget: Budget, wanted: Payment) -> int:
    """Return the most a payment may cost beside its amount, in msat.

    Where the owner has capped payments, an app may only lower the usual limit: a route hint can ask for
    any fee.
    """
    if budget.max_payment_msat is None:
        return wanted.max_fee_msat
    return min(wanted.max_fee_msat, usual_fee_limit_msat(wanted.amount_msat))


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
    """Read the answer of a command that has paid.

    Raises:
        ValueError, KeyError, TypeError: the answer cannot be read, or is not of this payment. `pay` can
            answer with a wrong preimage where some parts of an earlier attempt have failed.

    """
    preimage: str = answer["payment_preimage"]
    payment_hash = hashlib.sha256(bytes.fromhex(preimage)).hexdigest()
    if payment.payment_hash not in (None, payment_hash):
        raise ValueError("the preimage of another payment hash")
    return Sent(payment_hash, preimage, int(answer["amount_sent_msat"]))


def _settled(payment: Payment, sent: Sent) -> PaymentRecord:
    return PaymentRecord(
        replace(payment, payment_hash=sent.payment_hash),
        PaymentState.SETTLED,
        int(time.time()),
        sent.sent_msat,
        sent.preimage,
    )
