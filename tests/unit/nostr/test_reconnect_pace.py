"""When the next attempt begins, by a clock that the test moves."""

import pytest

from nwc.nostr.reconnect_pace import BURST, FIRST_PAUSE_S, OUTAGE_S, ReconnectPace

MAX_PAUSE_S = 8.0


def attempts(pace: ReconnectPace, now: float, count: int, *, lasts_s: float = 0) -> list[float]:
    """Return when attempts begin, if each fails after `lasts_s` seconds."""
    times = []
    for _ in range(count):
        pace.attempted(now)
        times.append(now)
        now += lasts_s
        now += pace.pause(now)
    return times


def test_the_first_attempts_follow_each_other_at_once() -> None:
    times = attempts(ReconnectPace(0), 0, BURST)
    assert times[-1] <= FIRST_PAUSE_S * (BURST - 1)


@pytest.mark.parametrize("lasts_s", [0, 1, 4, 8, 15])
def test_no_pause_is_long_in_the_first_ten_minutes(lasts_s: float) -> None:
    pace, now = ReconnectPace(0), 0.0
    while now < OUTAGE_S - 30:
        pace.attempted(now)
        now += lasts_s
        pause_s = pace.pause(now)
        assert FIRST_PAUSE_S / 2 <= pause_s <= MAX_PAUSE_S
        now += pause_s


def test_the_first_attempts_after_a_quiet_hour_follow_each_other_at_once() -> None:
    pace = ReconnectPace(0)
    attempts(pace, 0, 20)
    pace.served(3600)
    times = attempts(pace, 3600, BURST)
    assert times[-1] - times[0] <= FIRST_PAUSE_S * (BURST - 1)


def test_pauses_are_random() -> None:
    pace = ReconnectPace(0)
    assert len({pace.pause(0) for _ in range(20)}) > 1
    assert len({pace.pause(OUTAGE_S) for _ in range(20)}) > 1
