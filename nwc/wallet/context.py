"""What a method handler gets: the wallet, which all handlers share, and the call to serve."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nwc.cln.history import History
from nwc.cln.node import Node
from nwc.nip47.encryption import Encryption
from nwc.wallet.connections.record import Connection
from nwc.wallet.hold_invoices import HoldInvoices
from nwc.wallet.invoice_record import InvoiceRecords
from nwc.wallet.spending.in_flight import InFlight
from nwc.wallet.spending.payments import Payments
from nwc.wallet.templates import Templates

# How many calls of one connection run at once. Its further calls wait; other connections' calls do not.
LISTS_AT_ONCE = 4
# Half of the `invoice` calls that lightningd gets at once (nwc/cln/node.py); it makes one after another.
INVOICES_AT_ONCE = 8


@dataclass(slots=True)
class ChainTip:
    """The newest block of which lightningd has notified us (`block_added`)."""

    height: int = -1
    hash: str = ""


class Wallet:
    """What all handlers share.

    Args:
        node: lightningd.
        invoice_expiry: seconds that an invoice lasts if the client does not say.
        tip: the newest block.
        payments: the payments of all connections.
        hold_invoices: the hold invoices of all connections.
        notifications: False if the owner has switched notifications off for all connections.

    Attributes:
        templates: the invoices from which those with a bare description hash are made.
        history: queries over the node's invoices and payments.
        records: what the plugin stores about invoices.
        in_flight: the payments in flight, as list_transactions and lookup_invoice show them.
        list_limits, invoice_limits: by connection id, what a call holds while it runs: they keep one
            connection from using up lightningd's time.

    """

    def __init__(
        self,
        node: Node,
        invoice_expiry: int,
        tip: ChainTip,
        payments: Payments,
        *,
        hold_invoices: HoldInvoices,
        notifications: bool = True,
    ) -> None:
        self.node = node
        self.invoice_expiry = invoice_expiry
        self.tip = tip
        self.payments = payments
        self.hold_invoices = hold_invoices
        self.notifications = notifications
        self.templates = Templates(node)
        self.history = History(node)
        self.records = InvoiceRecords(node)
        self.in_flight = InFlight(payments.payer, payments.ledgers)
        self.list_limits = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(LISTS_AT_ONCE))
        self.invoice_limits = defaultdict[str, asyncio.Semaphore](
            lambda: asyncio.Semaphore(INVOICES_AT_ONCE)
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One permitted request; only its parameters are unchecked.

    Attributes:
        request_id: id of the request event, 64 hex digits.
        params: from the client, unchecked.
        connection: whose request it is.
        created_at: `created_at` of the request event, Unix seconds.
        encryption: the scheme of the request.

    """

    request_id: str
    params: dict[str, Any]
    connection: Connection
    created_at: int = 0
    encryption: Encryption = Encryption.NIP44_V2


Handler = Callable[[Wallet, Call], Awaitable[dict[str, Any]]]
