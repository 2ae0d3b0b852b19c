"""When to connect to a relay again: soon, however rough the last minutes were, but not without end.

No socket and no task. All times are seconds of one clock that only goes forward.

* After a drop the first attempts follow each other at once; in the long run there is one in INTERVAL_S.
  So a relay or a network that is back is used again within 10 seconds, and a relay that takes
  connections and drops them is not hammered. Nothing is doubled: six short drops say nothing about the
  seventh.
* After OUTAGE_S without service the relay is its operator's business: one attempt a minute.
"""

import random

FIRST_PAUSE_S = 1.0
# Attempts that may follow each other at once, and how long it takes until one more may.
BURST = 3
INTERVAL_S = 6.5
OUTAGE_S = 600.0
LONG_PAUSE_S = 60.0


class ReconnectPace:
    """How fast one relay may be tried.

    Args:
        now: when the relay was first wanted.

    """

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._counted_at = now
        self._served_at = now

    def attempted(self, now: float) -> None:
        """Count an attempt that begins."""
        self._left = self._left_at(now) - 1
        self._counted_at = now

    def served(self, now: float) -> None:
        """Take note that the relay has served us until now."""
        self._served_at = now

    def pause(self, now: float) -> float:
        """Return how many seconds to wait before the next attempt.

        A part of it is chance, so that the clients of a relay that restarts do not all come together.
        """
        if now - self._served_at >= OUTAGE_S:
            return LONG_PAUSE_S * _between(0.5, 1.0)
        missing = max(0.0, 1 - self._left_at(now))
        return max(FIRST_PAUSE_S * _between(0.5, 1.0), missing * INTERVAL_S * _between(1.0, 1.2))

    def _left_at(self, now: float) -> float:
        return min(float(BURST), self._left + (now - self._counted_at) / INTERVAL_S)


def _between(least: float, most: float) -> float:
    return random.uniform(least, most)  # noqa: S311
