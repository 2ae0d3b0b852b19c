"""list_transactions (NIP-47): invoices and payments, newest first, a page at a time."""

import asyncio
import heapq
import json
import time
from dataclasses import dataclass
from typing import Any

from nwc.cln.errors import RpcCode, RpcFailed
from nwc.cln.history import History, InvoiceFilter, PaymentFilter, invoice_created_at
from nwc.cln.node import Json
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.wallet import invoice_record
from nwc.wallet.connections import Connection, View
from nwc.wallet.context import Call, Wallet
from nwc.wallet.transaction import (
    Transaction,
    incoming_transaction,
    outgoing_transaction,
)

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_OFFSET = 10_000_000
# Where two lists are merged, everything up to the page is read.
MAX_MERGED_OFFSET = 10_000
MAX_TIME = 2**40
# The rest of the answer around the transactions.
_ENVELOPE_BYTES = 500


@dataclass(frozen=True, slots=True)
class WantedPage:
    """The checked parameters of list_transactions; times in Unix seconds, both inclusive."""

    from_time: int | None
    until_time: int | None
    limit: int
    offset: int
    incoming: bool
    outgoing: bool
    unpaid_incoming: bool
    unpaid_outgoing: bool


def parse_params(given: params.Params, connection: Connection) -> WantedPage:
    """Check the parameters of list_transactions.

    Raises:
        Nip47Error: OTHER, with the field, the rule and what came.

    """
    type_ = params.choice(given, "type", ("incoming", "outgoing"))
    unpaid = params.flag(given, "unpaid")
    limit = params.integer(given, "limit", minimum=0, maximum=2**53, unit="transactions")
    page = WantedPage(
        from_time=params.integer(given, "from", minimum=0, maximum=MAX_TIME, unit="Unix seconds"),
        until_time=params.integer(given, "until", minimum=0, maximum=MAX_TIME, unit="Unix seconds"),
        limit=min(limit or DEFAULT_LIMIT, MAX_LIMIT),
        offset=params.integer(given, "offset", minimum=0, maximum=MAX_OFFSET, unit="transactions") or 0,
        incoming=type_ != "outgoing",
        # What a connection with view=own has paid is nothing: it cannot pay.
        outgoing=type_ != "incoming" and connection.view is View.NODE,
        unpaid_incoming=unpaid or params.flag(given, "unpaid_incoming"),
        unpaid_outgoing=unpaid or params.flag(given, "unpaid_outgoing"),
    )
    if page.incoming and page.outgoing and page.offset > MAX_MERGED_OFFSET:
        raise Nip47Error(
            ErrorCode.OTHER,
            f"offset: must be at most {MAX_MERGED_OFFSET} without type; use until to go further back",
        )
    return page


async def list_transactions(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return a page of transactions and how many there are in all.

    Raises:
        Nip47Error: a parameter breaks its rule; NOT_IMPLEMENTED where the node has no `sql` RPC.
        NodeError: lightningd is away.

    """
    wanted = parse_params(call.params, call.connection)
    try:
        found, total = await _find(wallet, call.connection, wanted)
    except RpcFailed as error:
        if error.code != RpcCode.METHOD_NOT_FOUND:
            raise
        raise Nip47Error(
            ErrorCode.NOT_IMPLEMENTED, "list_transactions needs the sql command of lightningd"
        ) from None
    transactions = await asyncio.gather(*(_transaction(wallet, row) for row in found))
    return {"transactions": _that_fit(transactions), "total_count": total}


async def _find(wallet: Wallet, connection: Connection, wanted: WantedPage) -> tuple[list[Json], int]:
    history = History(wallet.node)
    invoices = await _invoice_filter(history, connection, wanted)
    payments = PaymentFilter(not wanted.unpaid_outgoing, wanted.from_time, wanted.until_time)
    if not wanted.incoming and not wanted.outgoing:
        return [], 0
    if not wanted.outgoing:
        return await asyncio.gather(
            history.invoices(invoices, limit=wanted.limit, offset=wanted.offset),
            history.count_invoices(invoices),
        )
    if not wanted.incoming:
        return await asyncio.gather(
            history.payments(payments, limit=wanted.limit, offset=wanted.offset),
            history.count_payments(payments),
        )
    end = wanted.offset + wanted.limit
    in_, out, in_total, out_total = await asyncio.gather(
        history.invoices(invoices, limit=end),
        history.payments(payments, limit=end),
        history.count_invoices(invoices),
        history.count_payments(payments),
    )
    # Not a sort: where times and lightningd's order disagree, a row must not move from page to page.
    merged = list(heapq.merge(in_, out, key=_created_at, reverse=True))
    return merged[wanted.offset : end], in_total + out_total


def _created_at(row: Json) -> int:
    return int(row["created_at"]) if _is_payment(row) else invoice_created_at(row)


def _is_payment(row: Json) -> bool:
    return "state" in row


async def _invoice_filter(history: History, connection: Connection, wanted: WantedPage) -> InvoiceFilter:
    after = None if wanted.until_time is None else wanted.until_time + 1
    return InvoiceFilter(
        label_prefix=_label_prefix(connection),
        paid_only=not wanted.unpaid_incoming,
        from_index=wanted.from_time and await history.first_index_at(wanted.from_time),
        until_index=None if after is None else await history.first_index_at(after) - 1,
    )


def _label_prefix(connection: Connection) -> str | None:
    return None if connection.view is View.NODE else invoice_record.label_prefix(connection)


async def _transaction(wallet: Wallet, row: Json) -> Transaction:
    if _is_payment(row):
        return outgoing_transaction(row)
    record = await invoice_record.find(wallet.node, row)
    return incoming_transaction(row, record, time.time())


def _that_fit(transactions: list[Transaction]) -> list[Transaction]:
    """Return as many as one answer can hold: a short page is better than none."""
    size, fitting = _ENVELOPE_BYTES, []
    for transaction in transactions:
        size += len(json.dumps(transaction, ensure_ascii=False, separators=(",", ":")).encode()) + 1
        if size > MAX_PLAINTEXT_BYTES:
            break
        fitting.append(transaction)
    return fitting
