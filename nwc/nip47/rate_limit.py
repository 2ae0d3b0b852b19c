"""Token buckets that limit the requests of one connection."""

# How many requests over the limit are answered RATE_LIMITED, for each request that the limit allows.
# Without an answer an app waits a minute. But each answer costs a signature and an encryption.
ANSWERS_PER_REQUEST = 10


class RateLimit:
    """Allows `per_second` requests a second in the long run, and `burst` at once.

    Requests over the limit are answered RATE_LIMITED, up to ANSWERS_PER_REQUEST times the limit. Charge
    only requests whose signature is valid: otherwise forged events could use up a client's limit.
    """

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._requests = _Bucket(per_second, burst, now)
        answers_per_second = ANSWERS_PER_REQUEST * per_second
        self._answers = _Bucket(answers_per_second, max(1.0, answers_per_second), now)

    def is_exhausted(self, now: float) -> bool:
        """Return True if one more request would exceed the limit."""
        return self._requests.is_empty(now)

    def charge(self) -> None:
        """Count one request."""
        self._requests.take()

    def is_beyond_answers(self, now: float) -> bool:
        """Return True if one more request over the limit gets no answer."""
        return self._answers.is_empty(now)

    def charge_answer(self) -> None:
        """Count one RATE_LIMITED answer."""
        self._answers.take()


class _Bucket:
    """Holds at most `size` tokens and gains `per_second` tokens a second."""

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
