import pytest

from nwc.nip47.rate_limit import RateLimit

T = 1000.0


def admitted(limit: RateLimit, now: float) -> bool:
    if limit.is_exhausted(now):
        return False
    limit.charge()
    return True


def test_a_burst_is_allowed_and_no_more() -> None:
    limit = RateLimit(2, 5, T)
    assert [admitted(limit, T) for _ in range(7)] == [True] * 5 + [False] * 2


def test_in_the_long_run_the_rate_is_allowed() -> None:
    limit = RateLimit(2, 5, T)
    taken = sum(admitted(limit, T + tenth / 10) for tenth in range(1000))
    assert taken == pytest.approx(5 + 2 * 100, abs=1)


def test_a_pause_allows_no_more_than_the_burst() -> None:
    limit = RateLimit(2, 5, T)
    for _ in range(5):
        admitted(limit, T)
    assert [admitted(limit, T + 10_000) for _ in range(6)] == [True] * 5 + [False]


def test_a_rate_can_be_less_than_one_a_second() -> None:
    limit = RateLimit(0.5, 1, T)
    assert [admitted(limit, T + second) for second in range(5)] == [True, False, True, False, True]


def test_is_exhausted_charges_nothing() -> None:
    limit = RateLimit(1, 1, T)
    assert [limit.is_exhausted(T) for _ in range(10)] == [False] * 10


def test_a_clock_set_back_neither_allows_nor_blocks_requests() -> None:
    limit = RateLimit(1, 2, T)
    assert [admitted(limit, T) for _ in range(3)] == [True, True, False]
    assert not admitted(limit, T - 5000)
    assert admitted(limit, T - 4999)


def answered(limit: RateLimit, now: float) -> bool:
    if limit.is_beyond_answers(now):
        return False
    limit.charge_answer()
    return True


def test_ten_times_the_limit_are_answered() -> None:
    limit = RateLimit(2, 5, T)
    assert [answered(limit, T) for _ in range(25)] == [True] * 20 + [False] * 5
    later = sum(answered(limit, T + tenth / 10) for tenth in range(1, 1001) for _ in range(10))
    assert later == pytest.approx(20 * 100, abs=1)


def test_at_least_one_request_over_the_limit_is_answered() -> None:
    limit = RateLimit(0.001, 1, T)
    assert [answered(limit, T) for _ in range(3)] == [True, False, False]


def test_answers_do_not_charge_the_limit_of_requests() -> None:
    limit = RateLimit(2, 5, T)
    for _ in range(100):
        answered(limit, T)
    assert [admitted(limit, T) for _ in range(6)] == [True] * 5 + [False]


def test_a_clock_set_back_does_not_stop_answers() -> None:
    limit = RateLimit(1, 1, T)
    assert sum(answered(limit, T) for _ in range(20)) == 10
    assert not answered(limit, T - 5000)
    assert answered(limit, T - 4999)
