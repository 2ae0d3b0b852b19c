"""Waiting for a condition, with a timeout."""

import time
from collections.abc import Callable
from typing import TypeVar

# Only so that a test does not hang: long enough for a machine that does other work as well.
PATIENCE_S = 60.0
_PAUSE_S = 0.02

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Return the first true result of `condition`, which is called again and again.

    Raises:
        TimeoutError: there was none within `timeout_s` seconds; names `what` and the last result.

    """
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: still not after {timeout_s} s, but {result!r}")
        time.sleep(_PAUSE_S)
    return result


def wait_for_the_next_second() -> None:
    """Wait until the clock shows the next Unix second, so that `created_at` of later events differs."""
    now = int(time.time())
    wait_until(lambda: int(time.time()) > now, "the next second")
