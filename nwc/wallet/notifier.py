"""Telling connections of payments they receive.

Theory of operation
-------------------
Lightningd numbers paid invoices without gaps (`pay_index`), and `waitanyinvoice` returns the next
after a given number, also when it was paid while nobody asked. The notifier follows these numbers:

1. A paid invoice is told to each connection that may see it.
2. Where no relay takes the notification, it is put aside: a datastore record for the connection and
   the number.
3. Only then the position moves on, in the datastore too.

What is put aside is told, in order, when a relay of the connection is back; one that is connected but
does not take it is tried again, each time later. So a payment is told whether it comes while the plugin,
the relay or lightningd is away. Stopping the plugin lets what has begun come to its end. Only where
nothing can be written between 1 and 3 is a payment told twice: after a crash, or when lightningd stops,
which refuses calls before it says so. Being told never is worse.

    ["nwc", "notifications", "position"]                         pay_index of the last invoice dealt with
    ["nwc", "notifications", "pending", <client pubkey>, <pay_index>]   put aside
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from nwc.cln.errors import NodeError
from nwc.cln.node import Json, Node
from nwc.nip47.notification import PAYMENT_RECEIVED, seal_notification
from nwc.nostr.pool import RelayPool
from nwc.tasks import Tasks
from nwc.wallet import invoice_record
from nwc.wallet.live import LiveConnection, LiveConnections
from nwc.wallet.lookup_invoice import may_see
from nwc.wallet.transaction import incoming_transaction

# How long a connected relay may take to accept a notification before it is put aside.
PATIENCE_S = 5.0
MAX_PENDING_PER_CONNECTION = 1000
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 10.0
# For a relay that is connected and does not take a notification.
RETRY_RELAY_MAX_S = 300.0

_POSITION = ("nwc", "notifications", "position")
_PENDING = ("nwc", "notifications", "pending")

# What a row of lightningd that nobody expected can raise.
_CANNOT_BE_TOLD = (ValueError, KeyError, TypeError)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Notifier:
    """Follows the node's paid invoices. Runs in the event loop until `stop`."""

    def __init__(self, node: Node, pool: RelayPool, connections: LiveConnections) -> None:
        self._node = node
        self._pool = pool
        self._connections = connections
        self._pending: dict[str, list[int]] = {}
        self._busy: set[str] = set()
        self._tasks = Tasks()
        self._steps: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Begin to follow."""
        self._tasks.spawn(self._run())

    async def forget(self) -> None:
        """Drop position and what is put aside: notifications are switched off, and what is paid until
        they are on again is not to be told then.
        """
        await self._node.datastore_delete(_POSITION)
        for client_pubkey in await self._node.datastore_keys(_PENDING):
            await self._forget_pending(client_pubkey)

    async def _forget_pending(self, client_pubkey: str) -> None:
        for index in await self._node.datastore_keys((*_PENDING, client_pubkey)):
            await self._node.datastore_delete((*_PENDING, client_pubkey, index))

    def relay_connected(self, url: str) -> None:
        """Tell what was put aside for the connections of a relay that has just been connected."""
        for client_pubkey in list(self._pending):
            live = self._connections.of_client(client_pubkey)
            if live is not None and url in live.record.relays:
                self._tasks.spawn(self._tell_pending(live))

    async def stop(self, timeout_s: float = 0) -> None:
        """End. What is not told and written down within so many seconds is told again after a start."""
        await self._tasks.finish(0)
        if self._steps:
            await asyncio.wait(list(self._steps), timeout=timeout_s)
        await self._tasks.finish(0)
        steps = list(self._steps)
        for step in steps:
            step.cancel()
        await asyncio.gather(*steps, return_exceptions=True)

    async def _whole(self, step: Coroutine[Any, Any, _T]) -> _T:
        """Run what tells something and writes that down; `stop` does not cut it in between."""
        task = asyncio.create_task(step)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        return await asyncio.shield(task)

    # Following

    async def _run(self) -> None:
        delay = RETRY_FIRST_S
        while True:
            started = time.monotonic()
            try:
                await self._load_pending()
                await self._follow()
            except NodeError as error:
                _log.info("payments cannot be followed now: %s", error)
            if time.monotonic() - started > RETRY_MAX_S:
                delay = RETRY_FIRST_S
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX_S)

    async def _follow(self) -> None:
        position = await self._position()
        while True:
            invoice = await self._node.wait_paid_invoice(position)
            position = await self._whole(self._deal_with(invoice))

    async def _deal_with(self, invoice: Json) -> int:
        await self._tell_all(invoice)
        position: int = invoice["pay_index"]
        await self._node.datastore_put(_POSITION, str(position))
        return position

    async def _position(self) -> int:
        stored = await self._node.datastore_get(_POSITION)
        if stored is not None and stored.isdigit():
            return int(stored)
        newest = await self._node.newest_pay_index()
        await self._node.datastore_put(_POSITION, str(newest))
        return newest

    async def _tell_all(self, invoice: Json) -> None:
        """Tell an invoice to everyone it concerns, or put it aside; nobody waits for another."""
        concerned = [live for live in self._connections.all() if _concerns(live, invoice)]
        await asyncio.gather(*(self._tell_or_put_aside(live, invoice) for live in concerned))

    async def _tell_or_put_aside(self, live: LiveConnection, invoice: Json) -> None:
        has_older = live.record.client_pubkey in self._pending
        try:
            told = not has_older and await self._tell(live, invoice)
        except _CANNOT_BE_TOLD:
            # Told or not, this one must not keep all that follow from being told.
            _log.exception("payment %d cannot be told", invoice["pay_index"])
            return
        if not told:
            await self._put_aside(live, invoice["pay_index"])
            self._tasks.spawn(self._tell_pending(live))

    async def _tell(self, live: LiveConnection, invoice: Json) -> bool:
        """Publish a notification; tells whether a relay has taken it.

        One of the two kinds is enough: a relay may refuse the other for ever.
        """
        if not self._is_reachable(live):
            return False
        record = await invoice_record.find(self._node, invoice)
        transaction = incoming_transaction(invoice, record, time.time())
        events = seal_notification(
            PAYMENT_RECEIVED, transaction, live.keys, live.cipher, int(time.time())
        )
        relays = live.record.relays
        taken = await asyncio.gather(
            *(self._pool.publish_to_any(event, relays, PATIENCE_S) for event in events)
        )
        return any(taken)

    def _is_reachable(self, live: LiveConnection) -> bool:
        """A relay that has just gone, or is not there yet, may be back before our patience ends."""
        recently = time.time() - PATIENCE_S
        relays = self._pool.info(live.record.relays)
        return any(relay.state == "connected" or relay.since > recently for relay in relays)

    def _is_connected(self, live: LiveConnection) -> bool:
        relays = self._pool.info(live.record.relays)
        return any(relay.state == "connected" for relay in relays)

    # What is put aside

    async def _load_pending(self) -> None:
        for client_pubkey in await self._node.datastore_keys(_PENDING):
            if self._connections.of_client(client_pubkey) is None:
                await self._forget_pending(client_pubkey)
            elif indexes := await self._node.datastore_keys((*_PENDING, client_pubkey)):
                self._pending[client_pubkey] = sorted(int(index) for index in indexes)
        for client_pubkey in list(self._pending):
            if live := self._connections.of_client(client_pubkey):
                self._tasks.spawn(self._tell_pending(live))

    async def _put_aside(self, live: LiveConnection, pay_index: int) -> None:
        client_pubkey = live.record.client_pubkey
        await self._node.datastore_put((*_PENDING, client_pubkey, str(pay_index)), "1")
        pending = self._pending.setdefault(client_pubkey, [])
        if pay_index not in pending:  # it is there when a crash came before the position moved on
            pending.append(pay_index)
        if len(pending) > MAX_PENDING_PER_CONNECTION:
            await self._done(client_pubkey, pending[0])

    async def _tell_pending(self, live: LiveConnection) -> None:
        """Tell what was put aside, oldest first, until it is told or the relay goes away again."""
        client_pubkey = live.record.client_pubkey
        if client_pubkey in self._busy:
            return
        self._busy.add(client_pubkey)
        delay = RETRY_FIRST_S
        try:
            while self._connections.of_client(client_pubkey) is live and client_pubkey in self._pending:
                pay_index = self._pending[client_pubkey][0]
                if await self._whole(self._settle(live, pay_index)):
                    delay = RETRY_FIRST_S
                elif self._is_connected(live):
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RETRY_RELAY_MAX_S)
                else:
                    return
        except NodeError as error:
            _log.info("notifications of %r wait: %s", live.record.name, error)
        finally:
            self._busy.discard(client_pubkey)

    async def _settle(self, live: LiveConnection, pay_index: int) -> bool:
        """Tell an invoice that was put aside, unless it is gone or no longer the connection's to see."""
        invoice = await self._node.paid_invoice(pay_index)
        if invoice is not None and _concerns(live, invoice):
            try:
                if not await self._tell(live, invoice):
                    return False
            except _CANNOT_BE_TOLD:
                _log.exception("payment %d cannot be told", pay_index)
        await self._done(live.record.client_pubkey, pay_index)
        return True

    async def _done(self, client_pubkey: str, pay_index: int) -> None:
        await self._node.datastore_delete((*_PENDING, client_pubkey, str(pay_index)))
        pending = self._pending.get(client_pubkey, [])
        if pay_index in pending:
            pending.remove(pay_index)
        if not pending:
            self._pending.pop(client_pubkey, None)


def _concerns(live: LiveConnection, invoice: Json) -> bool:
    record = live.record
    return record.notifications and not record.has_expired(time.time()) and may_see(record, invoice)
