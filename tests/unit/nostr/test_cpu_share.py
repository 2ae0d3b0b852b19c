import pytest

from nwc.nostr.cpu_share import BURST_S, SHARE, TimeShare

T = 1000.0
COST_S = 100e-6  # of a signature check


def flood(share: TimeShare, per_second: float, seconds: float) -> tuple[int, float, float]:
    """Take frames that come at a pace; returns how many, the longest pause, and all pauses."""
    now, due, taken, longest, paused = T, T, 0, 0.0, 0.0
    while now < T + seconds:
        now = max(now, due) + COST_S
        due += 1 / per_second
        pause_s = share.pause_after(COST_S, now)
        now += pause_s
        taken += 1
        longest, paused = max(longest, pause_s), paused + pause_s
    return taken, longest, paused


@pytest.mark.parametrize("per_second", [1, 333, 1667, SHARE / COST_S * 0.99])
def test_what_is_within_the_share_is_taken_at_once(per_second: float) -> None:
    taken, _, paused = flood(TimeShare(T), per_second, 60)
    assert taken == pytest.approx(60 * per_second, abs=2)
    assert paused == 0


@pytest.mark.parametrize("per_second", [SHARE / COST_S * 1.5, 1e6])
def test_a_flood_takes_the_share_and_no_more(per_second: float) -> None:
    taken, longest, _ = flood(TimeShare(T), per_second, 60)
    assert taken * COST_S / 60 == pytest.approx(SHARE, rel=0.05)
    assert longest < 1.1 * BURST_S / SHARE


def test_one_frame_that_takes_long_is_paid_for() -> None:
    share = TimeShare(T)
    pause_s = share.pause_after(1.0, T + 1)
    assert pause_s == pytest.approx(1 / SHARE)
    assert share.pause_after(COST_S, T + 1 + pause_s) == 0


def test_rest_is_not_saved_up() -> None:
    share = TimeShare(T)
    assert share.pause_after(BURST_S, T + 1e6) == 0
    assert share.pause_after(COST_S, T + 1e6) > 0
