"""What nwc-status shows of a relay, and when its outage is logged."""

import pytest

from nwc.nostr import relay_health as module
from nwc.nostr.relay_health import LOG_OUTAGE_AFTER_S, STABLE_AFTER_S, RelayHealth, RelayInfo

URL = "wss://a.example"
NOW = 1_800_000_000


class Clock:
    """A wall clock and a monotonic clock that stand still until the test moves them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self) -> float:
        return NOW + self.seconds

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def info(health: RelayHealth, latency_s: float | None = None) -> RelayInfo:
    return health.info(URL, recipients=1, latency_s=latency_s)


def test_a_new_relay_is_connecting(clock: Clock) -> None:
    assert info(RelayHealth()) == RelayInfo(URL, "connecting", 1, NOW, None, 0, 0, {}, 0, None)


def test_state_and_time_of_its_last_change_are_shown(clock: Clock) -> None:
    health = RelayHealth()
    for state, second in (("connected", 1), ("disconnected", 2), ("connected", 3)):
        clock.seconds = second
        if state == "connected":
            health.connected()
        else:
            health.disconnected("a reason")
        clock.seconds = second + 0.5
        assert (info(health).state, info(health).since) == (state, NOW + second)
    assert (info(health).reconnects, info(health).last_error) == (1, "a reason")


def test_a_complaint_is_shown_rather_than_a_missing_answer(clock: Clock) -> None:
    health = RelayHealth()
    health.connected()
    health.unanswered()
    assert str(info(health).last_error).startswith("the relay does not answer a subscription")
    health.complained("too many concurrent REQs")
    health.unanswered()
    assert info(health).last_error == "too many concurrent REQs"
    health.disconnected("a reason")
    health.connected()
    health.unanswered()
    assert str(info(health).last_error).startswith("the relay does not answer a subscription")


def test_failed_attempts_do_not_change_since(clock: Clock) -> None:
    health = RelayHealth()
    health.disconnected("first")
    clock.seconds = 100
    health.disconnected("second")
    assert (info(health).since, info(health).last_error) == (NOW, "second")


def test_events_and_frames_are_counted(clock: Clock) -> None:
    health = RelayHealth()
    for reason in (None, "stale", None, "stale", "forged"):
        health.event(reason)
    health.invalid_frame()
    shown = info(health, 0.0123)
    assert shown.events_received == 5
    assert shown.events_ignored == {"stale": 2, "forged": 1}
    assert (shown.invalid_frames, shown.latency_ms) == (1, 12)


def logged(health: RelayHealth, clock: Clock, seconds: float) -> int:
    """Return how often an outage was to be logged in so many seconds."""
    count = 0
    for _ in range(int(seconds)):
        clock.seconds += 1
        count += health.should_log_outage()
    return count


def test_an_outage_is_logged_once(clock: Clock) -> None:
    health = RelayHealth()
    health.disconnected("x")
    assert logged(health, clock, LOG_OUTAGE_AFTER_S - 1) == 0
    assert logged(health, clock, 1) == 1
    health.disconnected("again")
    assert logged(health, clock, 100_000) == 0


def test_a_short_outage_is_not_logged(clock: Clock) -> None:
    health = RelayHealth()
    for _ in range(100):
        health.connected()
        assert logged(health, clock, STABLE_AFTER_S + 1) == 0
        health.disconnected("x")
        assert logged(health, clock, LOG_OUTAGE_AFTER_S - 1) == 0


def test_short_connections_do_not_end_an_outage(clock: Clock) -> None:
    health, count = RelayHealth(), 0
    for _ in range(1000):
        health.connected()
        count += logged(health, clock, STABLE_AFTER_S - 1)
        health.disconnected("x")
        count += logged(health, clock, 5)
    assert count == 1


def test_the_next_outage_is_logged_again(clock: Clock) -> None:
    health = RelayHealth()
    for _ in range(3):
        health.disconnected("x")
        assert logged(health, clock, LOG_OUTAGE_AFTER_S) == 1
        health.connected()
        assert logged(health, clock, STABLE_AFTER_S) == 0


def test_the_wall_clock_does_not_make_an_outage(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    health = RelayHealth()
    health.disconnected("x")
    monkeypatch.setattr(clock, "time", lambda: NOW + 10**6)
    assert not health.should_log_outage()
