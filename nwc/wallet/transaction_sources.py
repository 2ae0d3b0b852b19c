"""The sources of a page of transactions: invoices, the node's payments, and a connection's own payments.

A source first finds the keys of transactions, newest first, which is cheap. Then only those of the page
are read.
"""

import asyncio
import time
from typing import Protocol

from nwc.cln.history import Found, History, InvoiceFilter, PaymentFilter
from nwc.cln.node import Json
from nwc.wallet.connections.record import Connection
from nwc.wallet.hold_record import HoldRecord, HoldRecordState
from nwc.wallet.invoice_record import InvoiceRecords
from nwc.wallet.spending.payment import Payment
from nwc.wallet.spending.payment_records import Entry, PaymentRecords, UnreadableRecordError
from nwc.wallet.spending.payments import Payments
from nwc.wallet.transaction import (
    Transaction,
    ended_transaction,
    hold_transaction,
    incoming_transaction,
    merged_payment,
    outgoing_transaction,
    pending_transaction,
)

Transactions = dict[int | str, Transaction]


class Source(Protocol):
    """The transactions of one kind that pass a filter. Every method may raise NodeError."""

    async def count(self) -> int:
        """Return the number of transactions."""

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return the keys of transactions, newest first."""

    async def read(self, found: list[Found]) -> Transactions:
        """Return transactions by key, without those deleted since `find`."""


class InvoiceSource:
    """Invoices of the node or of one connection, with the plugin's records about them."""

    def __init__(self, history: History, records: InvoiceRecords, wanted: InvoiceFilter) -> None:
        self._history = history
        self._records = records
        self._wanted = wanted

    async def count(self) -> int:
        """Return the number of transactions."""
        return await self._history.count_invoices(self._wanted)

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return the keys of transactions, newest first."""
        return await self._history.find_invoices(self._wanted, limit=limit, offset=offset)

    async def read(self, found: list[Found]) -> Transactions:
        """Return transactions by `created_index`."""
        invoices = await self._history.invoices(found)
        read = await asyncio.gather(*map(self._transaction, invoices.values()))
        return dict(zip(invoices, read, strict=True))

    async def _transaction(self, invoice: Json) -> Transaction:
        return incoming_transaction(invoice, await self._records.find(invoice), time.time())


class HoldSource:
    """Hold invoices, from the plugin's records.

    Args:
        records: newest first.
        from_time, until_time: Unix seconds of their making, both inclusive; None is unbounded.
        settled_only: leave out those that are not settled.

    """

    def __init__(
        self,
        records: list[HoldRecord],
        *,
        from_time: int | None,
        until_time: int | None,
        settled_only: bool,
    ) -> None:
        self._records = {
            record.payment_hash: record
            for record in records
            if record.created_at >= (from_time or 0)
            and (until_time is None or record.created_at <= until_time)
            and (record.state is HoldRecordState.SETTLED or not settled_only)
        }

    async def count(self) -> int:
        """Return the number of transactions."""
        return len(self._records)

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return the keys of transactions, newest first."""
        wanted = list(self._records.values())[offset : offset + limit]
        return [Found(record.payment_hash, record.created_at) for record in wanted]

    async def read(self, found: list[Found]) -> Transactions:
        """Return transactions by payment hash."""
        now = time.time()
        return {one.key: hold_transaction(self._records[str(one.key)], now) for one in found}


class PaymentSource:
    """Payments of the node, with the metadata of those that connections made."""

    def __init__(self, history: History, own: Payments, wanted: PaymentFilter) -> None:
        self._history = history
        self._own = own
        self._wanted = wanted

    async def count(self) -> int:
        """Return the number of transactions."""
        return await self._history.count_payments(self._wanted)

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return the keys of transactions, newest first."""
        return await self._history.find_payments(self._wanted, limit=limit, offset=offset)

    async def read(self, found: list[Found]) -> Transactions:
        """Return transactions by payment hash."""
        parts = await self._history.payments(found)
        existing = {key: some for key, some in parts.items() if some}
        read = await asyncio.gather(*(self._transaction(str(key), existing[key]) for key in existing))
        return dict(zip(existing, read, strict=True))

    async def _transaction(self, payment_hash: str, parts: list[Json]) -> Transaction:
        return outgoing_transaction(merged_payment(parts), await self._own.metadata_of(payment_hash))


class OwnPaymentSource:
    """Payments of one connection, in flight and ended; one for each payment hash.

    Of several attempts with the same payment hash, it shows the one that lookup_invoice returns: the one
    in flight, else the settled one, else the newest. It does not show a failed keysend without a payment
    hash (lightningd never had a part of it), since NIP-47 requires one.

    Args:
        records: the payments that have ended.
        in_flight: the connection's payments in flight, each with its payment hash.
        connection: whose payments.
        wanted: the filter: times, and whether only settled payments count.

    """

    def __init__(
        self,
        records: PaymentRecords,
        in_flight: list[Payment],
        connection: Connection,
        wanted: PaymentFilter,
    ) -> None:
        self._records = records
        self._connection_id = connection.id
        self._in_flight = {payment.request_id: payment for payment in in_flight}
        low, high = wanted.from_time or 0, wanted.until_time
        found = [
            (entry.created_at, entry.order, entry.request_id) for entry in self._ended_between(wanted)
        ]
        found += [
            (payment.created_at, payment.order, payment.request_id)
            for payment in in_flight
            if payment.created_at >= low and (high is None or payment.created_at <= high)
        ]
        found.sort(reverse=True)
        self._found = [Found(request_id, created_at) for created_at, _, request_id in found]

    def _ended_between(self, wanted: PaymentFilter) -> list[Entry]:
        in_flight = {payment.payment_hash for payment in self._in_flight.values()}
        return [
            entry
            for entry in self._records.between(
                self._connection_id, wanted.from_time, wanted.until_time, wanted.settled_only
            )
            if entry.payment_hash
            and entry.payment_hash not in in_flight
            and (
                entry.is_settled
                or entry == self._records.with_hash(entry.payment_hash, self._connection_id)
            )
        ]

    async def count(self) -> int:
        """Return the number of transactions."""
        return len(self._found)

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return the keys of transactions, newest first."""
        return self._found[offset : offset + limit]

    async def read(self, found: list[Found]) -> Transactions:
        """Return transactions by request id."""
        keys = [str(one.key) for one in found]
        read = zip(keys, await asyncio.gather(*map(self._transaction, keys)), strict=True)
        return {key: transaction for key, transaction in read if transaction is not None}

    async def _transaction(self, request_id: str) -> Transaction | None:
        if request_id in self._in_flight:
            return pending_transaction(self._in_flight[request_id])
        try:
            record = await self._records.get(self._connection_id, request_id)
        except UnreadableRecordError:
            return None
        return ended_transaction(record) if record else None
