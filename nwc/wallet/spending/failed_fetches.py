"""Failed fetches: each connection may make lightningd ask for invoices in vain only so often.

A payment that fails leaves a record, and those are limited. A fetch that fails leaves nothing. But it
makes lightningd look for a path, and connect to nodes that the app has chosen.
"""

from collections import defaultdict, deque
from collections.abc import Callable

from nwc.nip47.errors import ErrorCode, Nip47Error

MAX_FAILED_FETCHES = 200
WINDOW_S = 3600.0


class FailedFetches:
    """Counts the failed fetches of each connection.

    Args:
        now: returns the seconds of a monotonic clock.

    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failed_at = defaultdict[str, deque[float]](lambda: deque(maxlen=MAX_FAILED_FETCHES))

    def check(self, client_pubkey: str) -> None:
        """Raise Nip47Error (RATE_LIMITED) if MAX_FAILED_FETCHES have failed in the last WINDOW_S."""
        failed_at = self._failed_at[client_pubkey]
        if len(failed_at) == MAX_FAILED_FETCHES and self._now() - failed_at[0] < WINDOW_S:
            raise Nip47Error(
                ErrorCode.RATE_LIMITED,
                f"no invoice was found for {MAX_FAILED_FETCHES} offers of this connection in an hour; "
                "try again later",
            )

    def note(self, client_pubkey: str) -> None:
        """Count one failed fetch."""
        self._failed_at[client_pubkey].append(self._now())
