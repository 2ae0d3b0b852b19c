"""The gate: which events are requests to serve. Cheapest check first, silence for all others.

What comes from a relay is a stranger's word until its signature is checked, and that check is the dear
one. So whatever can be told without it is told first, and nothing that an unchecked event says changes
any state (the seen-set, the rate limit): otherwise a forger could shut out the real client.

Forgeries: that an event names a wallet key and its right author proves nothing, both stand in plain
sight in every event. So anyone can have us check his forgeries (0.1 ms each), through any relay that
does not check them itself. There is no limit on them here and no relay is left for them: the forger
would then decide how many real requests are served. The time that all junk of a relay takes is bounded
where it is read (relay.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from nwc.nip47.kinds import KIND_REQUEST
from nwc.nip47.rate_limit import RateLimit
from nwc.nip47.seen import SeenEvents
from nwc.nostr.event import Event, EventError, verify_event

# A request that is older was kept by somebody and says nothing about clocks.
MAX_BEHIND_S = 3600


class Rejection(StrEnum):
    """Why an event is met with silence."""

    WRONG_KIND = "wrong kind"
    FOREIGN = "not for us"
    UNKNOWN_AUTHOR = "unknown author"
    SEEN = "seen before"
    STALE = "stale"
    EXPIRED = "expired"
    RATE_LIMITED = "rate limited"
    FORGED = "bad id or signature"  # honest relays pass none of these on


@dataclass(frozen=True, slots=True)
class Rejected:
    """The event is not served.

    Attributes:
        reason: why.
        ahead_s: of a stale event that the client has really made, and not long ago: how far its time is
            ahead of ours, in seconds; less than 0 when it is behind.

    """

    reason: Rejection
    ahead_s: int | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The event is an authentic request; it is to be served, or told RATE_LIMITED."""

    rate_limited: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who may send to one wallet key, and how fast."""

    client_pubkey: str
    rate_limit: RateLimit


class Gate:
    """Decides over every event that reaches us.

    Args:
        find_caller: returns who may send to a wallet key, None when the key is not ours.
        max_request_age: seconds a request's `created_at` may differ from our clock.

    """

    def __init__(self, find_caller: Callable[[str], Caller | None], max_request_age: int) -> None:
        self._find_caller = find_caller
        self._max_request_age = max_request_age
        self._seen = SeenEvents()
        self._looked_at = float("-inf")

    def check(self, event: Event, now: float) -> Admitted | Rejected:
        """Decide over one event.

        Args:
            event: shape checked, signature not.
            now: Unix seconds.

        """
        caller = self._find_caller_of(event)
        reason = self._reason_to_refuse(event, caller, now)
        if reason or caller is None:
            ahead_s = self._ahead_s(event, now) if reason is Rejection.STALE else None
            return Rejected(reason or Rejection.FOREIGN, ahead_s)
        limit = caller.rate_limit
        exhausted = limit.is_exhausted(now)
        if exhausted and limit.is_beyond_answers(now):
            return Rejected(Rejection.RATE_LIMITED)
        try:
            verify_event(event)
        except EventError:
            return Rejected(Rejection.FORGED)
        self._seen.add(event.id)
        if exhausted:
            limit.charge_answer()
        else:
            limit.charge()
        return Admitted(rate_limited=exhausted)

    def _find_caller_of(self, event: Event) -> Caller | None:
        """Return who may send to the wallet key that an event is for; any `p` tag may name it."""
        keys = (tag[1] for tag in event.tags_named("p") if len(tag) > 1)
        callers = [caller for key in keys if (caller := self._find_caller(key))]
        # A client key has one connection only, so of several keys of ours no more than one is meant.
        meant = (caller for caller in callers if caller.client_pubkey == event.pubkey)
        return next(meant, callers[0] if callers else None)

    def _ahead_s(self, event: Event, now: float) -> int | None:
        """Tell how far the clock of a client is ahead of ours, from an event that is stale.

        Of all that come in a second one is looked at: a sign of a wrong clock is worth no more time.
        """
        ahead_s = int(event.created_at - now)
        if ahead_s < -MAX_BEHIND_S or abs(now - self._looked_at) < 1:
            return None
        self._looked_at = now
        try:
            verify_event(event)
        except EventError:
            return None
        return ahead_s

    def _reason_to_refuse(self, event: Event, caller: Caller | None, now: float) -> Rejection | None:
        if event.kind != KIND_REQUEST:
            return Rejection.WRONG_KIND
        if caller is None:
            return Rejection.FOREIGN
        if event.pubkey != caller.client_pubkey:
            return Rejection.UNKNOWN_AUTHOR
        if event.id in self._seen:
            return Rejection.SEEN
        if abs(event.created_at - now) > self._max_request_age:
            return Rejection.STALE
        if is_past_expiration(event, now):
            return Rejection.EXPIRED
        return None


def expiration_of(event: Event) -> int | None:
    """Return the Unix second in an event's `expiration` tag, None without the tag.

    Raises:
        ValueError: the tag does not hold a Unix timestamp.

    """
    text = event.tag("expiration")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ValueError("tag expiration: must be a Unix timestamp in seconds")
    return int(text)


def is_past_expiration(event: Event, now: float) -> bool:
    """Tell whether a request is to be ignored for its `expiration` (NIP-47, "Request and Response
    Events"). A tag that cannot be read is not ours to ignore: such a request gets an error.
    """
    try:
        expiration = expiration_of(event)
    except ValueError:
        return False
    return expiration is not None and expiration < now
