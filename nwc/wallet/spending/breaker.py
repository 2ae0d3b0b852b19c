"""The circuit breaker: a connection that stops the node twice within an hour can pay no more.

lightningd has faults by which a payee can stop it, and no list of them is complete. So where lightningd
ended while payments of a connection were in flight, that is noted at the next start. The second time
within an hour suspends the connection's payments until its owner resumes them. A payment counts once,
however often the node is restarted while it is held. Nobody knows why lightningd ended: a restart by the
owner counts, too.

At ["nwc", "stops", <client pubkey>] in the datastore.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any

from nwc.cln.node import Node
from nwc.wallet.connections.record import connection_id_of
from nwc.wallet.records import RecordKind, RecordVersionError, is_number

WITHIN_S = 3600
STOPS_UNTIL_SUSPENDED = 2

_KEY = ("nwc", "stops")
_KIND = RecordKind(required=frozenset({"stops", "suspended_at"}))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Stop:
    """An end of lightningd.

    Attributes:
        at: Unix seconds of the start that followed.
        request_ids: of the payments that were in flight.

    """

    at: int
    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stops:
    """What is kept of one connection.

    Attributes:
        stops: the newest ones, oldest first.
        suspended_at: Unix seconds, None while its payments are not suspended.

    """

    stops: tuple[_Stop, ...] = ()
    suspended_at: int | None = None


class CircuitBreaker:
    """Knows whose payments are suspended. Methods that wait raise NodeError, as Node's do."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stops: dict[str, _Stops] = {}
        # Whose record cannot be read: it is left as it is until the owner resumes the payments.
        self._unreadable: set[str] = set()

    async def load(self) -> None:
        """Read what is stored; where that cannot be read, the connection's payments are suspended."""
        self._stops = {}
        self._unreadable = set()
        for client_pubkey, text in (await self._node.datastore_children(_KEY)).items():
            try:
                self._stops[client_pubkey] = _parse(text)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                why = str(error) if isinstance(error, RecordVersionError) else type(error).__name__
                _log.error(
                    "connection %s cannot pay: bad record of stops: %s",
                    connection_id_of(client_pubkey),
                    why,
                )
                self._unreadable.add(client_pubkey)
                self._stops[client_pubkey] = _Stops(suspended_at=0)

    async def lightningd_stopped(
        self, client_pubkey: str, request_ids: frozenset[str], now: float
    ) -> None:
        """Note that lightningd has ended while payments of a connection were in flight.

        The same once more changes nothing.

        Args:
            client_pubkey: whose payments.
            request_ids: of those payments.
            now: Unix seconds.

        """
        known = self._stops.get(client_pubkey, _Stops())
        noted = {request_id for stop in known.stops for request_id in stop.request_ids}
        if request_ids <= noted or client_pubkey in self._unreadable:
            return
        stops = (*known.stops, _Stop(int(now), tuple(sorted(request_ids))))[-STOPS_UNTIL_SUSPENDED:]
        recent = [stop for stop in stops if abs(now - stop.at) <= WITHIN_S]
        suspended_at = known.suspended_at
        if suspended_at is None and len(recent) >= STOPS_UNTIL_SUSPENDED:
            suspended_at = int(now)
        await self._keep(client_pubkey, _Stops(stops, suspended_at))

    def suspended_at(self, client_pubkey: str) -> int | None:
        """Return since when a connection's payments are suspended, in Unix seconds; None if not."""
        return self._stops.get(client_pubkey, _Stops()).suspended_at

    def is_suspended(self, client_pubkey: str) -> bool:
        """Return True if a connection may not pay."""
        return self.suspended_at(client_pubkey) is not None

    def is_unreadable(self, client_pubkey: str) -> bool:
        """Return True if a connection may not pay because its record of stops cannot be read."""
        return client_pubkey in self._unreadable

    async def resume(self, client_pubkey: str) -> None:
        """Let a connection pay again, and forget what was noted."""
        if client_pubkey in self._stops:
            await self._node.datastore_delete((*_KEY, client_pubkey))
            self._stops.pop(client_pubkey, None)
            self._unreadable.discard(client_pubkey)

    async def _keep(self, client_pubkey: str, stops: _Stops) -> None:
        await self._node.datastore_put((*_KEY, client_pubkey), _KIND.to_json(asdict(stops)))
        self._stops[client_pubkey] = stops


def _parse(text: str) -> _Stops:
    """Read a stored record.

    Raises:
        RecordVersionError: written by a newer version of the plugin.
        ValueError, TypeError, KeyError, AttributeError: damaged.

    """
    stored = _KIND.parse(text)
    suspended_at = stored["suspended_at"]
    if not (suspended_at is None or is_number(suspended_at)):
        raise ValueError("suspended_at is no time")
    return _Stops(tuple(_stop(one) for one in stored["stops"]), suspended_at)


def _stop(stored: dict[str, Any]) -> _Stop:
    request_ids = stored["request_ids"]
    if not is_number(stored["at"]) or not all(isinstance(one, str) for one in request_ids):
        raise ValueError("a stop cannot be read")
    return _Stop(stored["at"], tuple(request_ids))
