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
from nwc.nostr.encoding import to_json
from nwc.wallet.stored import is_number, parse_stored

WITHIN_S = 3600
STOPS_UNTIL_SUSPENDED = 2
RECORD_VERSION = 1

_KEY = ("nwc", "stops")

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

    async def load(self) -> None:
        """Read what is stored; where that cannot be read, the connection's payments are suspended."""
        self._stops = {}
        for client_pubkey, text in (await self._node.datastore_children(_KEY)).items():
            try:
                self._stops[client_pubkey] = _parse(text)
            except (ValueError, TypeError, KeyError, AttributeError):
                _log.error("connection %s cannot pay: bad record of stops", client_pubkey[:16])
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
        if request_ids <= noted:
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

    async def resume(self, client_pubkey: str) -> None:
        """Let a connection pay again, and forget what was noted."""
        if client_pubkey in self._stops:
            await self._node.datastore_delete((*_KEY, client_pubkey))
            self._stops.pop(client_pubkey, None)

    async def _keep(self, client_pubkey: str, stops: _Stops) -> None:
        record = to_json({"version": RECORD_VERSION, **asdict(stops)})
        await self._node.datastore_put((*_KEY, client_pubkey), record)
        self._stops[client_pubkey] = stops


def _parse(text: str) -> _Stops:
    """Read a stored record.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: damaged, or of another version.

    """
    stored = parse_stored(text)
    if stored["version"] != RECORD_VERSION:
        raise ValueError("a record of stops of another version")
    suspended_at = stored["suspended_at"]
    if not (suspended_at is None or is_number(suspended_at)):
        raise ValueError("suspended_at is no time")
    return _Stops(tuple(_stop(one) for one in stored["stops"]), suspended_at)


def _stop(stored: dict[str, Any]) -> _Stop:
    request_ids = stored["request_ids"]
    if not is_number(stored["at"]) or not all(isinstance(one, str) for one in request_ids):
        raise ValueError("a stop cannot be read")
    return _Stop(stored["at"], tuple(request_ids))
