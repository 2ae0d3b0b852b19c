"""The circuit breaker: if lightningd stops twice within an hour while a connection pays, it may not pay.

lightningd has faults by which a payee can stop it, and no list of them is complete. So if lightningd
stopped while payments of a connection were in flight, that is noted at the next start. The second time
within an hour suspends the connection's payments until the owner resumes them. A payment counts once,
however often the node is restarted while the payee holds it. The plugin cannot know why lightningd
stopped, so a restart by the owner counts too.

The record is at ["nwc", "stops", <client pubkey>] in the datastore.
"""

import logging
from dataclasses import asdict, dataclass

from nwc.cln.node import Node
from nwc.wallet.connections.record import connection_id_of
from nwc.wallet.records import RecordError, RecordKind, read

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

    """

    stops: tuple[_Stop, ...] = ()
    suspended_at: int | None = None


_KIND = RecordKind.of(_Stops)


class CircuitBreaker:
    """Knows which connections' payments are suspended. The coroutines raise NodeError, as Node's do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stops: dict[str, _Stops] = {}
        # Connections whose record cannot be read. It stays until the owner resumes the payments.
        self._unreadable: set[str] = set()

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

    async def lightningd_stopped(
        self, client_pubkey: str, request_ids: frozenset[str], now: float
    ) -> None:
        """Note that lightningd stopped while payments of a connection were in flight.

        Noting the same payments twice changes nothing.

        Args:
            client_pubkey: of the connection.
            request_ids: the request ids of those payments.
            now: Unix seconds.

        """
        known = self._stops.get(client_pubkey, _Stops())
        noted = {request_id for stop in known.stops for request_id in stop.request_ids}
        if request_ids <= noted or client_pubkey in self._unreadable:
            return
        stops = (*known.stops, _Stop(int(now), tuple(sorted(request_ids))))[-STOPS_UNTIL_SUSPENDED:]
        recent = [stop for stop in stops if abs(now - stop.at) <= WINDOW_S]
        suspended_at = known.suspended_at
        if suspended_at is None and len(recent) >= STOPS_UNTIL_SUSPENDED:
            suspended_at = int(now)
        await self._keep(client_pubkey, _Stops(stops, suspended_at))

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

    async def _keep(self, client_pubkey: str, stops: _Stops) -> None:
        await self._node.datastore_put((*_KEY, client_pubkey), _KIND.to_json(asdict(stops)))
        self._stops[client_pubkey] = stops


def _parse(text: str) -> _Stops:
    """Return a stored record; raises RecordError."""
    return read(_Stops, _KIND.parse(text))
