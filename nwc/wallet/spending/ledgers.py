"""The ledgers of all connections in the node's datastore: one record each, one change at a time.

They are at ["nwc", "ledgers", <client pubkey>]. Each write names the generation that it replaces. So a
change whose answer was lost, and which lightningd may still have made, is never overwritten unseen.
"""

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from nwc.cln.errors import RpcCallError, RpcCode
from nwc.cln.node import Node
from nwc.wallet.connections.record import connection_id_of
from nwc.wallet.records import RecordError
from nwc.wallet.spending.ledger import Ledger, parse_ledger

_KEY = ("nwc", "ledgers")
_ATTEMPTS = 3
_CLIENT_PUBKEY = re.compile("[0-9a-f]{64}")

_log = logging.getLogger(__name__)

Change = Callable[[Ledger], Ledger]


@dataclass(frozen=True, slots=True)
class _Stored:
    """A ledger as stored; `generation` is None if there is no record."""

    ledger: Ledger
    generation: int | None


class Ledgers:
    """Reads and changes ledgers. Ledgers of different connections do not wait for each other."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stored: dict[str, _Stored] = {}
        # For showing: kept while a change is being written, when it is unknown what is stored.
        self._last_seen: dict[str, Ledger] = {}
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)

    async def load(self) -> dict[str, Ledger]:
        """Read and return all ledgers, by client key.

        A ledger that cannot be read is logged, and its connection cannot spend. Ledgers may be read and
        changed meanwhile.

        Raises:
            NodeError: lightningd is unavailable.

        """
        for client_pubkey, (text, generation) in (await self._node.datastore_entries(_KEY)).items():
            if not _CLIENT_PUBKEY.fullmatch(client_pubkey):
                _log.warning("a record among the ledgers is ignored: its name is not a client key")
                continue
            async with self._locks[client_pubkey]:
                # A ledger that was read or written meanwhile is newer than this list.
                if client_pubkey in self._stored:
                    continue
                try:
                    self._keep(client_pubkey, _Stored(parse_ledger(text), generation))
                except RecordError as error:
                    _log.error(
                        "connection %s cannot spend: its ledger is %s",
                        connection_id_of(client_pubkey),
                        error,
                    )
        return dict(self._last_seen)

    def known(self, client_pubkey: str) -> Ledger:
        """Return a ledger as last seen. Use it for showing only."""
        return self._last_seen.get(client_pubkey, Ledger())

    def client_pubkey_of(self, connection_id: str) -> str | None:
        """Return the client key of the connection with this id, None if it has no ledger."""
        return next((key for key in self._last_seen if key.startswith(connection_id)), None)

    async def of(self, client_pubkey: str) -> Ledger:
        """Return a connection's ledger; an empty one if none is stored yet.

        Raises:
            RecordError: the stored ledger cannot be read.
            NodeError: lightningd is unavailable.

        """
        async with self._locks[client_pubkey]:
            return (await self._current(client_pubkey)).ledger

    async def change(self, client_pubkey: str, change: Change) -> Ledger:
        """Change a ledger and return it. The change is in the node's database when this returns.

        Args:
            client_pubkey: whose ledger.
            change: gets the current ledger and returns the new one, or the same for no change. If it
                raises, nothing changes. It is called again if somebody else has changed the record.

        Raises:
            RecordError: the ledger cannot be read.
            NodeError: lightningd is unavailable. The next reading shows whether the change was made.

        """
        async with self._locks[client_pubkey]:
            for _ in range(_ATTEMPTS):
                stored = await self._current(client_pubkey)
                changed = change(stored.ledger)
                if changed == stored.ledger:
                    return changed
                try:
                    await self._write(client_pubkey, changed, stored.generation)
                except RpcCallError as error:
                    if error.code not in _CHANGED_MEANWHILE:
                        raise
                    continue
                return changed
        raise RpcCallError("datastore", RpcCode.DATASTORE_UPDATE_WRONG_GENERATION, "changed by others")

    def forget_what_was_read(self) -> None:
        """Read each ledger again when it is next needed: others have changed or deleted the records."""
        self._stored.clear()
        self._last_seen.clear()

    async def forget(self, client_pubkey: str, may_delete: Callable[[Ledger], bool]) -> None:
        """Delete a ledger, if it may be deleted.

        Args:
            client_pubkey: whose ledger.
            may_delete: gets the current ledger, and returns True if nothing in it is needed any more.

        Raises:
            RecordError: the ledger cannot be read.
            NodeError: lightningd is unavailable.

        """
        async with self._locks[client_pubkey]:
            stored = await self._current(client_pubkey)
            if not may_delete(stored.ledger):
                return
            # Until lightningd has answered, it is unknown whether the record is still there.
            del self._stored[client_pubkey]
            self._last_seen.pop(client_pubkey, None)
            if stored.generation is not None:
                # lightningd may do this long after we stopped waiting, when the key has a connection
                # again. The new ledger then has another generation, and is kept.
                await self._node.datastore_delete((*_KEY, client_pubkey), stored.generation)

    async def _current(self, client_pubkey: str) -> _Stored:
        stored = self._stored.get(client_pubkey)
        if stored is None:
            entry = await self._node.datastore_entry((*_KEY, client_pubkey))
            stored = (
                _Stored(Ledger(), None) if entry is None else _Stored(parse_ledger(entry[0]), entry[1])
            )
            self._keep(client_pubkey, stored)
        return stored

    async def _write(self, client_pubkey: str, ledger: Ledger, generation: int | None) -> None:
        # Until lightningd has answered, it is unknown what is stored.
        del self._stored[client_pubkey]
        key = (*_KEY, client_pubkey)
        if generation is None:
            written = await self._node.datastore_create(key, ledger.to_json())
        else:
            written = await self._node.datastore_replace(key, ledger.to_json(), generation)
        self._keep(client_pubkey, _Stored(ledger, written))

    def _keep(self, client_pubkey: str, stored: _Stored) -> None:
        self._stored[client_pubkey] = stored
        self._last_seen[client_pubkey] = stored.ledger


_CHANGED_MEANWHILE = (
    RpcCode.DATASTORE_UPDATE_ALREADY_EXISTS,
    RpcCode.DATASTORE_UPDATE_WRONG_GENERATION,
    RpcCode.DATASTORE_UPDATE_DOES_NOT_EXIST,
)
