"""Where the rows of list_transactions come from: the node's invoices, the node's payments.

A source first says where rows are, newest first, which is cheap; only those of the page are then read.
"""

import asyncio
import time
from typing import Protocol

from nwc.cln.history import Found, History, InvoiceFilter, PaymentFilter
from nwc.cln.node import Json
from nwc.wallet.invoice_record import InvoiceRecords
from nwc.wallet.transaction import (
    Transaction,
    incoming_transaction,
    merged_payment,
    outgoing_transaction,
)

Transactions = dict[int | str, Transaction]


class Source(Protocol):
    """Rows of one kind, already filtered. Every method raises NodeError."""

    async def count(self) -> int:
        """Return how many rows there are."""

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return where rows are, newest first."""

    async def read(self, found: list[Found]) -> Transactions:
        """Return rows by their key; what is gone in the meantime is left out."""


class InvoiceSource:
    """Invoices of the node or of one connection, with what is kept beside them."""

    def __init__(self, history: History, records: InvoiceRecords, wanted: InvoiceFilter) -> None:
        self._history = history
        self._records = records
        self._wanted = wanted

    async def count(self) -> int:
        """Return how many rows there are."""
        return await self._history.count_invoices(self._wanted)

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return where rows are, newest first."""
        return await self._history.find_invoices(self._wanted, limit=limit, offset=offset)

    async def read(self, found: list[Found]) -> Transactions:
        """Return rows by their `created_index`."""
        invoices = await self._history.invoices(found)
        read = await asyncio.gather(*map(self._transaction, invoices.values()))
        return dict(zip(invoices, read, strict=True))

    async def _transaction(self, invoice: Json) -> Transaction:
        return incoming_transaction(invoice, await self._records.find(invoice), time.time())


class PaymentSource:
    """Payments of the node."""

    def __init__(self, history: History, wanted: PaymentFilter) -> None:
        self._history = history
        self._wanted = wanted

    async def count(self) -> int:
        """Return how many rows there are."""
        return await self._history.count_payments(self._wanted)

    async def find(self, limit: int, offset: int = 0) -> list[Found]:
        """Return where rows are, newest first."""
        return await self._history.find_payments(self._wanted, limit=limit, offset=offset)

    async def read(self, found: list[Found]) -> Transactions:
        """Return rows by their payment hash."""
        parts = await self._history.payments(found)
        return {key: outgoing_transaction(merged_payment(some)) for key, some in parts.items() if some}
