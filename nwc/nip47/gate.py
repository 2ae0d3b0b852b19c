"""The gate: decides which events are requests to serve. All others are ignored.

Every event from a relay is untrusted until its signature is checked. That check is the expensive one, so
every cheaper check runs first. An event with an unchecked signature changes no state (the seen events,
the rate limit): otherwise a forger could shut out the real client.

Forgeries: every event shows its wallet key and its author. So anyone can send us forged events that pass
all checks but the signature's, through any relay that does not check signatures itself. Each costs us
0.1 ms. The gate does not limit them, and no relay is dropped because of them: the forger would then
decide how many real requests are served. Instead, nwc/nostr/relay_socket.py bounds the CPU time
that one relay's events can take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from nwc.nip47.expiration import has_expired
from nwc.nip47.kinds import KIND_REQUEST
from nwc.nip47.rate_limit import RateLimit
from nwc.nip47.seen import SeenEvents
from nwc.nostr.event import Event, EventError, verify_event

# An older request was probably kept by a relay; it says nothing about the client's clock.
MAX_BEHIND_S = 3600


class Connection(Protocol):
    """What the gate needs to know about a connection."""

    @property
    def client_pubkey(self) -> str:
        """The key that may send requests, 64 hex digits."""

    @property
    def rate_limit(self) -> RateLimit:
        """How fast it may send them."""


C = TypeVar("C", bound=Connection)


class Rejection(StrEnum):
    """Why an event is ignored."""

    WRONG_KIND = "wrong kind"
    FOREIGN = "not for us"
    UNKNOWN_AUTHOR = "unknown author"
    SEEN = "seen before"
    STALE = "stale"
    EXPIRED = "expired"
    RATE_LIMITED = "rate limited"
    FORGED = "bad id or signature"  # honest relays do not pass these on


@dataclass(frozen=True, slots=True)
class Rejected(Generic[C]):
    """The event is ignored.

    Attributes:
        reason: why.
        connection: the connection that the event claims to come from, None if there is none. For most
            reasons the signature is not checked.
        ahead_s: how many seconds the client's clock is ahead of ours, negative if it is behind. None
            unless the event is stale, recent and signed by the client.

    """

    reason: Rejection
    connection: C | None = None
    ahead_s: int | None = None


@dataclass(frozen=True, slots=True)
class Admitted(Generic[C]):
    """The event is an authentic request.

    Attributes:
        connection: where it comes from.
        rate_limited: True if it must be answered RATE_LIMITED instead of being served.

    """

    connection: C
    rate_limited: bool = False


class Gate(Generic[C]):
    """Decides which events from relays are served.

    Args:
        find_connection: returns the connection of a wallet key, None if the key is not ours.
        max_request_age: seconds a request's `created_at` may differ from our clock.

    """

    def __init__(self, find_connection: Callable[[str], C | None], max_request_age: int) -> None:
        self._find_connection = find_connection
        self._max_request_age = max_request_age
        self._seen = SeenEvents()
        self._clock_checked_at = float("-inf")

    def check(self, event: Event, now: float) -> Admitted[C] | Rejected[C]:
        """Return whether an event is served, and if not, why.

        Args:
            event: its shape is checked, its signature is not.
            now: Unix seconds.

        """
        if event.kind != KIND_REQUEST:
            return Rejected(Rejection.WRONG_KIND)
        connection = self._connection_of(event)
        if connection is None:
            return Rejected(Rejection.FOREIGN)
        if event.pubkey != connection.client_pubkey:
            return Rejected(Rejection.UNKNOWN_AUTHOR)
        if event.id in self._seen:
            return Rejected(Rejection.SEEN, connection)
        if abs(event.created_at - now) > self._max_request_age:
            return Rejected(Rejection.STALE, connection, self._ahead_s(event, now))
        if has_expired(event, now):
            return Rejected(Rejection.EXPIRED, connection)
        return self._admit(event, connection, now)

    def _admit(self, event: Event, connection: C, now: float) -> Admitted[C] | Rejected[C]:
        """Check the rate limit and the signature; charge the rate limit for an authentic request."""
        limit = connection.rate_limit
        exhausted = limit.is_exhausted(now)
        if exhausted and limit.is_beyond_answers(now):
            return Rejected(Rejection.RATE_LIMITED, connection)
        try:
            verify_event(event)
        except EventError:
            return Rejected(Rejection.FORGED, connection)
        self._seen.add(event.id)
        if exhausted:
            limit.charge_answer()
        else:
            limit.charge()
        return Admitted(connection, rate_limited=exhausted)

    def _connection_of(self, event: Event) -> C | None:
        """Return the connection whose wallet key a `p` tag names, whichever tag it is."""
        keys = (tag[1] for tag in event.tags_named("p") if len(tag) > 1)
        found = [connection for key in keys if (connection := self._find_connection(key))]
        # If tags name several of our keys, the author's is meant: each client key has one connection.
        of_author = (one for one in found if one.client_pubkey == event.pubkey)
        return next(of_author, found[0] if found else None)

    def _ahead_s(self, event: Event, now: float) -> int | None:
        """Return how far the client's clock is ahead of ours, judged by a stale event.

        At most one event a second is checked: a hint about a wrong clock is not worth more CPU time.
        """
        ahead_s = int(event.created_at - now)
        if ahead_s < -MAX_BEHIND_S or abs(now - self._clock_checked_at) < 1:
            return None
        self._clock_checked_at = now
        try:
            verify_event(event)
        except EventError:
            return None
        return ahead_s
