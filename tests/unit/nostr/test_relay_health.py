"""What is shown of a relay, and when its absence is news."""

import pytest

from nwc.nostr import relay_health as module
from nwc.nostr.relay_health import AWAY_AFTER_S, STABLE_AFTER_S, RelayHealth, RelayInfo

URL = "wss://a.example"
NOW = 1_800_000_000


class Clock:
    """A clock of both kinds that stands still until it is moved."""

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
    return health.info(URL, inboxes=1, latency_s=latency_s)


def test_at_first(clock: Clock) -> None:
    assert info(RelayHealth()) == RelayInfo(URL, "connecting", 1, NOW, None, 0, 0, {}, 0, None)


def test_states(clock: Clock) -> None:
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


def test_words_of_the_relay_say_more_than_that_it_is_silent(clock: Clock) -> None:
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


def test_vain_attempts_do_not_move_the_moment(clock: Clock) -> None:
    health = RelayHealth()
    health.disconnected("first")
    clock.seconds = 100
    health.disconnected("second")
    assert (info(health).since, info(health).last_error) == (NOW, "second")


def test_counts(clock: Clock) -> None:
    health = RelayHealth()
    for reason in (None, "stale", None, "stale", "forged"):
        health.event(reason)
    health.invalid_frame()
    shown = info(health, 0.0123)
    assert shown.events_received == 5
    assert shown.events_rejected == {"stale": 2, "forged": 1}
    assert (shown.invalid_frames, shown.latency_ms) == (1, 12)


def news(health: RelayHealth, clock: Clock, seconds: float) -> int:
    """Return how often there was news in so many seconds."""
    count = 0
    for _ in range(int(seconds)):
        clock.seconds += 1
        count += health.is_news_that_it_is_away()
    return count


def test_staying_away_is_news_once(clock: Clock) -> None:
    health = RelayHealth()
    health.disconnected("x")
    assert news(health, clock, AWAY_AFTER_S - 1) == 0
    assert news(health, clock, 1) == 1
    health.disconnected("again")
    assert news(health, clock, 100_000) == 0


def test_a_short_absence_is_no_news(clock: Clock) -> None:
    health = RelayHealth()
    for _ in range(100):
        health.connected()
        assert news(health, clock, STABLE_AFTER_S + 1) == 0
        health.disconnected("x")
        assert news(health, clock, AWAY_AFTER_S - 1) == 0


def test_a_relay_that_takes_and_drops_connections_is_away(clock: Clock) -> None:
    health, count = RelayHealth(), 0
    for _ in range(1000):
        health.connected()
        count += news(health, clock, STABLE_AFTER_S - 1)
        health.disconnected("x")
        count += news(health, clock, 5)
    assert count == 1


def test_the_next_absence_is_news_again(clock: Clock) -> None:
    health = RelayHealth()
    for _ in range(3):
        health.disconnected("x")
        assert news(health, clock, AWAY_AFTER_S) == 1
        health.connected()
        assert news(health, clock, STABLE_AFTER_S) == 0


def test_the_wall_clock_says_nothing_about_absence(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = RelayHealth()
    health.disconnected("x")
    monkeypatch.setattr(clock, "time", lambda: NOW + 10**6)
    assert not health.is_news_that_it_is_away()
