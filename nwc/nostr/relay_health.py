"""How one relay is doing: what a person is shown of it, and when its absence is worth a log line."""

import time
from collections import Counter
from dataclasses import dataclass

# A connection that held this long was a good one: all is well again.
STABLE_AFTER_S = 30.0
# Relays restart. One that is away for longer than this is its operator's business.
AWAY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class RelayInfo:
    """What a person wants to know of a relay.

    Attributes:
        url: normal form of its URL.
        state: "connecting" before the first attempt has ended, then "connected" or "disconnected".
        inboxes: how many are read from it.
        since: Unix seconds of the last change of state.
        latency_ms: milliseconds from a ping to its answer, None before the first of this connection.
        reconnects: how often it was connected again.
        events_received: events of our subscriptions, served or not.
        events_rejected: events met with silence, by reason.
        invalid_frames: what it sent that was no message of NIP-01.
        last_error: why it was not connected the last time, or what it said last; None when nothing was.

    """

    url: str
    state: str
    inboxes: int
    since: int
    latency_ms: int | None
    reconnects: int
    events_received: int
    events_rejected: dict[str, int]
    invalid_frames: int
    last_error: str | None


class RelayHealth:
    """Counts and states of one relay since it was first wanted.

    Attributes:
        state: as in RelayInfo.
        last_error: as in RelayInfo.

    """

    def __init__(self) -> None:
        self.state = "connecting"
        self.last_error: str | None = None
        self._since = time.time()
        self._connects = 0
        self._received = 0
        self._rejected: Counter[str] = Counter()
        self._invalid_frames = 0
        self._changed_at = time.monotonic()
        self._away_since: float | None = self._changed_at
        self._is_told = False
        self._has_complained = False

    def connected(self) -> None:
        """Take note of a new connection."""
        self._connects += 1
        self._has_complained = False
        self._set_state("connected")

    def complained(self, words: str) -> None:
        """Take note of what the relay complains about, or why it has refused something."""
        self.last_error = words
        self._has_complained = True

    def unanswered(self) -> None:
        """Take note that the relay does not answer a REQ, unless it has said why."""
        if not self._has_complained:
            self.last_error = "the relay does not answer a subscription (REQ); it is asked again"

    def disconnected(self, error: str) -> None:
        """Take note that the relay is away, at the end of a connection or of a vain attempt."""
        self.last_error = error
        self._set_state("disconnected")
        if self._away_since is None:
            self._away_since = time.monotonic()

    def invalid_frame(self) -> None:
        """Count a frame that is no message of NIP-01."""
        self._invalid_frames += 1

    def event(self, rejected_for: str | None) -> None:
        """Count an event; `rejected_for` tells why it is met with silence, None that it is served."""
        self._received += 1
        if rejected_for is not None:
            self._rejected[rejected_for] += 1

    def is_news_that_it_is_away(self) -> bool:
        """Tell, once, that the relay stays away. A connection that does not hold is none.

        To be asked every second or so.
        """
        now = time.monotonic()
        if self.state == "connected":
            if now - self._changed_at >= STABLE_AFTER_S:
                self._away_since, self._is_told = None, False
            return False
        is_away = self._away_since is not None and now - self._away_since >= AWAY_AFTER_S
        is_news = is_away and not self._is_told
        self._is_told |= is_away
        return is_news

    def info(self, url: str, *, inboxes: int, latency_s: float | None) -> RelayInfo:
        """Describe the relay with this URL, from which so many inboxes are read."""
        return RelayInfo(
            url=url,
            state=self.state,
            inboxes=inboxes,
            since=int(self._since),
            latency_ms=None if latency_s is None else round(latency_s * 1000),
            reconnects=max(0, self._connects - 1),
            events_received=self._received,
            events_rejected=dict(self._rejected),
            invalid_frames=self._invalid_frames,
            last_error=self.last_error,
        )

    def _set_state(self, state: str) -> None:
        if state != self.state:
            self.state, self._since, self._changed_at = state, time.time(), time.monotonic()
