"""When a relay is tried again, by a clock that the test moves."""

import itertools

import pytest

from nwc.nostr.reconnect_pace import BURST, FIRST_PAUSE_S, LONG_PAUSE_S, OUTAGE_S, ReconnectPace

MAX_PAUSE_S = 8.0


def attempts(pace: ReconnectPace, now: float, count: int, *, lasts_s: float = 0) -> list[float]:
    """Return when attempts begin that each fail after so many seconds."""
    times = []
    for _ in range(count):
        pace.attempted(now)
        times.append(now)
        now += lasts_s
        now += pace.pause(now)
    return times


def test_the_first_attempts_follow_at_once() -> None:
    times = attempts(ReconnectPace(0), 0, BURST)
    assert times[-1] <= FIRST_PAUSE_S * (BURST - 1)


@pytest.mark.parametrize("lasts_s", [0, 1, 4, 8, 15])
def test_no_pause_of_the_first_ten_minutes_is_long(lasts_s: float) -> None:
    pace, now = ReconnectPace(0), 0.0
    while now < OUTAGE_S - 30:
        pace.attempted(now)
        now += lasts_s
        pause_s = pace.pause(now)
        assert FIRST_PAUSE_S / 2 <= pause_s <= MAX_PAUSE_S
        now += pause_s


def test_an_outage_of_ten_minutes_goes_to_a_minute() -> None:
    pace = ReconnectPace(0)
    for now in (OUTAGE_S, 10 * OUTAGE_S):
        assert LONG_PAUSE_S / 2 <= pace.pause(now) <= LONG_PAUSE_S
    pace.served(10 * OUTAGE_S)
    assert pace.pause(10 * OUTAGE_S) <= MAX_PAUSE_S
    assert pace.pause(11 * OUTAGE_S - 1) <= MAX_PAUSE_S
    assert pace.pause(11 * OUTAGE_S) > MAX_PAUSE_S


def test_not_more_than_one_attempt_in_five_seconds() -> None:
    """Also where the relay serves each time, so that it never is an outage."""
    pace, now, times = ReconnectPace(0), 0.0, []
    while now < 3600:
        pace.attempted(now)
        pace.served(now)
        times.append(now)
        now += pace.pause(now)
    for minutes in (1, 10, 60):
        assert len([at for at in times if at < 60 * minutes]) <= 60 * minutes / 5
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[BURST:])]
    assert min(gaps) >= 5


def test_after_a_quiet_hour_the_first_attempts_follow_at_once_again() -> None:
    pace = ReconnectPace(0)
    attempts(pace, 0, 20)
    pace.served(3600)
    times = attempts(pace, 3600, BURST)
    assert times[-1] - times[0] <= FIRST_PAUSE_S * (BURST - 1)


def test_chance_keeps_the_clients_of_a_relay_apart() -> None:
    pace = ReconnectPace(0)
    assert len({pace.pause(0) for _ in range(20)}) > 1
    assert len({pace.pause(OUTAGE_S) for _ in range(20)}) > 1
