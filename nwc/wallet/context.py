"""What a method handler works with: the wallet around it and the call before it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from nwc.cln.history import History
from nwc.cln.node import Node
from nwc.nip47.encryption import Encryption
from nwc.wallet.connections.record import Connection
from nwc.wallet.invoice_record import InvoiceRecords
from nwc.wallet.spending.in_flight import InFlight
from nwc.wallet.spending.payments import Payments
from nwc.wallet.templates import Templates

# What one connection may have done at once; what it asks beyond that waits, and all others do not.
LISTS_AT_ONCE = 4
# Half of the invoices that lightningd is asked for at once; it makes one after the other anyway.
INVOICES_AT_ONCE = 8


class Turns:
    """Lets so many calls of each connection go on at once. Knows only connections that have one."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._semaphores: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, connection: Connection) -> asyncio.Semaphore:
        """Return what a call of this connection enters with `async with`."""
        semaphore = self._semaphores.get(connection.id)
        if semaphore is None:
            semaphore = self._semaphores[connection.id] = asyncio.Semaphore(self._at_once)
        return semaphore


@dataclass(slots=True)
class ChainTip:
    """The newest block lightningd has told us of (notification `block_added`)."""

    height: int = -1
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Wallet:
    """What all handlers share.

    Attributes:
        node: lightningd.
        invoice_expiry: seconds an invoice lasts when the client does not say.
        tip: the newest block.
        payments: what connections have paid and are paying.
        notifications: whether the owner has not switched notifications off for all.
        templates: what bare-hash invoices are made of.
        history: queries over the node's invoices and payments.
        records: what is kept beside invoices.
        in_flight: the payments in flight, for showing them.
        list_turns, invoice_turns: keep one connection from taking the places of all.

    """

    node: Node
    invoice_expiry: int
    tip: ChainTip
    payments: Payments
    notifications: bool = True
    templates: Templates = field(init=False)
    history: History = field(init=False)
    records: InvoiceRecords = field(init=False)
    in_flight: InFlight = field(init=False)
    list_turns: Turns = field(default_factory=lambda: Turns(LISTS_AT_ONCE))
    invoice_turns: Turns = field(default_factory=lambda: Turns(INVOICES_AT_ONCE))

    def __post_init__(self) -> None:
        """Make what is made of the other attributes."""
        object.__setattr__(self, "templates", Templates(self.node))
        object.__setattr__(self, "history", History(self.node))
        object.__setattr__(self, "records", InvoiceRecords(self.node))
        in_flight = InFlight(self.payments.payer, self.payments.ledgers)
        object.__setattr__(self, "in_flight", in_flight)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed every check but its parameters'.

    Attributes:
        request_id: id of the request event, 64 hex digits.
        params: from the client, unchecked.
        connection: whose request it is.
        created_at: the request event's own time, Unix seconds.
        encryption: the request's scheme.

    """

    request_id: str
    params: dict[str, Any]
    connection: Connection
    created_at: int = 0
    encryption: Encryption = Encryption.NIP44_V2


Handler = Callable[[Wallet, Call], Awaitable[dict[str, Any]]]
