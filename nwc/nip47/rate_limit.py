"""A token bucket: how fast one connection may ask."""


class RateLimit:
    """At most `per_second` requests a second in the long run, `burst` at once.

    Only requests whose signature was checked may be charged: a stranger could otherwise use up an
    honest client's share with forged events.
    """

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at = now
        self._told_at = float("-inf")

    def is_exhausted(self, now: float) -> bool:
        """Tell whether one more request would be too many."""
        elapsed = max(0.0, now - self._at)
        self._tokens = min(self._burst, self._tokens + elapsed * self._per_second)
        self._at = now
        return self._tokens < 1

    def charge(self) -> None:
        """Count one request."""
        self._tokens -= 1

    def may_tell(self, now: float) -> bool:
        """Tell whether it is time for another RATE_LIMITED answer: one a second is enough."""
        return abs(now - self._told_at) >= 1

    def told(self, now: float) -> None:
        """Count one RATE_LIMITED answer."""
        self._told_at = now
