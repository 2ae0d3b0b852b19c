"""When to connect to a relay again: soon after every drop, but with a limited number of attempts.

No socket and no task. All times are seconds of one monotonic clock.

* After a drop, the first attempts follow each other at once. In the long run there is one attempt per
  INTERVAL_S. So we are connected again within 10 seconds after a relay or network has come back, and we
  do not flood a relay that accepts connections and drops them. There is no exponential backoff: six
  short drops do not predict the seventh.
* After OUTAGE_S without service, only the relay's operator can help: one attempt per minute.
"""

import random

FIRST_PAUSE_S = 1.0
# How many attempts may follow each other at once, and the seconds until one more is allowed.
BURST = 3
INTERVAL_S = 6.5
OUTAGE_S = 600.0
LONG_PAUSE_S = 60.0


class ReconnectPace:
    """When the next attempt to connect to one relay may begin.

    Args:
        now: when the relay was first needed.

    """

    def __init__(self, now: float) -> None:
        self._attempts_left = float(BURST)
        self._counted_at = now
        self._served_at = now

    def attempted(self, now: float) -> None:
        """Count an attempt that begins now."""
        self._attempts_left = self._attempts_left_at(now) - 1
        self._counted_at = now

    def served(self, now: float) -> None:
        """Record that the relay has served us until now."""
        self._served_at = now

    def pause(self, now: float) -> float:
        """Return how many seconds to wait before the next attempt.

        It is partly random, so that the clients of a relay that restarts do not all connect at once.
        """
        if now - self._served_at >= OUTAGE_S:
            return LONG_PAUSE_S * _between(0.5, 1.0)
        missing = max(0.0, 1 - self._attempts_left_at(now))
        return max(FIRST_PAUSE_S * _between(0.5, 1.0), missing * INTERVAL_S * _between(1.0, 1.2))

    def _attempts_left_at(self, now: float) -> float:
        return min(float(BURST), self._attempts_left + (now - self._counted_at) / INTERVAL_S)


def _between(least: float, most: float) -> float:
    return random.uniform(least, most)  # noqa: S311
