"""A page of a connection's transactions, newest first: what list_transactions and nwc-payments show."""

import heapq
from dataclasses import dataclass
from itertools import islice

from nwc.cln.history import Found, InvoiceFilter, PaymentFilter
from nwc.nip47.errors import ErrorCode, Nip47Error
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.context import Wallet
from nwc.wallet.labels import TEMPLATE_PREFIX, connection_prefix
from nwc.wallet.transaction import Transaction
from nwc.wallet.transaction_sources import (
    HoldSource,
    InvoiceSource,
    OwnPaymentSource,
    PaymentSource,
    Source,
)

# Merging two lists takes the keys of everything up to the page.
MAX_MERGED_OFFSET = 10_000


@dataclass(frozen=True, slots=True)
class WantedPage:
    """The page that is wanted.

    Attributes:
        from_time, until_time: Unix seconds of the creation, both inclusive; None is unbounded.
        limit, offset: how many transactions, and how many newer ones are skipped; both bounded.
        incoming, outgoing: whether it has invoices, and payments.
        unpaid_incoming, unpaid_outgoing: whether it also has those that are not settled.

    """

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


async def read_page(
    wallet: Wallet, connection: Connection, wanted: WantedPage
) -> tuple[list[Transaction], int]:
    """Return the transactions of a page and their total number. The view of the connection decides.

    Raises:
        Nip47Error: OTHER, the offset is over MAX_MERGED_OFFSET for a list of invoices and payments.
        NodeError: lightningd is unavailable, or has no `sql` command.

    """
    return await _page(await _sources(wallet, connection, wanted), wanted)


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
