"""Payments: reserve, send, follow, book. Each step happens exactly once, whatever crashes in between.

Theory of operation
-------------------
Each payment runs in a task of its own, so that it goes on when its request is cancelled or times out:

1. *Deduplicate*: a request whose payment has ended gets the same answer again. A request whose payment
   is in flight, or whose invoice is being paid, waits for that payment. For a BOLT12 offer the invoice
   is fetched now, after a look at the budget. If we crash after that, nothing was sent, the invoice is
   forgotten, and the same request fetches another one.
2. *Reserve*: one write of the connection's ledger, with the invoice. If we crash after it, the
   reservation remains, and its request never fetches an invoice again.
3. *Send*: lightningd gets the same limit on the fee as the ledger holds.
4. *Follow*: poll `listsendpays` until no part is pending, also after a success, because the sum of the
   complete parts is what the payment costs. After an error that is not certainly the end
   (`PayCommandError.is_over`), or without an answer, lightningd may still begin a part. Then the payment
   ends only when all the time that lightningd was given, and a margin, is over.
5. *End*: write the record of the payment, then the ledger (booked or released). Repeating either write
   changes nothing.

The client is answered as soon as one part is complete: the preimage of that part proves the payment.

After a start, each reservation is followed from step 4, or from step 5 if its payment has a record. The
time of step 4 then runs from our start, on a monotonic clock. If a payment has ended and is still
`unannounced`, its app is notified and its request answered, perhaps for the second time.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial

from nwc.cln import versions
from nwc.cln.channels import Sendable
from nwc.cln.errors import NodeError
from nwc.cln.node import Json
from nwc.cln.payer import Payer
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.tasks import Tasks
from nwc.wallet.connections.budget import Budget
from nwc.wallet.connections.record import Connection, View, connection_id_of
from nwc.wallet.records import RecordError
from nwc.wallet.spending.breaker import CircuitBreaker
from nwc.wallet.spending.failed_fetches import FailedFetches
from nwc.wallet.spending.large import LargePayments
from nwc.wallet.spending.ledger import Ledger
from nwc.wallet.spending.ledgers import Change, Ledgers
from nwc.wallet.spending.payment import CommandParams, Fetch, Payment, PaymentRecord
from nwc.wallet.spending.payment_errors import (
    ALREADY_PAID,
    NO_SUCH_INVOICE,
    NOT_BEGUN,
    REFUSED_BEFORE,
    STILL_STARTING,
    SUSPENDED,
    UNREADABLE_BOOKS,
    fee_of_payee_too_high,
)
from nwc.wallet.spending.payment_records import (
    MAX_FAILED_KEPT,
    MAX_SETTLED_KEPT,
    PaymentRecords,
    UnreadableRecordError,
)
from nwc.wallet.spending.pending_payments import Outcome, PendingPayments, record_of
from nwc.wallet.spending.refusals import Refusals
from nwc.wallet.spending.reservation import reserve
from nwc.wallet.spending.sender import Attempt, Sender, retry_forever, settled, unknown_attempt

# Failed payments of one connection for one payment hash: lightningd lists all attempts at a hash with
# each new one.
MAX_FAILED_PER_HASH = 10
# How long a request waits until the ledgers are read after a start. Apps wait for a minute.
START_PATIENCE_S = 20.0

_log = logging.getLogger(__name__)


class Payments:
    """Makes the payments of all connections.

    Args:
        payer: pays through lightningd.
        ledgers: the ledger of each connection.
        records: the payments that have ended.
        breaker: the connections whose payments are suspended.
        refusals: the requests that were refused before the start.
        connection_of: returns the connection of a client key as it is now, None if it is revoked.
        notify: notifies the apps of a settled payment of the connection with this id. Returns when they
            are notified, or the notification is stored; raises NodeError if neither is possible now.
        answer: answers a request of a client key that an earlier run of the plugin received.
        is_stored: returns True if a connection of this client key is stored but not served. Its ledger
            is kept then.

    """

    def __init__(
        self,
        payer: Payer,
        ledgers: Ledgers,
        records: PaymentRecords,
        breaker: CircuitBreaker,
        refusals: Refusals,
        connection_of: Callable[[str], Connection | None],
        notify: Callable[[str, PaymentRecord], Awaitable[None]],
        answer: Callable[[str, PaymentRecord], Awaitable[None]],
        is_stored: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.payer = payer
        self.ledgers = ledgers
        self.records = records
        self.breaker = breaker
        self.refusals = refusals
        self._connection_of = connection_of
        self._notify = notify
        self._answer = answer
        self._is_stored = is_stored
        self._tasks = Tasks()
        self._pending = PendingPayments(self._tasks)
        self._large = LargePayments(lambda: asyncio.get_running_loop().time())
        self._failed_fetches = FailedFetches(lambda: asyncio.get_running_loop().time())
        self._sender = Sender(payer, self._large)
        self._loaded: dict[str, Ledger] = {}
        self._is_node_start = False
        self._is_started = asyncio.Event()

    async def load(self, *, is_node_start: bool) -> None:
        """Read what is stored. Requests may arrive before `start`, but nothing is paid until then.

        Args:
            is_node_start: True if lightningd itself has just started, and so had stopped before.

        Raises:
            NodeError: lightningd is unavailable.

        """
        await self.breaker.load()
        await self.refusals.load()
        self._loaded = await self.ledgers.load()
        self._is_node_start = is_node_start
        if is_node_start:
            await self._note_stop()
        await self.breaker.forget_interrupted()

    async def _note_stop(self) -> None:
        """Tell the circuit breaker which payments and fetches were in flight when lightningd stopped."""
        fetching = self.breaker.interrupted()
        keysend_can_stop = versions.keysend_can_stop(versions.running_version())
        for client_pubkey in {*self._loaded, *fetching}:
            reserved = self._loaded.get(client_pubkey, Ledger()).reservations
            in_flight = fetching.get(client_pubkey, frozenset()) | frozenset(reserved)
            has_keysend = any(payment.method == "pay_keysend" for payment in reserved.values())
            if in_flight:
                await self.breaker.lightningd_stopped(
                    client_pubkey, in_flight, time.time(), suspend=has_keysend and keysend_can_stop
                )

    @property
    def is_started(self) -> bool:
        """True if the ledgers are read, so that payments can be made."""
        return self._is_started.is_set()

    def start(self) -> None:
        """Follow the payments that were in flight, and make payments from now on.

        Call this after the connections are loaded: a ledger without a connection is taken for that of a
        revoked one.
        """
        self._is_started.set()
        for client_pubkey, ledger in self._loaded.items():
            self._warn_if_suspended(client_pubkey)
            for payment in ledger.reservations.values():
                self._pending.take_slot(client_pubkey, payment.request_id)
                self._pending.start(
                    client_pubkey, payment, partial(self._resume, client_pubkey, payment)
                )
            for request_id in ledger.unannounced:
                # The answer and the notification both follow the booking, so the answer may be missing.
                self._tasks.spawn(self._answer_again(client_pubkey, request_id))
                self._tasks.spawn(self._announce(client_pubkey, request_id))
        for client_pubkey in {*self._loaded, *self.breaker.noted()}:
            ledger = self._loaded.get(client_pubkey, Ledger())
            is_done = not ledger.reservations and not ledger.unannounced
            if is_done and self._is_revoked(client_pubkey):
                self._tasks.spawn(retry_forever(partial(self.forget_if_done, client_pubkey)))
        self._loaded = {}

    def _warn_if_suspended(self, client_pubkey: str) -> None:
        connection = self._connection_of(client_pubkey)
        if connection is not None and self.breaker.is_suspended(client_pubkey):
            _log.warning(
                "payments of %r are suspended: lightningd stopped while this connection was paying, "
                "twice within an hour or during a keysend; nwc-update with resume=true resumes them",
                connection.name,
            )

    async def stop(self) -> None:
        """Stop. Payments in flight go on in lightningd, and are followed after the next start."""
        await self._tasks.finish(0)

    async def pay(
        self,
        connection: Connection,
        wanted: Payment,
        params: CommandParams,
        fetch: Fetch | None = None,
    ) -> PaymentRecord:
        """Make a payment, and return its record when it has ended, however long that takes.

        Args:
            connection: the connection that pays.
            wanted: the payment. Its fee limit is lowered to what is left of the budget.
            params: further parameters of the paying command.
            fetch: fetches the invoice of a payment that has none yet (BOLT12), and the parameters of its
                command. It is called once at most, and not if the budget does not allow the amount.

        Raises:
            Nip47Error: nothing was sent, and nothing will be sent.

        """
        outcome = self._pending.find_duplicate(connection.client_pubkey, wanted)
        if outcome is None:
            run = partial(self._run, connection, wanted, params, fetch)
            outcome = self._pending.start(connection.client_pubkey, wanted, run)
        elif self.is_in_flight(connection.client_pubkey, wanted.request_id):
            self._pending.note_repeated(wanted.request_id)
        return await record_of(outcome)

    async def previous_outcome(
        self, connection: Connection, request_id: str, created_at: int
    ) -> PaymentRecord | None:
        """Return the outcome of an earlier delivery of the same request; None if the request is new.

        Waits until the payment has ended, however long that takes.

        Args:
            connection: the connection that asks.
            request_id: id of the request event, 64 hex digits.
            created_at: the request event's own time, Unix seconds.

        Raises:
            Nip47Error: as `pay`; INTERNAL if the ledgers are not read yet; OTHER if the request may
                have been refused before a restart.
            NodeError: lightningd is unavailable.

        """
        await self._until_started()
        outcome = self._pending.outcome_of(connection.client_pubkey, request_id)
        if outcome is not None:
            self._pending.note_repeated(request_id)
            return await record_of(outcome)
        try:
            record = await self.records.get(connection.id, request_id)
        except UnreadableRecordError:
            _log.exception("a request of %r is refused: its record cannot be read", connection.name)
            raise UNREADABLE_BOOKS from None
        if record is None and self.refusals.is_refused(connection.client_pubkey, created_at):
            raise Nip47Error(ErrorCode.OTHER, REFUSED_BEFORE)
        return record

    async def earlier_payment(self, connection: Connection, payment_hash: str) -> PaymentRecord | None:
        """Return the outcome of this connection's earlier payment of an invoice; None if it may be paid.

        Ask before the invoice is checked: one that is paid, or being paid, may have expired. Waits until
        a payment in flight has ended, however long that takes.

        Args:
            connection: the connection that asks; `previous_outcome` has returned for it.
            payment_hash: of the invoice, 64 hex digits.

        Raises:
            Nip47Error: as `pay`.
            NodeError: lightningd is unavailable.

        """
        outcome = self._pending.outcome_with(connection.client_pubkey, payment_hash)
        if outcome is not None:
            return await record_of(outcome)
        entry = self.records.with_hash(payment_hash, connection.id)
        if entry is None or not entry.is_settled:
            return None
        try:
            return await self.records.get(connection.id, entry.request_id)
        except UnreadableRecordError:
            raise UNREADABLE_BOOKS from None

    async def _until_started(self) -> None:
        try:
            async with asyncio.timeout(START_PATIENCE_S):
                await self._is_started.wait()
        except TimeoutError:
            raise STILL_STARTING from None

    async def book_late(self, client_pubkey: str, payment: Payment) -> None:
        """Book a payment that is complete in lightningd but not booked here, and notify the apps.

        The payment gets a reservation, whatever is left of the budget, and is followed from there. So a
        crash loses nothing.

        Raises:
            NodeError: lightningd is unavailable.

        """
        if self.is_in_flight(client_pubkey, payment.request_id):
            return
        with suppress(RecordError):  # logged at the start; nothing is spent from this ledger
            await self.ledgers.change(client_pubkey, lambda ledger: ledger.restore(payment))
            self._pending.take_slot(client_pubkey, payment.request_id)
            self._pending.start(client_pubkey, payment, partial(self._book_late, client_pubkey, payment))

    async def _book_late(
        self, client_pubkey: str, payment: Payment, outcome: asyncio.Future[Outcome]
    ) -> Outcome:
        record = await self._sender.follow(client_pubkey, Attempt(payment, 0), outcome)
        await self._end(client_pubkey, record)
        return record

    async def receive(self, client_pubkey: str, amount_msat: int, pay_index: int) -> None:
        """Count a paid invoice of a connection, whose budget may be what it has received.

        Args:
            client_pubkey: of the connection.
            amount_msat: what was received.
            pay_index: lightningd's number of the paid invoice. Each invoice is counted once.

        Raises:
            NodeError: lightningd is unavailable.

        """
        await self._receive(client_pubkey, lambda ledger: ledger.receive(amount_msat, pay_index))

    async def receive_hold(
        self, client_pubkey: str, amount_msat: int, payment_hash: str, remembered: frozenset[str]
    ) -> None:
        """Count a settled hold invoice of a connection, once; see `Ledger.receive_hold`.

        Raises:
            NodeError: lightningd is unavailable.

        """
        await self._receive(
            client_pubkey, lambda ledger: ledger.receive_hold(amount_msat, payment_hash, remembered)
        )

    async def _receive(self, client_pubkey: str, change: Change) -> None:
        try:
            await self.ledgers.change(client_pubkey, change)
        except RecordError:
            _log.error(
                "connection %s: a received payment is not counted: its ledger cannot be read",
                connection_id_of(client_pubkey),
            )

    async def forget_if_done(self, client_pubkey: str) -> None:
        """Delete the ledger of a revoked connection, unless a payment is in flight or unannounced.

        Raises:
            NodeError: lightningd is unavailable.

        """

        def is_done(ledger: Ledger) -> bool:
            is_revoked = self._is_revoked(client_pubkey)
            return is_revoked and not ledger.reservations and not ledger.unannounced

        # Before the start it is unknown what is in flight; `start` deletes what is done by then.
        if self.is_started and self._is_revoked(client_pubkey):
            with suppress(RecordError):  # logged at the start, and left for the owner to look at
                await self.ledgers.forget(client_pubkey, is_done)
            await self.breaker.resume(client_pubkey)
            await self.refusals.forget(client_pubkey)

    def _is_revoked(self, client_pubkey: str) -> bool:
        return self._connection_of(client_pubkey) is None and not self._is_stored(client_pubkey)

    async def forget_what_was_read(self) -> None:
        """Read the datastore again: others have deleted records.

        Raises:
            NodeError: lightningd is unavailable.

        """
        self.ledgers.forget_what_was_read()
        self.records.forget_what_was_read()
        await self.breaker.load()
        await self.refusals.load()

    async def metadata_of(self, payment_hash: str) -> Json | None:
        """Return the metadata of the payment with this hash, whichever connection made it, or None.

        Raises:
            NodeError: lightningd is unavailable.

        """
        entry = self.records.with_hash(payment_hash)
        try:
            record = await self.records.get(entry.connection_id, entry.request_id) if entry else None
        except UnreadableRecordError:
            return None
        return record.payment.metadata if record else None

    def count_in_flight(self) -> int:
        """Return how many payments of all connections are in flight."""
        return self._pending.count()

    def is_in_flight(self, client_pubkey: str, request_id: str) -> bool:
        """Return True if the payment of this request is in flight."""
        return self._pending.is_pending(client_pubkey, request_id)

    # The steps of a payment

    async def _run(
        self,
        connection: Connection,
        wanted: Payment,
        params: CommandParams,
        fetch: Fetch | None,
        outcome: asyncio.Future[Outcome],
    ) -> Outcome:
        try:
            ended = await self.records.get(connection.id, wanted.request_id)
            if ended is not None:
                return ended
            self._check_bounds(connection, wanted)
            self._pending.take_slot(connection.client_pubkey, wanted.request_id)
            if fetch is not None:
                wanted, params = await self._fetched(connection, wanted, fetch)
            ended = await self._already_paid(connection, wanted)
            if ended is not None:
                return ended
            if params.is_own:
                # First the budget: an app learns the state of an invoice only if it could pay it.
                await self._check_budget(connection.client_pubkey, wanted)
                await self._check_unpaid(wanted)
            sendable = await self.payer.sendable()
            payment = await self._reserve(connection.client_pubkey, wanted, params)
        except Nip47Error as error:
            return error
        except NodeError as error:
            _log.debug("a payment of %r is refused: %s", connection.name, error)
            return await self._give_up(connection, wanted, NOT_BEGUN, outcome)
        except (RecordError, UnreadableRecordError):
            _log.exception(
                "a payment of %r is refused: its ledger or a record cannot be read", connection.name
            )
            return UNREADABLE_BOOKS
        try:
            # After the reservation: the answer shows how much the node can send, which a connection with
            # a smaller budget must not learn.
            with self._slot(connection.client_pubkey, payment, params, sendable) as is_large:
                # The path to the payee of an offer begins at a node that the payee has chosen.
                if is_large and not payment.is_bolt12:
                    await self._sender.check_route(payment, params)
                # The connection may have been revoked while lightningd wrote the ledger.
                self._budget_of(connection.client_pubkey, time.time())
                attempt = await self._sender.send(connection.client_pubkey, payment, params)
        except Nip47Error as error:
            return await self._give_up(connection, wanted, error, outcome)
        except NodeError:
            return await self._give_up(connection, wanted, NOT_BEGUN, outcome)
        record = await self._sender.follow(connection.client_pubkey, attempt, outcome)
        await self._end(connection.client_pubkey, record)
        return record

    def _slot(
        self, client_pubkey: str, payment: Payment, params: CommandParams, sendable: Sendable
    ) -> AbstractContextManager[bool]:
        """Hold a slot for a large payment. One to the own node needs no channel, and is never large."""
        if params.is_own:
            return nullcontext(False)
        return self._large.slot(client_pubkey, payment, sendable)

    def _check_bounds(self, connection: Connection, wanted: Payment) -> None:
        """Raise Nip47Error if this connection may not pay now.

        One payment can be in flight for days, so their number is limited, and so is that of the records.
        """
        if self.breaker.is_suspended(connection.client_pubkey):
            raise Nip47Error(ErrorCode.RESTRICTED, SUSPENDED)
        self._pending.check_slot(connection.client_pubkey)
        if self.records.count_failed(connection.id) >= MAX_FAILED_KEPT:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "too many payments of this connection have failed; try again tomorrow",
            )
        if self.records.count_settled(connection.id) >= MAX_SETTLED_KEPT:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                "this connection has made too many payments in two days; try again tomorrow",
            )
        self._check_failures(connection.id, wanted.payment_hash)

    def _check_failures(self, connection_id: str, payment_hash: str | None) -> None:
        """Raise Nip47Error if one more attempt would make lightningd's list for this hash too long."""
        if payment_hash is None:
            return
        if self.records.count_failed_with(payment_hash, connection_id) >= MAX_FAILED_PER_HASH:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                f"{MAX_FAILED_PER_HASH} attempts to pay this invoice have failed; ask for a new invoice",
            )

    async def _fetched(
        self, connection: Connection, wanted: Payment, fetch: Fetch
    ) -> tuple[Payment, CommandParams]:
        """Return the payment with the invoice that the issuer of its offer makes for it.

        Raises:
            Nip47Error: the budget does not allow the payment, or there is no invoice for it.
            NodeError: lightningd is unavailable.
            RecordError: the ledger cannot be read.

        """
        client_pubkey = connection.client_pubkey
        await self._check_budget(client_pubkey, wanted)
        self._failed_fetches.check(client_pubkey)
        try:
            async with self.breaker.fetching(client_pubkey, wanted.request_id):
                fetched, params = await fetch(wanted)
        except (Nip47Error, NodeError):
            self._failed_fetches.note(client_pubkey)
            raise
        self._pending.learn_hash(client_pubkey, fetched)
        self._check_failures(connection.id, fetched.payment_hash)
        return fetched, params

    async def _check_budget(self, client_pubkey: str, wanted: Payment) -> None:
        """Raise Nip47Error if the budget does not allow a payment now. Nothing is reserved."""
        now = time.time()
        ledger = await self.ledgers.of(client_pubkey)
        reserve(ledger, wanted, self._budget_of(client_pubkey, now), now)

    async def _already_paid(self, connection: Connection, wanted: Payment) -> PaymentRecord | None:
        """Return the record of an earlier payment of this invoice, None if there is none.

        Raises:
            Nip47Error: PAYMENT_FAILED, somebody else on this node has paid or is paying it, or the
                issuer of an offer has made two invoices with one payment hash.
            NodeError: lightningd is unavailable.
            UnreadableRecordError: the record cannot be read.

        """
        if wanted.payment_hash is None:
            return None
        entry = self.records.with_hash(wanted.payment_hash, connection.id)
        if entry is not None and entry.is_settled and not wanted.is_bolt12:
            return await self.records.get(connection.id, entry.request_id)
        parts = await self.payer.history_of(wanted.payment_hash)
        is_shown = connection.view is View.NODE and not wanted.is_bolt12
        if parts.is_pending or (parts.sent and not is_shown):
            raise Nip47Error(ErrorCode.PAYMENT_FAILED, ALREADY_PAID)
        return settled(wanted, parts.sent) if parts.sent else None

    async def _check_unpaid(self, wanted: Payment) -> None:
        """Raise Nip47Error (PAYMENT_FAILED, NOT_FOUND) unless this node's own invoice is still unpaid.

        Somebody outside may have paid it, or the owner may have deleted it. The error of `pay` for that
        says "pending", so the payment would be followed for two minutes.
        """
        status = await self.payer.own_invoice_status(wanted.payment_hash or "")
        if status == "paid":
            raise Nip47Error(ErrorCode.PAYMENT_FAILED, ALREADY_PAID)
        if status != "unpaid":
            # `pay` has a code by which clients know that nothing was sent.
            code = ErrorCode.NOT_FOUND if wanted.method == "pay" else ErrorCode.PAYMENT_FAILED
            raise Nip47Error(code, NO_SUCH_INVOICE)

    async def _reserve(self, client_pubkey: str, wanted: Payment, params: CommandParams) -> Payment:
        """Reserve the most that the payment can cost, within the current budget."""
        now = time.time()

        def change(ledger: Ledger) -> Ledger:
            reserved = reserve(ledger, wanted, self._budget_of(client_pubkey, now), now)
            max_fee_msat = reserved.reservations[wanted.request_id].max_fee_msat
            if params.blinded_fee_msat > max_fee_msat:
                raise fee_of_payee_too_high(params.blinded_fee_msat, max_fee_msat)
            return reserved

        return (await self.ledgers.change(client_pubkey, change)).reservations[wanted.request_id]

    def _budget_of(self, client_pubkey: str, now: float) -> Budget:
        connection = self._connection_of(client_pubkey)
        if connection is None or connection.has_expired(now):
            raise Nip47Error(ErrorCode.UNAUTHORIZED, "this connection is revoked or has expired")
        return connection.budget

    async def _give_up(
        self, connection: Connection, wanted: Payment, why: Nip47Error, outcome: asyncio.Future[Outcome]
    ) -> Nip47Error:
        """Refuse a payment of which nothing was sent, and release its reservation."""
        # The client is answered first: the release can take as long as lightningd is unavailable.
        outcome.set_result(why)
        await self._release(connection.client_pubkey, wanted.request_id)
        return why

    async def _release(self, client_pubkey: str, request_id: str) -> None:
        """Release a reservation, also one that lightningd may have written without answering."""
        with suppress(RecordError):
            await retry_forever(
                lambda: self.ledgers.change(client_pubkey, lambda ledger: ledger.release(request_id))
            )

    async def _resume(
        self, client_pubkey: str, payment: Payment, outcome: asyncio.Future[Outcome]
    ) -> Outcome:
        """Follow a payment that was in flight at the start to its end, and answer its request."""
        record = await self._settled_record(client_pubkey, payment)
        if record is None:
            attempt = unknown_attempt(payment, may_prove=not self._is_node_start)
            record = await self._sender.follow(client_pubkey, attempt, outcome)
        await self._end(client_pubkey, record)
        if not self._pending.is_repeated(payment.request_id):
            await self._answer(client_pubkey, record)
        return record

    async def _settled_record(self, client_pubkey: str, payment: Payment) -> PaymentRecord | None:
        """Return the payment's record if it says that the payment settled, else None.

        The record of a failed payment may be older than its reservation (`book_late`), so only
        lightningd knows how that payment ends.
        """
        record = await self._record(client_pubkey, payment.request_id)
        return record if record is not None and record.is_settled else None

    async def _end(self, client_pubkey: str, record: PaymentRecord) -> None:
        """Store the record, then book or release. After a crash in between, both are done again."""
        request_id = record.payment.request_id
        await retry_forever(lambda: self.records.keep(connection_id_of(client_pubkey), record))

        def change(ledger: Ledger) -> Ledger:
            if not record.is_settled:
                return ledger.release(request_id, unannounced=True)
            connection = self._connection_of(client_pubkey)
            budget = connection.budget if connection else None
            return ledger.book(request_id, record.sent_msat, budget, time.time())

        try:
            await retry_forever(lambda: self.ledgers.change(client_pubkey, change))
        except RecordError:
            # Nothing more is spent from this ledger. The client still gets its answer.
            _log.exception(
                "a payment of connection %s is not booked: its ledger cannot be read",
                connection_id_of(client_pubkey),
            )
            return
        connection = self._connection_of(client_pubkey)
        name = connection.name if connection else f"revoked {connection_id_of(client_pubkey)}"
        _log.info("%s of %r: %s", record.payment.method, name, record.state)
        self._tasks.spawn(self._announce(client_pubkey, request_id))

    async def _announce(self, client_pubkey: str, request_id: str) -> None:
        """Notify the apps of a payment if it is settled, then mark it as announced in the ledger."""
        record = await self._record(client_pubkey, request_id)
        if record is not None and record.is_settled:
            await retry_forever(partial(self._notify, connection_id_of(client_pubkey), record))
        await retry_forever(
            lambda: self.ledgers.change(client_pubkey, lambda ledger: ledger.mark_announced(request_id))
        )
        await retry_forever(partial(self.forget_if_done, client_pubkey))

    async def _answer_again(self, client_pubkey: str, request_id: str) -> None:
        """Answer a request whose payment ended before the start, perhaps for the second time."""
        record = await self._record(client_pubkey, request_id)
        if record is not None:
            await self._answer(client_pubkey, record)

    async def _record(self, client_pubkey: str, request_id: str) -> PaymentRecord | None:
        """Return the record of a request's payment; None if there is none, or it cannot be read."""
        connection_id = connection_id_of(client_pubkey)
        try:
            return await retry_forever(lambda: self.records.get(connection_id, request_id))
        except UnreadableRecordError:
            return None
