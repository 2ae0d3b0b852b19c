"""Waiting for a condition, for a bounded time."""

import time
from collections.abc import Callable
from typing import TypeVar

# Against hanging only: long enough for a machine that does other work as well.
PATIENCE_S = 60.0
_PAUSE_S = 0.02

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Ask again and again until the answer is true, and return it.

    Raises:
        TimeoutError: it never was; names `what` and the last answer.

    """
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: still not after {timeout_s} s, but {result!r}")
        time.sleep(_PAUSE_S)
    return result


def wait_for_the_next_second() -> None:
    """Wait until events are dated one second later than now."""
    now = int(time.time())
    wait_until(lambda: int(time.time()) > now, "the next second")
