"""Notifies apps of payments that they have received and sent.

A notification that no relay accepts is stored as pending. Pending notifications are sent in order when a
relay of the connection reconnects. A relay that is connected but does not accept one gets it again,
after ever longer delays.

`payment_received` and `payment_sent` return once every app is notified or the notification is stored. So
none is lost while the plugin, a relay or lightningd is down. Delivery is at least once.

    ["nwc", "notifications", "pending", <client pubkey>, <name>]    a pending notification

The name is the `pay_index` of a paid invoice, `sent-<connection id>-<request id>`, or for a hold invoice
`accepted-`, `settled-` or `cancelled-<connection id>-<payment hash>`.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

from nwc.backoff import backoff
from nwc.cln.errors import NodeError
from nwc.cln.node import Json, Node
from nwc.nip47.notification import (
    HOLD_INVOICE_ACCEPTED,
    HOLD_INVOICE_CANCELED,
    OF_HOLD_INVOICES,
    PAYMENT_RECEIVED,
    PAYMENT_SENT,
    seal_notification,
)
from nwc.nostr.pool import RelayPool
from nwc.tasks import ShieldedTasks, Tasks
from nwc.wallet import invoice_record, labels
from nwc.wallet.connections.record import Connection, View
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.hold_record import HoldRecord, HoldRecords, HoldRecordState
from nwc.wallet.paid_invoices import is_pay_index
from nwc.wallet.spending.payment import PaymentRecord
from nwc.wallet.spending.payment_records import PaymentRecords, UnreadableRecordError
from nwc.wallet.transaction import (
    Transaction,
    ended_transaction,
    hold_transaction,
    incoming_transaction,
)

# How long a connected relay may take to accept a notification before that is stored as pending.
PATIENCE_S = 5.0
MAX_PENDING_PER_CONNECTION = 1000
RETRY_FIRST_S = 1.0
# For a relay that is connected and does not accept a notification.
RETRY_RELAY_MAX_S = 300.0

_PENDING = ("nwc", "notifications", "pending")
_SENT = "sent"
# What apps are notified of a hold invoice in each of these states. They are also words of stored names.
_HOLD_TYPES = {
    HoldRecordState.ACCEPTED: HOLD_INVOICE_ACCEPTED,
    HoldRecordState.SETTLED: PAYMENT_RECEIVED,
    HoldRecordState.CANCELLED: HOLD_INVOICE_CANCELED,
}

# What an unexpected row of lightningd, or an unexpected record, can raise.
_UNREADABLE = (ValueError, KeyError, TypeError)

_NOT_BUILT = "could not build the notification for payment %s"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification, before it is sealed for each app.

    Attributes:
        name: its name if it is stored as pending.
        type: NIP-47's `notification_type`.
        transaction: its content.
        connection_id: of the connection whose invoice or payment it is, None if no connection made it.

    """

    name: str
    type: str
    transaction: Transaction
    connection_id: str | None

    def may_be_seen_by(self, connection: Connection) -> bool:
        """Return True if a connection may see the payment."""
        if self.type in OF_HOLD_INVOICES:  # which only its owner can settle
            return connection.id == self.connection_id
        return connection.view is View.NODE or connection.id == self.connection_id


class Notifier:
    """Sends notifications to all connections that may see the payment.

    Args:
        node: lightningd.
        pool: the relays.
        connections: the connections being served.
        records: the payments that have ended.
        holds: the hold invoices.
        is_enabled: False if the owner has switched notifications off for all connections. Then nothing
            is sent or stored, and `load` deletes what is pending.

    """

    def __init__(
        self,
        node: Node,
        pool: RelayPool,
        connections: ConnectionRegistry,
        records: PaymentRecords,
        holds: HoldRecords,
        *,
        is_enabled: bool = True,
    ) -> None:
        self._is_enabled = is_enabled
        self._node = node
        self._pool = pool
        self._connections = connections
        self._records = records
        self._holds = holds
        # Names of pending notifications in order, by client key.
        self._pending: dict[str, list[str]] = {}
        # Client keys whose pending notifications are being sent.
        self._busy: set[str] = set()
        self._tasks = Tasks()
        self._shielded = ShieldedTasks()

    async def load(self) -> None:
        """Read the pending notifications, and start sending them in the background.

        Raises:
            NodeError: lightningd refuses or is unavailable.

        """
        for client_pubkey in await self._node.datastore_keys(_PENDING):
            # Notifications that are switched off must not be sent when they are on again.
            if not self._is_enabled or self._connections.of_client(client_pubkey) is None:
                await self._delete_pending_of(client_pubkey)
            elif names := await self._node.datastore_keys((*_PENDING, client_pubkey)):
                self._pending[client_pubkey] = sorted(names, key=_order)
        for client_pubkey in list(self._pending):
            if live := self._connections.of_client(client_pubkey):
                self._tasks.spawn(self._send_pending(live))

    def forget_what_was_read(self) -> None:
        """Send no pending notification any more. To be called after something else deleted them."""
        self._pending.clear()

    async def _delete_pending_of(self, client_pubkey: str) -> None:
        for name in await self._node.datastore_keys((*_PENDING, client_pubkey)):
            await self._node.datastore_delete((*_PENDING, client_pubkey, name))

    def relay_connected(self, url: str) -> None:
        """Send the pending notifications of the connections on a relay that has just connected."""
        for client_pubkey in list(self._pending):
            live = self._connections.of_client(client_pubkey)
            if live is not None and url in live.record.relays:
                self._tasks.spawn(self._send_pending(live))

    async def stop(self, timeout_s: float = 0) -> None:
        """Stop, but let what is being sent end for up to `timeout_s` seconds."""
        await self._tasks.finish(0)
        await self._shielded.finish(timeout_s)

    async def payment_received(self, invoice: Json) -> None:
        """Notify of a paid invoice, as `waitanyinvoice` shows it; see the module for when this returns.

        Raises:
            NodeError: lightningd refuses or is unavailable; some apps may not be notified.

        """
        if not self._is_enabled:
            return
        try:
            notification = await self._received(invoice)
        except _UNREADABLE:
            # It must not block all notifications after it.
            _log.exception(_NOT_BUILT, invoice.get("pay_index"))
            return
        await self._notify_all(notification)

    async def payment_sent(self, connection_id: str, record: PaymentRecord) -> None:
        """Notify of a settled payment of a connection; see the module for when this returns.

        Raises:
            NodeError: lightningd refuses or is unavailable; some apps may not be notified.

        """
        if self._is_enabled:
            await self._notify_all(_sent(connection_id, record))

    async def hold_invoice(self, connection_id: str, record: HoldRecord) -> None:
        """Notify of a hold invoice in one of the states of _HOLD_TYPES; see the module on returning.

        Raises:
            NodeError: lightningd refuses or is unavailable; some apps may not be notified.

        """
        if self._is_enabled and record.state in _HOLD_TYPES:
            await self._notify_all(_held(connection_id, record))

    async def _received(self, invoice: Json) -> Notification:
        record = await invoice_record.read_record(self._node, invoice)
        return Notification(
            name=str(int(invoice["pay_index"])),
            type=PAYMENT_RECEIVED,
            transaction=incoming_transaction(invoice, record, time.time()),
            connection_id=labels.owner_of(invoice["label"]),
        )

    async def _rebuild(self, name: str) -> Notification | None:
        """Return the pending notification with this name; None if its invoice or payment is gone."""
        if is_pay_index(name):
            invoice = await self._node.paid_invoice(int(name))
            return None if invoice is None else await self._received(invoice)
        what, connection_id, id_ = name.split("-")
        if what in _HOLD_TYPES:
            await self._holds.ready()
            held = self._holds.get(connection_id, id_)
            # One that is no longer accepted cannot be settled any more.
            return _held(connection_id, held) if held is not None and held.state == what else None
        record = await self._records.get(connection_id, id_)
        return None if record is None else _sent(connection_id, record)

    # Sending

    async def _notify_all(self, notification: Notification) -> None:
        """Send a notification to every connection that gets it, at once, or store it as pending."""
        recipients = [live for live in self._connections if _gets(live, notification)]
        await asyncio.gather(*(self._send_or_store(live, notification) for live in recipients))

    async def _send_or_store(self, live: LiveConnection, notification: Notification) -> None:
        has_older = live.client_pubkey in self._pending
        if has_older or not await self._send(live, notification):
            await self._store(live, notification.name)
            self._tasks.spawn(self._send_pending(live))

    async def _send(self, live: LiveConnection, notification: Notification) -> bool:
        """Publish a notification. Return True if a relay accepts it, or if it cannot be built.

        One of its two events (NIP-04 and NIP-44) is enough: a relay may always refuse the other.
        """
        if not self._is_reachable(live):
            return False
        try:
            events = seal_notification(
                notification.type, notification.transaction, live.keys, live.cipher, int(time.time())
            )
        except _UNREADABLE:
            _log.exception(_NOT_BUILT, notification.name)
            return True
        relays = live.record.relays
        accepted = await asyncio.gather(
            *(self._pool.publish_to_any(event, relays, PATIENCE_S) for event in events)
        )
        return any(accepted)

    def _is_reachable(self, live: LiveConnection) -> bool:
        """Return True if a relay is connected, or its state changed so recently that it may be soon."""
        recently = time.time() - PATIENCE_S
        relays = self._pool.info(live.record.relays)
        return any(relay.state == "connected" or relay.since > recently for relay in relays)

    # Pending notifications

    async def _store(self, live: LiveConnection, name: str) -> None:
        client_pubkey = live.client_pubkey
        await self._node.datastore_put((*_PENDING, client_pubkey, name), "1")
        pending = self._pending.setdefault(client_pubkey, [])
        if name not in pending:  # after a crash it may be stored already
            pending.append(name)
        if len(pending) > MAX_PENDING_PER_CONNECTION:
            await self._delete(client_pubkey, pending[0])

    async def _send_pending(self, live: LiveConnection) -> None:
        """Send the pending notifications, oldest first, until none is left or no relay is connected."""
        client_pubkey = live.client_pubkey
        if client_pubkey in self._busy:
            return
        self._busy.add(client_pubkey)
        waits = backoff(RETRY_FIRST_S, RETRY_RELAY_MAX_S)
        try:
            while self._connections.of_client(client_pubkey) is live and client_pubkey in self._pending:
                name = self._pending[client_pubkey][0]
                if await self._shielded.run(self._send_and_delete(live, name)):
                    waits = backoff(RETRY_FIRST_S, RETRY_RELAY_MAX_S)
                elif any(relay.state == "connected" for relay in self._pool.info(live.record.relays)):
                    await asyncio.sleep(next(waits))
                else:
                    return
        except NodeError as error:
            _log.debug("notifications of %r stay pending: %s", live.record.name, error)
        finally:
            self._busy.discard(client_pubkey)

    async def _send_and_delete(self, live: LiveConnection, name: str) -> bool:
        """Send a pending notification and delete it. Return False if it stays pending.

        It is deleted without being sent if its payment is gone, or the connection may not see it any
        more.
        """
        try:
            notification = await self._rebuild(name)
        except (*_UNREADABLE, UnreadableRecordError):
            _log.exception(_NOT_BUILT, name)
            notification = None
        if notification and _gets(live, notification) and not await self._send(live, notification):
            return False
        await self._delete(live.client_pubkey, name)
        return True

    async def _delete(self, client_pubkey: str, name: str) -> None:
        await self._node.datastore_delete((*_PENDING, client_pubkey, name))
        pending = self._pending.get(client_pubkey, [])
        if name in pending:
            pending.remove(name)
        if not pending:
            self._pending.pop(client_pubkey, None)


def _sent(connection_id: str, record: PaymentRecord) -> Notification:
    return Notification(
        name=f"{_SENT}-{connection_id}-{record.payment.request_id}",
        type=PAYMENT_SENT,
        transaction=ended_transaction(record),
        connection_id=connection_id,
    )


def _held(connection_id: str, record: HoldRecord) -> Notification:
    return Notification(
        name=f"{record.state}-{connection_id}-{record.payment_hash}",
        type=_HOLD_TYPES[record.state],
        transaction=hold_transaction(record, time.time()),
        connection_id=connection_id,
    )


def _order(name: str) -> tuple[int, str]:
    """Return the sort key of a pending notification: paid invoices in their order, then payments."""
    return (int(name), "") if is_pay_index(name) else (2**64, name)


def _gets(live: LiveConnection, notification: Notification) -> bool:
    record = live.record
    wanted = record.notification_types
    is_wanted = record.notifications and (wanted is None or notification.type in wanted)
    return is_wanted and not record.has_expired(time.time()) and notification.may_be_seen_by(record)
