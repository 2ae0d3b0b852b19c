"""Refusals: a request to pay that was refused stays refused if it is sent again after a restart.

Anybody who has seen a request can replay it. While the plugin runs, it ignores the second copy. For the
time after a restart, one number is stored for each connection: the newest `created_at` of its refused
requests. A request that is not newer, and of which no payment is known, is refused.

The number is at ["nwc", "refused", <client pubkey>] in the datastore.
"""

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass

from nwc.cln.errors import NodeError
from nwc.cln.node import Node
from nwc.wallet.connections.record import connection_id_of
from nwc.wallet.records import MAX_NUMBER, RecordError, RecordKind, read

# The client's answer waits for this write.
WRITE_TIMEOUT_S = 5.0

_KEY = ("nwc", "refused")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Refused:
    """The record of one connection: the newest `created_at` of its refused requests, Unix seconds."""

    until: int


_KIND = RecordKind.of(_Refused)


class Refusals:
    """Stores, for each connection, up to which time its requests to pay are refused after a restart."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._before_start: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)

    async def load(self) -> None:
        """Read what earlier runs of the plugin have stored.

        Raises:
            NodeError: lightningd is unavailable.

        """
        stored = await self._node.datastore_children(_KEY)
        self._before_start = {key: _parse(text) for key, text in stored.items()}
        self._noted = dict(self._before_start)

    def is_refused(self, client_pubkey: str, created_at: int) -> bool:
        """Return True if a request may have been refused before the start.

        Args:
            client_pubkey: whose request.
            created_at: the request event's own time, Unix seconds.

        """
        return created_at <= self._before_start.get(client_pubkey, -1)

    async def note(self, client_pubkey: str, created_at: int) -> None:
        """Store that a request is refused. Call this before the client gets its answer.

        If lightningd does not answer within WRITE_TIMEOUT_S seconds, the refusal is not stored.
        """
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._locks[client_pubkey]:
                if created_at <= self._noted.get(client_pubkey, -1):
                    return
                record = _KIND.to_json({"until": created_at})
                await self._node.datastore_put((*_KEY, client_pubkey), record)
                self._noted[client_pubkey] = created_at
        except (NodeError, TimeoutError) as error:
            _log.debug(
                "a refusal of connection %s is not stored: %s", connection_id_of(client_pubkey), error
            )

    async def forget(self, client_pubkey: str) -> None:
        """Delete what is stored for a revoked connection.

        Raises:
            NodeError: lightningd is unavailable.

        """
        if client_pubkey in self._noted:
            await self._node.datastore_delete((*_KEY, client_pubkey))
            self._noted.pop(client_pubkey, None)
            self._before_start.pop(client_pubkey, None)


def _parse(text: str) -> int:
    """Return the time in a stored record; if it cannot be read, one so late that all is refused."""
    try:
        return read(_Refused, _KIND.parse(text)).until
    except RecordError as error:
        _log.error(
            "a record of refused requests cannot be read, so its connection cannot pay: %s", error
        )
        return MAX_NUMBER
