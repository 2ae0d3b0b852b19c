"""list_transactions (NIP-47): invoices and payments, newest first, in pages."""

import heapq
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.history import Found, InvoiceFilter, PaymentFilter
from nwc.nip47 import params
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.nip47.response import MAX_PLAINTEXT_BYTES
from nwc.nostr.encoding import to_json
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Call, Wallet
from nwc.wallet.labels import TEMPLATE_PREFIX, connection_prefix
from nwc.wallet.transaction import Transaction
from nwc.wallet.transaction_sources import (
    HoldSource,
    InvoiceSource,
    OwnPaymentSource,
    PaymentSource,
    Source,
)

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_OFFSET = 10_000_000
# Merging two lists takes the keys of everything up to the page.
MAX_MERGED_OFFSET = 10_000
MAX_TIME = 2**40
# The rest of the answer, without the transactions.
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

    @property
    def has_window(self) -> bool:
        """True if it has a bound on the time."""
        return self.from_time is not None or self.until_time is not None


def parse_params(given: params.Params) -> WantedPage:
    """Return the checked parameters of list_transactions.

    Raises:
        Nip47Error: OTHER, with the field, its rule and the value that was given.

    """
    type_ = params.choice(given, "type", ("incoming", "outgoing"))
    unpaid = params.flag(given, "unpaid")
    limit = params.integer(given, "limit", minimum=0, maximum=2**53, unit="transactions")
    return WantedPage(
        from_time=_time(given, "from"),
        until_time=_time(given, "until"),
        limit=min(limit or DEFAULT_LIMIT, MAX_LIMIT),
        offset=params.integer(given, "offset", minimum=0, maximum=MAX_OFFSET, unit="transactions") or 0,
        incoming=type_ != "outgoing",
        outgoing=type_ != "incoming",
        unpaid_incoming=unpaid or params.flag(given, "unpaid_incoming"),
        unpaid_outgoing=unpaid or params.flag(given, "unpaid_outgoing"),
    )


def _time(given: params.Params, name: str) -> int | None:
    return params.integer(given, name, minimum=0, maximum=MAX_TIME, unit="Unix seconds") or None


async def list_transactions(wallet: Wallet, call: Call) -> dict[str, Any]:
    """Return a page of transactions and their total number.

    Raises:
        Nip47Error: OTHER for an invalid parameter; NOT_IMPLEMENTED if the node has no `sql` RPC.
        NodeError: lightningd is unavailable.

    """
    wanted = parse_params(call.params)
    async with wallet.list_limits[call.connection.id]:
        try:
            transactions, total = await _page(await _sources(wallet, call.connection, wanted), wanted)
        except RpcCallError as error:
            if error.code != RpcCode.METHOD_NOT_FOUND:
                raise
            raise Nip47Error(
                ErrorCode.NOT_IMPLEMENTED, "list_transactions needs the sql command of lightningd"
            ) from None
    return {"transactions": _fitting(transactions), "total_count": total}


async def _sources(wallet: Wallet, connection: Connection, wanted: WantedPage) -> list[Source]:
    """Return the sources, outgoing first: payments count as newer than invoices of the same second.

    Nothing shows which of the two was made first, but money is usually received before it is spent.
    """
    sources: list[Source] = []
    if wanted.outgoing:
        sources += await _outgoing(wallet, connection, wanted)
    if wanted.incoming:
        invoices = _visible_invoices(connection, paid_only=not wanted.unpaid_incoming)
        if wanted.has_window:
            invoices = await wallet.history.invoices_between(
                invoices, wanted.from_time, wanted.until_time
            )
        sources.append(InvoiceSource(wallet.history, wallet.records, invoices))
        sources += await _hold_invoices(wallet, connection, wanted)
    return sources


async def _hold_invoices(wallet: Wallet, connection: Connection, wanted: WantedPage) -> list[Source]:
    """Return the source of the hold invoices that a connection may see, or no source without any."""
    source = HoldSource(
        await wallet.hold_invoices.visible_to(connection),
        from_time=wanted.from_time,
        until_time=wanted.until_time,
        settled_only=not wanted.unpaid_incoming,
    )
    return [source] if await source.count() else []


def _visible_invoices(connection: Connection, *, paid_only: bool) -> InvoiceFilter:
    if connection.view is View.NODE:
        return InvoiceFilter(None, paid_only, hidden_prefix=TEMPLATE_PREFIX)
    return InvoiceFilter(connection_prefix(connection.id), paid_only)


async def _outgoing(wallet: Wallet, connection: Connection, wanted: WantedPage) -> list[Source]:
    payments = PaymentFilter(not wanted.unpaid_outgoing, wanted.from_time, wanted.until_time)
    if connection.view is View.OWN:
        return await _own_payments(wallet, connection, payments)
    return [PaymentSource(wallet.history, wallet.payments, payments)]


async def _own_payments(wallet: Wallet, connection: Connection, wanted: PaymentFilter) -> list[Source]:
    """Return the source of a connection's own payments, or no source if it has made none."""
    await wallet.payments.records.ready(connection.id)
    # There must be no `await` between these two, so that a payment that just ends is in one of them.
    in_flight = [] if wanted.settled_only else await wallet.in_flight.of(connection.client_pubkey)
    source = OwnPaymentSource(wallet.payments.records, in_flight, connection, wanted)
    return [source] if await source.count() else []


async def _page(sources: list[Source], wanted: WantedPage) -> tuple[list[Transaction], int]:
    total = sum([await source.count() for source in sources])
    found = await _find(sources, wanted.limit, wanted.offset)
    read = [await source.read([one for origin, one in found if origin is source]) for source in sources]
    by_source = dict(zip(map(id, sources), read, strict=True))
    rows = (by_source[id(source)].get(one.key) for source, one in found)
    return [row for row in rows if row is not None], total


async def _find(sources: list[Source], limit: int, offset: int) -> list[tuple[Source, Found]]:
    """Return the keys of a page, newest first, each with its source."""
    if len(sources) == 1:
        return [(sources[0], one) for one in await sources[0].find(limit, offset)]
    if offset > MAX_MERGED_OFFSET:
        raise Nip47Error(
            ErrorCode.OTHER,
            f"offset: must be at most {MAX_MERGED_OFFSET} without type; use until to go further back",
        )
    end = offset + limit
    lists = [[(source, one) for one in await source.find(end)] for source in sources]
    # Merged and not sorted: if times and lightningd's order disagree, no row may move to another page.
    # Of the same second, the rows of an earlier source come first.
    merged = heapq.merge(*lists, key=lambda row: row[1].created_at, reverse=True)
    return list(islice(merged, offset, end))


def _fitting(transactions: list[Transaction]) -> list[Transaction]:
    """Return as many transactions as one answer can hold: a short page is better than none."""
    size, fitting = _ENVELOPE_BYTES, []
    for transaction in transactions:
        size += len(to_json(transaction).encode()) + 1
        if size > MAX_PLAINTEXT_BYTES:
            break
        fitting.append(transaction)
    return fitting
