"""Following the node's paid invoices, each once and in their order.

Lightningd numbers paid invoices without gaps (`pay_index`), and `waitanyinvoice` returns the next after
a given number, also when it was paid while nobody asked. The position is kept in the datastore, and
moves on only when an invoice has been dealt with. Stopping lets what has begun come to its end. Only
where nothing can be written in between is an invoice dealt with twice: after a crash, or when
lightningd stops, which refuses calls before it says so.

    ["nwc", "notifications", "position"]        pay_index of the last invoice dealt with
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from nwc.cln.errors import NodeError
from nwc.cln.node import Json, Node
from nwc.tasks import Steps, Tasks
from nwc.wallet.connections.registry import ConnectionRegistry
from nwc.wallet.labels import parse_request_label

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 10.0

_MAX_PAY_INDEX_DIGITS = 18
_POSITION = ("nwc", "notifications", "position")

_log = logging.getLogger(__name__)


class PaidInvoices:
    """Calls `deal_with` with each paid invoice (as `waitanyinvoice` shows it), one after the other.

    `deal_with` raises NodeError for what is to be tried again.
    """

    def __init__(self, node: Node, deal_with: Callable[[Json], Awaitable[None]]) -> None:
        self._node = node
        self._deal_with = deal_with
        self._tasks = Tasks()
        self._steps = Steps()

    def start(self) -> None:
        """Begin to follow."""
        self._tasks.spawn(self._run())

    async def stop(self, timeout_s: float = 0) -> None:
        """End. What is not dealt with within so many seconds is dealt with again after a start."""
        await self._tasks.finish(0)
        await self._steps.finish(timeout_s)

    async def _run(self) -> None:
        delay = RETRY_FIRST_S
        while True:
            started = time.monotonic()
            try:
                await self._follow()
            except NodeError as error:
                _log.debug("payments cannot be followed now: %s", error)
            if time.monotonic() - started > RETRY_MAX_S:
                delay = RETRY_FIRST_S
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S)

    async def _follow(self) -> None:
        position = await self._position()
        while True:
            invoice = await self._node.wait_paid_invoice(position)
            position = await self._steps.whole(self._step(invoice))

    async def _step(self, invoice: Json) -> int:
        await self._deal_with(invoice)
        position: int = invoice["pay_index"]
        await self._node.datastore_put(_POSITION, str(position))
        return position

    async def _position(self) -> int:
        stored = await self._node.datastore_get(_POSITION)
        if stored is not None and is_pay_index(stored):
            return int(stored)
        newest = await self._node.newest_pay_index()
        await self._node.datastore_put(_POSITION, str(newest))
        return newest


class Receipts:
    """Counts what each connection receives, and has its observers notified.

    Args:
        connections: the connections being served.
        unserved_key: returns the client key of a connection that is stored, but not served, by its id;
            None for any other.
        count: counts an amount in msat as received by the connection of a client key; an invoice with
            the same `pay_index` is counted once.
        notify: notifies of a paid invoice.

    """

    def __init__(
        self,
        connections: ConnectionRegistry,
        *,
        unserved_key: Callable[[str], str | None],
        count: Callable[[str, int, int], Awaitable[None]],
        notify: Callable[[Json], Awaitable[None]],
    ) -> None:
        self._connections = connections
        self._unserved_key = unserved_key
        self._count = count
        self._notify = notify

    async def take(self, invoice: Json) -> None:
        """Count a paid invoice for the connection that made it, and notify of it.

        Raises:
            NodeError: lightningd is away; to be called again.

        """
        try:
            await self._count_and_notify(invoice)
        except (KeyError, TypeError, ValueError):
            # A row that nobody expected must not keep all that follow from being handled.
            _log.exception("a paid invoice was not understood")

    async def _count_and_notify(self, invoice: Json) -> None:
        label = parse_request_label(invoice["label"])
        connection_id = label.connection_id if label else ""
        live = self._connections.with_id(connection_id)
        client_pubkey = live.record.client_pubkey if live else self._unserved_key(connection_id)
        if client_pubkey is not None:
            await self._count(client_pubkey, invoice["amount_received_msat"], invoice["pay_index"])
        if live is not None:
            _log.info("payment received through %r", live.record.name)
        await self._notify(invoice)


def is_pay_index(text: str) -> bool:
    """Tell whether a text of the datastore is a `pay_index`, which lightningd counts in 64 bits."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_PAY_INDEX_DIGITS
