"""How long to wait between the attempts at something that fails."""

from collections.abc import Iterator


def backoff(first_s: float, max_s: float) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt: twice as long each time, up to a maximum.

    Args:
        first_s: the first wait in seconds.
        max_s: the longest wait in seconds.

    """
    wait_s = min(first_s, max_s)
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, max_s)
