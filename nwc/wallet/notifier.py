"""Telling connections of payments they have received and sent.

What no relay takes is put aside in the datastore and told, in order, when a relay of the connection is
back; one that is connected but does not take it is tried again, each time later. Who calls here goes on
only when all are told, or it is put aside: so a payment is told whether it comes while the plugin, the
relay or lightningd is away. Being told never is worse than being told twice.

    ["nwc", "notifications", "pending", <client pubkey>, <news>]    put aside

The name of news is the `pay_index` of a paid invoice, or `sent-<connection id>-<request id>`.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

from nwc.cln.errors import NodeError
from nwc.cln.node import Json, Node
from nwc.nip47.notification import PAYMENT_RECEIVED, PAYMENT_SENT, seal_notification
from nwc.nostr.pool import RelayPool
from nwc.tasks import Steps, Tasks
from nwc.wallet import invoice_record, labels
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.paid_invoices import is_pay_index
from nwc.wallet.spending.payment import PaymentRecord
from nwc.wallet.spending.payment_records import PaymentRecords, UnreadableRecordError
from nwc.wallet.transaction import Transaction, ended_transaction, incoming_transaction

# How long a connected relay may take to accept a notification before it is put aside.
PATIENCE_S = 5.0
MAX_PENDING_PER_CONNECTION = 1000
RETRY_FIRST_S = 1.0
# For a relay that is connected and does not take a notification.
RETRY_RELAY_MAX_S = 300.0

_PENDING = ("nwc", "notifications", "pending")
_SENT = "sent"

# What a row of lightningd, or a record, that nobody expected can raise.
_CANNOT_BE_TOLD = (ValueError, KeyError, TypeError)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """What connections are to be told.

    Attributes:
        name: of what is put aside.
        type: NIP-47's `notification_type`.
        transaction: what is told.
        connection_id: of the connection it came about through, None for none.

    """

    name: str
    type: str
    transaction: Transaction
    connection_id: str | None

    def may_be_seen_by(self, connection: Connection) -> bool:
        """Tell whether it is a connection's to see."""
        return connection.view is View.NODE or connection.id == self.connection_id


class Notifier:
    """Tells news to all connections they concern. Runs in the event loop until `stop`."""

    def __init__(
        self,
        node: Node,
        pool: RelayPool,
        connections: ConnectionRegistry,
        records: PaymentRecords,
        *,
        is_enabled: bool = True,
    ) -> None:
        self._is_enabled = is_enabled
        self._node = node
        self._pool = pool
        self._connections = connections
        self._records = records
        self._pending: dict[str, list[str]] = {}
        self._busy: set[str] = set()
        self._tasks = Tasks()
        self._steps = Steps()

    async def load(self) -> None:
        """Read what is put aside, and begin to tell it.

        Raises:
            NodeError: lightningd is away.

        """
        if not self._is_enabled:
            await self.forget()
            return
        for client_pubkey in await self._node.datastore_keys(_PENDING):
            if self._connections.of_client(client_pubkey) is None:
                await self._forget_pending(client_pubkey)
            elif names := await self._node.datastore_keys((*_PENDING, client_pubkey)):
                self._pending[client_pubkey] = sorted(names, key=_order)
        for client_pubkey in list(self._pending):
            if live := self._connections.of_client(client_pubkey):
                self._tasks.spawn(self._tell_pending(live))

    async def forget(self) -> None:
        """Drop what is put aside: notifications are switched off, and what is paid until they are on
        again is not to be told then.

        Raises:
            NodeError: lightningd is away.

        """
        for client_pubkey in await self._node.datastore_keys(_PENDING):
            await self._forget_pending(client_pubkey)

    def forget_what_was_read(self) -> None:
        """Tell nothing of what was put aside any more: others have deleted it."""
        self._pending.clear()

    async def _forget_pending(self, client_pubkey: str) -> None:
        for name in await self._node.datastore_keys((*_PENDING, client_pubkey)):
            await self._node.datastore_delete((*_PENDING, client_pubkey, name))

    def relay_connected(self, url: str) -> None:
        """Tell what was put aside for the connections of a relay that has just been connected."""
        for client_pubkey in list(self._pending):
            live = self._connections.of_client(client_pubkey)
            if live is not None and url in live.record.relays:
                self._tasks.spawn(self._tell_pending(live))

    async def stop(self, timeout_s: float = 0) -> None:
        """End. What is not told and written down within so many seconds is told again after a start."""
        await self._tasks.finish(0)
        await self._steps.finish(timeout_s)

    # News

    async def payment_received(self, invoice: Json) -> None:
        """Tell of a paid invoice, as `waitanyinvoice` shows it.

        Raises:
            NodeError: lightningd is away; not all may be told.

        """
        if not self._is_enabled:
            return
        try:
            news = await self._received(invoice)
        except _CANNOT_BE_TOLD:
            # This one must not keep all that follow from being told.
            _log.exception("payment %s cannot be told", invoice.get("pay_index"))
            return
        await self._tell_all(news)

    async def payment_sent(self, connection_id: str, record: PaymentRecord) -> None:
        """Tell of a settled payment of a connection; returns when all are told or it is put aside.

        Raises:
            NodeError: lightningd is away; not all may be told.

        """
        if self._is_enabled:
            await self._tell_all(_sent(connection_id, record))

    async def _received(self, invoice: Json) -> News:
        record = await invoice_record.read_record(self._node, invoice)
        return News(
            name=str(int(invoice["pay_index"])),
            type=PAYMENT_RECEIVED,
            transaction=incoming_transaction(invoice, record, time.time()),
            connection_id=labels.owner_of(invoice["label"]),
        )

    async def _news(self, name: str) -> News | None:
        """Return what was put aside under a name; None when its invoice or payment is gone."""
        if is_pay_index(name):
            invoice = await self._node.paid_invoice(int(name))
            return None if invoice is None else await self._received(invoice)
        _, connection_id, request_id = name.split("-")
        record = await self._records.get(connection_id, request_id)
        return None if record is None else _sent(connection_id, record)

    # Telling

    async def _tell_all(self, news: News) -> None:
        """Tell everyone it concerns, or put it aside; nobody waits for another."""
        observers = self._connections.observers(news.connection_id)
        concerned = [live for live in observers if _is_to_be_told(live, news)]
        await asyncio.gather(*(self._tell_or_put_aside(live, news) for live in concerned))

    async def _tell_or_put_aside(self, live: LiveConnection, news: News) -> None:
        has_older = live.record.client_pubkey in self._pending
        if has_older or not await self._tell(live, news):
            await self._put_aside(live, news.name)
            self._tasks.spawn(self._tell_pending(live))

    async def _tell(self, live: LiveConnection, news: News) -> bool:
        """Publish a notification; tells whether a relay has taken it.

        One of the two kinds is enough: a relay may refuse the other for ever.
        """
        if not self._is_reachable(live):
            return False
        try:
            events = seal_notification(
                news.type, news.transaction, live.keys, live.cipher, int(time.time())
            )
        except _CANNOT_BE_TOLD:
            _log.exception("payment %s cannot be told", news.name)
            return True
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

    async def _put_aside(self, live: LiveConnection, name: str) -> None:
        client_pubkey = live.record.client_pubkey
        await self._node.datastore_put((*_PENDING, client_pubkey, name), "1")
        pending = self._pending.setdefault(client_pubkey, [])
        if name not in pending:  # it is there when a crash came before it was noted as dealt with
            pending.append(name)
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
                name = self._pending[client_pubkey][0]
                if await self._steps.whole(self._settle(live, name)):
                    delay = RETRY_FIRST_S
                elif self._is_connected(live):
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RETRY_RELAY_MAX_S)
                else:
                    return
        except NodeError as error:
            _log.debug("notifications of %r wait: %s", live.record.name, error)
        finally:
            self._busy.discard(client_pubkey)

    async def _settle(self, live: LiveConnection, name: str) -> bool:
        """Tell what was put aside, unless it is gone or no longer the connection's to see."""
        try:
            news = await self._news(name)
        except (*_CANNOT_BE_TOLD, UnreadableRecordError):
            _log.exception("payment %s cannot be told", name)
            news = None
        if news is not None and _is_to_be_told(live, news) and not await self._tell(live, news):
            return False
        await self._done(live.record.client_pubkey, name)
        return True

    async def _done(self, client_pubkey: str, name: str) -> None:
        await self._node.datastore_delete((*_PENDING, client_pubkey, name))
        pending = self._pending.get(client_pubkey, [])
        if name in pending:
            pending.remove(name)
        if not pending:
            self._pending.pop(client_pubkey, None)


def _sent(connection_id: str, record: PaymentRecord) -> News:
    return News(
        name=f"{_SENT}-{connection_id}-{record.payment.request_id}",
        type=PAYMENT_SENT,
        transaction=ended_transaction(record),
        connection_id=connection_id,
    )


def _order(name: str) -> tuple[int, str]:
    """Paid invoices in their order, then payments."""
    return (int(name), "") if is_pay_index(name) else (2**64, name)


def _is_to_be_told(live: LiveConnection, news: News) -> bool:
    record = live.record
    return record.notifications and not record.has_expired(time.time()) and news.may_be_seen_by(record)
