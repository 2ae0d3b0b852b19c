from itertools import islice

import pytest

from nwc.backoff import backoff


@pytest.mark.parametrize(
    ("first_s", "max_s", "waits"),
    [(1, 60, [1, 2, 4, 8, 16, 32, 60, 60]), (0.2, 0.5, [0.2, 0.4, 0.5, 0.5]), (5, 3, [3, 3])],
)
def test_each_wait_is_twice_the_last_up_to_the_maximum(
    first_s: float, max_s: float, waits: list[float]
) -> None:
    assert list(islice(backoff(first_s, max_s), len(waits))) == waits
