"""The circuit breaker: if lightningd stops twice within an hour while a connection pays, it may not pay.

lightningd has faults by which a payee can stop it, and no list of them is complete. So if lightningd
stopped while payments of a connection were in flight, that is noted at the next start. The second time
within an hour suspends the connection's payments until the owner resumes them, or the first time if such
a fault is known of what was in flight. A payment counts once, however often the node is restarted while
the payee holds it. The plugin cannot know why lightningd stopped, so a restart by the owner counts too.

A payment that is reserved is in the ledger. While the invoice of an offer is fetched there is no
reservation yet, so that is noted in the record here.

The record is at ["nwc", "stops", <client pubkey>] in the datastore.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace

from nwc.cln.errors import NodeError
from nwc.cln.node import Node
from nwc.wallet.connections.record import connection_id_of
from nwc.wallet.records import Fields, RecordError, RecordKind, read

WINDOW_S = 3600
STOPS_UNTIL_SUSPENDED = 2

_KEY = ("nwc", "stops")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Stop:
    """One stop of lightningd.

    Attributes:
        at: the start that followed, Unix seconds.
        request_ids: the request ids of the payments that were in flight.

    """

    at: int
    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stops:
    """The record of one connection.

    Attributes:
        stops: the last STOPS_UNTIL_SUSPENDED stops, oldest first.
        suspended_at: Unix seconds, None if its payments are not suspended.
        fetching: the request ids of the offers whose invoices are being fetched.

    """

    stops: tuple[_Stop, ...] = ()
    suspended_at: int | None = None
    fetching: tuple[str, ...] = ()


def _from_1_to_2(fields: Fields) -> Fields:
    return {**fields, "fetching": []}


_KIND = RecordKind.of(_Stops, upgrades=(_from_1_to_2,))


class CircuitBreaker:
    """Knows which connections' payments are suspended. The coroutines raise NodeError, as Node's do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stops: dict[str, _Stops] = {}
        # Connections whose record cannot be read. It stays until the owner resumes the payments.
        self._unreadable: set[str] = set()
        self._fetching = defaultdict[str, set[str]](set)
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)

    async def load(self) -> None:
        """Read all records. If one cannot be read, the payments of its connection are suspended."""
        self._stops = {}
        self._unreadable = set()
        for client_pubkey, text in (await self._node.datastore_children(_KEY)).items():
            try:
                self._stops[client_pubkey] = _parse(text)
            except RecordError as error:
                _log.error(
                    "connection %s cannot pay: its record of lightningd's stops cannot be read: %s",
                    connection_id_of(client_pubkey),
                    error,
                )
                self._unreadable.add(client_pubkey)
                self._stops[client_pubkey] = _Stops(suspended_at=0)

    def noted(self) -> frozenset[str]:
        """Return the client keys of all connections that have a record."""
        return frozenset(self._stops)

    def interrupted(self) -> dict[str, frozenset[str]]:
        """Return the requests whose fetching has not ended when the plugin did, by client key."""
        left = {
            client_pubkey: frozenset(stops.fetching) - self._fetching[client_pubkey]
            for client_pubkey, stops in self._stops.items()
        }
        return {client_pubkey: request_ids for client_pubkey, request_ids in left.items() if request_ids}

    async def forget_interrupted(self) -> None:
        """Delete what `interrupted` returns."""
        for client_pubkey in self.interrupted():
            await self._store_fetching(client_pubkey)

    @asynccontextmanager
    async def fetching(self, client_pubkey: str, request_id: str) -> AsyncIterator[None]:
        """Note, as long as the context lasts, that the invoice of an offer is being fetched.

        If the plugin ends meanwhile, `interrupted` returns the request after the next start.

        Args:
            client_pubkey: of the connection.
            request_id: of its request.

        Raises:
            NodeError: lightningd is unavailable, so it cannot be noted.

        """
        self._fetching[client_pubkey].add(request_id)
        is_cancelled = False
        try:
            await self._store_fetching(client_pubkey)
            yield
        except asyncio.CancelledError:  # the plugin is stopping
            is_cancelled = True
            raise
        finally:
            self._fetching[client_pubkey].discard(request_id)
            if not is_cancelled:
                with suppress(NodeError):  # the next write, or the next start, removes it
                    await self._store_fetching(client_pubkey)

    async def lightningd_stopped(
        self, client_pubkey: str, request_ids: frozenset[str], now: float, *, suspend: bool = False
    ) -> None:
        """Note that lightningd stopped while payments of a connection were in flight.

        Noting the same payments twice changes nothing.

        Args:
            client_pubkey: of the connection.
            request_ids: the request ids of those payments.
            now: Unix seconds.
            suspend: suspend the connection's payments at once, not only the second time.

        """
        known = self._stops.get(client_pubkey, _Stops())
        noted = {request_id for stop in known.stops for request_id in stop.request_ids}
        if request_ids <= noted or client_pubkey in self._unreadable:
            return
        stops = (*known.stops, _Stop(int(now), tuple(sorted(request_ids))))[-STOPS_UNTIL_SUSPENDED:]
        recent = [stop for stop in stops if abs(now - stop.at) <= WINDOW_S]
        suspended_at = known.suspended_at
        if suspended_at is None and (suspend or len(recent) >= STOPS_UNTIL_SUSPENDED):
            suspended_at = int(now)
        await self._keep(client_pubkey, _Stops(stops, suspended_at, known.fetching))

    def suspended_at(self, client_pubkey: str) -> int | None:
        """Return when a connection's payments were suspended, in Unix seconds; None if they are not."""
        return self._stops.get(client_pubkey, _Stops()).suspended_at

    def is_suspended(self, client_pubkey: str) -> bool:
        """Return True if a connection's payments are suspended."""
        return self.suspended_at(client_pubkey) is not None

    def is_unreadable(self, client_pubkey: str) -> bool:
        """Return True if a connection's payments are suspended because its record cannot be read."""
        return client_pubkey in self._unreadable

    async def resume(self, client_pubkey: str) -> None:
        """Let a connection pay again, and delete its record."""
        if client_pubkey in self._stops:
            await self._node.datastore_delete((*_KEY, client_pubkey))
            self._stops.pop(client_pubkey, None)
            self._unreadable.discard(client_pubkey)

    async def _store_fetching(self, client_pubkey: str) -> None:
        async with self._locks[client_pubkey]:  # the last state must be the last that is written
            known = self._stops.get(client_pubkey, _Stops())
            stops = replace(known, fetching=tuple(sorted(self._fetching[client_pubkey])))
            if stops == _Stops():
                await self.resume(client_pubkey)
            elif stops != known:
                await self._keep(client_pubkey, stops)

    async def _keep(self, client_pubkey: str, stops: _Stops) -> None:
        # First here: lightningd may write it without answering.
        self._stops[client_pubkey] = stops
        await self._node.datastore_put((*_KEY, client_pubkey), _KIND.to_json(asdict(stops)))


def _parse(text: str) -> _Stops:
    """Return a stored record; raises RecordError."""
    return read(_Stops, _KIND.parse(text))
