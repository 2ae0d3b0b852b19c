"""The state of one relay, as nwc-status shows it, and when an outage should be logged."""

import time
from collections import Counter
from dataclasses import dataclass

# A connection that has lasted this long ends an outage.
STABLE_AFTER_S = 30.0
# Relays restart. An outage is logged only if it lasts longer than this.
LOG_OUTAGE_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class RelayInfo:
    """What a person wants to know about a relay.

    Attributes:
        url: as `parse_relay_url` returns it.
        state: "connecting" until the first attempt has ended, then "connected" or "disconnected".
        recipients: how many recipients' events are read from it.
        since: Unix seconds of the last change of state.
        latency_ms: milliseconds from a ping to its pong; None before the first pong of a connection.
        reconnects: the number of connections after the first.
        events_received: events for our subscriptions, ignored ones included.
        events_ignored: ignored events, by reason.
        invalid_frames: frames that were not a message of NIP-01.
        last_error: why the last connection failed or ended, or the relay's last complaint; None if there
            was neither.

    """

    url: str
    state: str
    recipients: int
    since: int
    latency_ms: int | None
    reconnects: int
    events_received: int
    events_ignored: dict[str, int]
    invalid_frames: int
    last_error: str | None


class RelayHealth:
    """Counts and state of one relay since it was first needed.

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
        self._ignored: Counter[str] = Counter()
        self._invalid_frames = 0
        self._changed_at = time.monotonic()
        self._down_since: float | None = self._changed_at
        self._is_logged = False
        self._has_complained = False

    def connected(self) -> None:
        """Record a new connection."""
        self._connects += 1
        self._has_complained = False
        self._set_state("connected")

    def complained(self, complaint: str) -> None:
        """Record the relay's complaint, or why it has refused something."""
        self.last_error = complaint
        self._has_complained = True

    def unanswered(self) -> None:
        """Record that the relay does not answer a REQ, unless it has complained on this connection."""
        if not self._has_complained:
            self.last_error = "the relay does not answer a subscription (REQ); still retrying"

    def disconnected(self, error: str) -> None:
        """Record the end of a connection, or a failed attempt."""
        self.last_error = error
        self._set_state("disconnected")
        if self._down_since is None:
            self._down_since = time.monotonic()

    def invalid_frame(self) -> None:
        """Count a frame that is not a message of NIP-01."""
        self._invalid_frames += 1

    def event(self, ignored_for: str | None) -> None:
        """Count an event. `ignored_for` is the reason why it is ignored, None if it is not."""
        self._received += 1
        if ignored_for is not None:
            self._ignored[ignored_for] += 1

    def should_log_outage(self) -> bool:
        """Return True once per outage, after LOG_OUTAGE_AFTER_S.

        A connection shorter than STABLE_AFTER_S does not end an outage. Call this about every second.
        """
        now = time.monotonic()
        if self.state == "connected":
            if now - self._changed_at >= STABLE_AFTER_S:
                self._down_since, self._is_logged = None, False
            return False
        is_outage = self._down_since is not None and now - self._down_since >= LOG_OUTAGE_AFTER_S
        should_log = is_outage and not self._is_logged
        self._is_logged |= is_outage
        return should_log

    def info(self, url: str, *, recipients: int, latency_s: float | None) -> RelayInfo:
        """Return what is shown of the relay."""
        return RelayInfo(
            url=url,
            state=self.state,
            recipients=recipients,
            since=int(self._since),
            latency_ms=None if latency_s is None else round(latency_s * 1000),
            reconnects=max(0, self._connects - 1),
            events_received=self._received,
            events_ignored=dict(self._ignored),
            invalid_frames=self._invalid_frames,
            last_error=self.last_error,
        )

    def _set_state(self, state: str) -> None:
        if state != self.state:
            self.state, self._since, self._changed_at = state, time.time(), time.monotonic()
