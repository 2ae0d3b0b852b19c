"""Handles each paid invoice of the node once, in order: counts it, and has apps notified.

lightningd numbers paid invoices without gaps (`pay_index`). `waitanyinvoice` returns the next one after
a given number, also if it was paid while nobody was waiting. The position is stored in the datastore and
advances only after an invoice is handled. Stopping lets the current invoice finish.

An invoice is handled twice only if the position cannot be stored in between: after a crash, or when
lightningd stops, which refuses calls before it notifies the plugin.

    ["nwc", "notifications", "position"]        `pay_index` of the last handled invoice
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from nwc.backoff import backoff
from nwc.cln.errors import NodeError
from nwc.cln.node import Json, Node
from nwc.tasks import ShieldedTasks, Tasks
from nwc.wallet.connections.registry import ConnectionRegistry
from nwc.wallet.labels import parse_request_label

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 10.0

_MAX_PAY_INDEX_DIGITS = 18
_POSITION = ("nwc", "notifications", "position")

_log = logging.getLogger(__name__)


class PaidInvoices:
    """Calls `handle` with each paid invoice (as `waitanyinvoice` shows it), one after another.

    If `handle` raises NodeError, it is called again with the same invoice.
    """

    def __init__(self, node: Node, handle: Callable[[Json], Awaitable[None]]) -> None:
        self._node = node
        self._handle = handle
        self._tasks = Tasks()
        self._shielded = ShieldedTasks()

    def start(self) -> None:
        """Start waiting for paid invoices, in the background."""
        self._tasks.spawn(self._run())

    async def stop(self, timeout_s: float = 0) -> None:
        """Stop, but let the current invoice be handled for up to `timeout_s` seconds.

        Otherwise it is handled again after a start.
        """
        await self._tasks.finish(0)
        await self._shielded.finish(timeout_s)

    async def _run(self) -> None:
        waits = backoff(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            started = time.monotonic()
            try:
                await self._follow()
            except NodeError as error:
                _log.debug("waiting for paid invoices failed; retrying: %s", error)
            if time.monotonic() - started > RETRY_MAX_S:
                waits = backoff(RETRY_FIRST_S, RETRY_MAX_S)
            await asyncio.sleep(next(waits))

    async def _follow(self) -> None:
        position = await self._position()
        while True:
            invoice = await self._node.wait_paid_invoice(position)
            position = await self._shielded.run(self._handle_and_store(invoice))

    async def _handle_and_store(self, invoice: Json) -> int:
        await self._handle(invoice)
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
    """Counts what each connection receives, and has apps notified.

    Args:
        connections: the connections being served.
        unserved_key: returns the client key of a stored connection that is not served, by its id; None
            for any other id.
        count: adds an amount in msat to what the connection of a client key has received, once for each
            `pay_index`.
        notify: notifies apps of a paid invoice.

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
        """Count a paid invoice for the connection that made it, and have apps notified.

        Raises:
            NodeError: lightningd refuses or is unavailable; to be called again.

        """
        try:
            await self._count_and_notify(invoice)
        except (KeyError, TypeError, ValueError):
            # An unexpected row must not block all invoices after it.
            _log.exception("a paid invoice cannot be read, so it is not counted and no app is notified")

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
    """Return True if a stored text is a `pay_index`, a number of up to 64 bits in lightningd."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_PAY_INDEX_DIGITS
