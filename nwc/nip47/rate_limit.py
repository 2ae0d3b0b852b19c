"""Token buckets: how fast one connection may ask."""

# Requests over the limit that are answered RATE_LIMITED, for each that the limit allows. Without an
# answer an app waits a minute. An answer costs a signature and an encryption, so there is a bound.
ANSWERS_PER_REQUEST = 10


class RateLimit:
    """At most `per_second` requests a second in the long run, `burst` at once.

    Of those over it ten times as many are answered. Only requests whose signature was checked may be
    charged: a stranger could otherwise use up an honest client's share with forged events.
    """

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._requests = _Bucket(per_second, burst, now)
        answers_per_second = ANSWERS_PER_REQUEST * per_second
        self._answers = _Bucket(answers_per_second, max(1.0, answers_per_second), now)

    def is_exhausted(self, now: float) -> bool:
        """Tell whether one more request would be too many."""
        return self._requests.is_empty(now)

    def charge(self) -> None:
        """Count one request."""
        self._requests.take()

    def is_beyond_answers(self, now: float) -> bool:
        """True if one more request over the limit is not even answered."""
        return self._answers.is_empty(now)

    def charge_answer(self) -> None:
        """Count one RATE_LIMITED answer."""
        self._answers.take()


class _Bucket:
    """Holds at most `size` tokens, and gets `per_second` new ones a second."""

    def __init__(self, per_second: float, size: float, now: float) -> None:
        self._per_second = per_second
        self._size = size
        self._tokens = size
        self._at = now

    def is_empty(self, now: float) -> bool:
        elapsed = max(0.0, now - self._at)
        self._tokens = min(self._size, self._tokens + elapsed * self._per_second)
        self._at = now
        return self._tokens < 1

    def take(self) -> None:
        self._tokens -= 1
