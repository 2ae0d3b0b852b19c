import pytest

from nwc.nostr.cpu_share import BURST_S, SHARE, CpuShare

T = 1000.0
COST_S = 100e-6  # of a signature check


def flood(share: CpuShare, per_second: float, seconds: float) -> tuple[int, float, float]:
    """Return how many frames are handled, the longest pause and the sum of all pauses, in seconds."""
    now, due_at, handled, longest, paused = T, T, 0, 0.0, 0.0
    while now < T + seconds:
        now = max(now, due_at) + COST_S
        due_at += 1 / per_second
        pause_s = share.pause_after(COST_S, now)
        now += pause_s
        handled += 1
        longest, paused = max(longest, pause_s), paused + pause_s
    return handled, longest, paused


@pytest.mark.parametrize("per_second", [1, 333, 1667, SHARE / COST_S * 0.99])
def test_a_relay_within_its_share_is_not_paused(per_second: float) -> None:
    handled, _, paused = flood(CpuShare(T), per_second, 60)
    assert handled == pytest.approx(60 * per_second, abs=2)
    assert paused == 0


@pytest.mark.parametrize("per_second", [SHARE / COST_S * 1.5, 1e6])
def test_a_flood_uses_the_share_and_not_more(per_second: float) -> None:
    handled, longest, _ = flood(CpuShare(T), per_second, 60)
    assert handled * COST_S / 60 == pytest.approx(SHARE, rel=0.05)
    assert longest < 1.1 * BURST_S / SHARE


def test_one_slow_frame_causes_a_pause_as_long_as_its_share_requires() -> None:
    share = CpuShare(T)
    pause_s = share.pause_after(1.0, T + 1)
    assert pause_s == pytest.approx(1 / SHARE)
    assert share.pause_after(COST_S, T + 1 + pause_s) == 0


def test_unused_time_is_not_saved_up() -> None:
    share = CpuShare(T)
    assert share.pause_after(BURST_S, T + 1e6) == 0
    assert share.pause_after(COST_S, T + 1e6) > 0
