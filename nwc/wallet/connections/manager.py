"""Creating, changing and revoking connections: first the stored record, then the relays.

Changes happen one at a time, under one lock: names must be unique.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from nwc.cln.errors import NodeError, NodeUnavailableError
from nwc.cln.node import Node
from nwc.cln.retry import retry
from nwc.errors import NwcError
from nwc.names import same_form
from nwc.nip47.encryption import Cipher
from nwc.nip47.rate_limit import RateLimit
from nwc.nostr.pool import RelayPool
from nwc.tasks import Tasks
from nwc.wallet.connections.info_publisher import InfoPublisher
from nwc.wallet.connections.record import (
    Connection,
    ConnectionStore,
    connection_id_of,
    parse_connection,
    wallet_keys,
)
from nwc.wallet.connections.registry import ConnectionRegistry, LiveConnection
from nwc.wallet.records import RecordError

# Apps send requests in bursts: at most this many seconds' worth of the rate at once.
BURST_S = 5
MAX_CONNECTIONS = 10_000
_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 10.0
# Shorter than COMMAND_TIMEOUT_S of nwc.service, whose error would not say what has happened.
_DELETION_PATIENCE_S = 20.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ManagementError(NwcError):
    """A command of the owner is refused; the text says why."""


class StillStoredError(NwcError):
    """A connection is revoked, but a restart would bring it back; the text says so to the owner."""


class ConnectionManager:
    """Creates, changes and revokes connections.

    Methods raise ManagementError if the owner must change something, NodeError if lightningd refuses or
    is unavailable.

    Args:
        node: lightningd.
        pool: the relays.
        info_publisher: publishes and withdraws info events.
        connections: the connections being served.
        rate_limit: requests per second that each connection may make.
        count_pending: returns how many payments of all connections are pending.
        on_deleted: is called with the client key of a revoked connection when its record is deleted. A
            NodeError that it raises is ignored.

    """

    def __init__(
        self,
        node: Node,
        pool: RelayPool,
        info_publisher: InfoPublisher,
        connections: ConnectionRegistry,
        rate_limit: int,
        count_pending: Callable[[], int],
        on_deleted: Callable[[str], Awaitable[None]],
    ) -> None:
        self._node = node
        self._store = ConnectionStore(node)
        self._pool = pool
        self._info_publisher = info_publisher
        self._connections = connections
        self._rate_limit = rate_limit
        self._count_pending = count_pending
        self._on_deleted = on_deleted
        self._lock = asyncio.Lock()
        self._tasks = Tasks()
        # Records that may be stored, but are not what is served, by client key; `_repair` corrects them.
        self._in_doubt: dict[str, Connection] = {}
        # Revoked connections whose records are being deleted, by name.
        self._revoking: dict[str, tuple[LiveConnection, asyncio.Task[None]]] = {}
        # Client keys of connections whose state is being taken out.
        self._found: set[str] = set()
        # Client keys of stored connections that are not served, by connection id.
        self._unserved: dict[str, str] = {}

    async def load(self) -> None:
        """Serve every stored connection. An unreadable record is logged and left as it is."""
        stored = await self._store.load()
        records = _readable(stored)
        served = {record.client_pubkey for record in records}
        self._unserved = {connection_id_of(key): key for key in stored if key not in served}
        # All are served at once, so that they share a few subscriptions.
        for live in await asyncio.gather(*map(self._live, records)):
            self._serve(live)

    def unserved_key(self, connection_id: str) -> str | None:
        """Return the client key of a stored connection that is not served, None for any other id.

        Such a record is unreadable, or a newer connection has its name.
        """
        return self._unserved.get(connection_id)

    def unserved_keys(self) -> list[str]:
        """Return the client keys of all stored connections that are not served."""
        return list(self._unserved.values())

    def is_unserved(self, client_pubkey: str) -> bool:
        """Return True if this client key has a stored connection that is not served."""
        return self._unserved.get(connection_id_of(client_pubkey)) == client_pubkey

    async def revoked_ids(self) -> list[str]:
        """Return the ids of all revoked connections."""
        return await self._store.revoked_ids()

    async def create(self, record: Connection) -> LiveConnection:
        """Store a new connection and serve it."""
        async with self._lock:
            self._check_name(record.name, of=None)
            # Labels contain the id, so two connections must not share one.
            if self._connections.with_id(record.id):
                raise ManagementError("pubkey: this key has a connection already")
            if self.is_unserved(record.client_pubkey):
                raise ManagementError(
                    "pubkey: a connection of this key is stored, but not served; lightningd's log of "
                    "the start says why"
                )
            if record.client_pubkey in self._in_doubt:
                raise ManagementError("pubkey: a record of this key is being deleted; try again")
            if len(self._connections) >= MAX_CONNECTIONS:
                raise ManagementError(f"there are {MAX_CONNECTIONS} connections, which is the limit")
            live = await self._live(record)
            await self._write(record, self._store.create(record))
            self._serve(live)
        _log.info("connection %r created", record.name)
        return live

    async def change(self, name: str, change: Callable[[Connection], Connection]) -> LiveConnection:
        """Change the record of the connection with this name.

        Args:
            name: of the connection.
            change: returns the new record, given the current one. If it raises, nothing is changed.

        """
        async with self._lock:
            live = self.find(name)
            old = live.record
            new = change(old)
            if new.name != old.name:
                self._check_name(new.name, of=live)
            await self._write(new, self._store.replace(new))
            if self._connections.of_client(old.client_pubkey) is not live:
                raise ManagementError(f"name: the connection {name!r} has been revoked meanwhile")
            live.record = new
            self._leave(live, tuple(url for url in old.relays if url not in new.relays))
            self._pool.subscribe(live.recipient, (u for u in new.relays if u not in old.relays))
            self._info_publisher.publish(live)
        _log.debug("connection %r changed", new.name)
        return live

    def note_request(self, live: LiveConnection) -> None:
        """Take the state out of the info event in the background: the app knows its wallet (NWC-08)."""
        if live.record.state is not None and live.client_pubkey not in self._found:
            self._found.add(live.client_pubkey)
            task = self._tasks.spawn(self._drop_state(live))
            task.add_done_callback(lambda _: self._found.discard(live.client_pubkey))

    async def _drop_state(self, live: LiveConnection) -> None:
        def changed(old: Connection) -> Connection:
            is_same = old.client_pubkey == live.client_pubkey
            return replace(old, state=None) if is_same else old

        # The next request tries again if this fails.
        with suppress(NodeError, ManagementError):
            await self.change(live.record.name, changed)

    async def revoke(self, name: str) -> LiveConnection:
        """Stop serving a connection at once, and delete its record.

        The deletion is retried until it succeeds or the plugin stops. A second call waits for it again.
        Its info events are withdrawn in the background.

        Raises:
            StillStoredError: the record is not deleted yet; the deletion goes on.

        """
        # No other connection gets the name while the record is being deleted.
        revoking = None if self._connections.named(name) else self._find_revoking(name)
        live, deletion = revoking or self._revoke(name)
        await asyncio.wait((deletion,), timeout=_DELETION_PATIENCE_S)
        if not _has_succeeded(deletion):
            _log.warning(
                "connection %r is revoked, but its record is not deleted yet; still retrying", name
            )
            raise StillStoredError(
                f"{name!r} is revoked, but lightningd has not deleted its record yet: a restart would "
                "bring it back. The plugin keeps retrying; run nwc-revoke again to see if it is gone"
            )
        return live

    async def end_all(self, delete: Callable[[], Awaitable[_T]]) -> _T:
        """Stop serving all connections, call `delete` to delete their records, and return its result.

        No connection can be created or changed until `delete` returns. If it raises, call this again.

        Raises:
            ManagementError: payments are pending, or a record is being deleted; nothing has been done.

        """
        async with self._lock:
            if pending := self._count_pending():
                raise ManagementError(
                    f"{pending} payments are pending; wait until they have ended: nwc-list shows them"
                )
            if self._in_doubt:
                raise ManagementError("the record of a connection is being deleted; try again")
            for live in self._connections.all():
                self._connections.remove(live)
                self._leave(live, live.record.relays)
            self._unserved = {}
            return await delete()

    def _revoke(self, name: str) -> tuple[LiveConnection, "asyncio.Task[None]"]:
        """Stop serving a connection at once, without waiting for anything: its app may be spending."""
        live = self.find(name)
        self._connections.remove(live)
        self._leave(live, live.record.relays)
        deletion = self._start_repair(live.record)
        self._revoking[live.record.name] = live, deletion
        deletion.add_done_callback(partial(self._deleted, live.record.name))
        return live, deletion

    def _find_revoking(self, name: str) -> tuple[LiveConnection, "asyncio.Task[None]"] | None:
        wanted = same_form(name)
        found = (entry for stored, entry in self._revoking.items() if same_form(stored) == wanted)
        return self._revoking.get(name) or next(found, None)

    def _deleted(self, name: str, deletion: "asyncio.Task[None]") -> None:
        del self._revoking[name]
        if _has_succeeded(deletion):
            _log.info("connection %r revoked", name)

    def find(self, name: str) -> LiveConnection:
        """Return the connection with this name.

        Raises:
            ManagementError: there is none.

        """
        live = self._connections.named(name)
        if live is None:
            raise ManagementError(f"name: there is no connection {name!r}; see nwc-list")
        return live

    async def stop(self) -> None:
        """Cancel the background tasks."""
        await self._tasks.finish(0)

    async def _write(self, record: Connection, write: Coroutine[Any, Any, None]) -> None:
        """Write a record. Without an answer it may be stored all the same, and must not stay then."""
        try:
            await write
        except NodeUnavailableError:
            self._start_repair(record)
            raise

    def _start_repair(self, record: Connection) -> "asyncio.Task[None]":
        self._in_doubt[record.client_pubkey] = record
        return self._tasks.spawn(self._repair(record))

    async def _repair(self, record: Connection) -> None:
        """Retry until the stored record is the one being served, or is deleted if there is none."""
        await retry(partial(self._repair_once, record), _RETRY_FIRST_S, _RETRY_MAX_S, _log_not_repaired)
        if self._in_doubt.get(record.client_pubkey) is record:
            del self._in_doubt[record.client_pubkey]

    async def _repair_once(self, record: Connection) -> None:
        async with self._lock:
            live = self._connections.of_client(record.client_pubkey)
            if live is not None:
                await self._store.replace(live.record)
                return
            await self._store.delete(record)
            # The connection is revoked even if this fails. The next start deletes its ledger then.
            with suppress(NodeError):
                await self._store.note_revoked(record)
                await self._on_deleted(record.client_pubkey)

    def _check_name(self, name: str, of: LiveConnection | None) -> None:
        """Raise ManagementError if another connection than `of` has this name."""
        named = self._connections.named(name)
        if named is not None and named is not of:
            raise ManagementError(f"name: there is a connection {name!r} already")
        if any(same_form(record.name) == name for record in self._in_doubt.values()):
            raise ManagementError(f"name: a record of a connection {name!r} is being deleted; try again")

    async def _live(self, record: Connection) -> LiveConnection:
        keys = await wallet_keys(self._node, record.client_pubkey)
        limit = RateLimit(self._rate_limit, self._rate_limit * BURST_S, time.time())
        return LiveConnection(record, keys, Cipher(keys, record.client_pubkey), limit)

    def _serve(self, live: LiveConnection) -> None:
        self._connections.add(live)
        self._pool.subscribe(live.recipient, live.record.relays)
        self._info_publisher.publish(live)

    def _leave(self, live: LiveConnection, urls: tuple[str, ...]) -> None:
        """Unsubscribe from relays, and withdraw the info event from each in the background."""
        self._pool.unsubscribe(live.wallet_pubkey, urls)
        created_at = self._info_publisher.next_date(live)
        for url in urls:
            self._tasks.spawn(self._leave_one(live, url, created_at))

    async def _leave_one(self, live: LiveConnection, url: str, created_at: int) -> None:
        await self._info_publisher.withdraw(live, url, created_at)
        self._pool.release(url)


def _readable(stored: dict[str, str]) -> list[Connection]:
    """Return the records to serve, and log the others: unreadable, or with the name of another."""
    read: list[Connection] = []
    for client_pubkey, text in stored.items():
        try:
            read.append(parse_connection(client_pubkey, text))
        except RecordError as error:
            _log.warning("connection %s is not served: %s", connection_id_of(client_pubkey), error)
    records: dict[str, Connection] = {}
    # The newest one keeps the name: an older one may have been revoked, but not deleted.
    for record in sorted(read, key=lambda record: -record.created_at):
        if record.name in records:
            _log.warning("connection %s is not served: a newer one has the same name", record.id)
        records.setdefault(record.name, record)
    return list(records.values())


def _has_succeeded(task: "asyncio.Task[None]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _log_not_repaired(error: NodeError) -> None:
    _log.debug("datastore not yet in sync with the running connections; retrying: %s", error)
