"""How much of our time the junk of one relay may take.

Theory
------
Whether an event that names one of our keys and its right author is honest shows only in its signature,
and that check is the dearest there is (a tenth of a millisecond). Both keys stand in plain sight in
every event, so a stranger can have us check forgeries through any relay that does not check them itself.
To leave such a relay, or to look at so many of its events and no more, would be the forger's victory:
the honest client is shut out. So every event is looked at, nothing is thrown away, and time is bounded:

1. Junk is every frame that brings nothing: no message, an event met with silence, idle words. All of it
   counts, whatever its sort, by the CPU time that it took.
2. The junk of one relay may take SHARE of our time. When it has taken more, that relay, and no other, is
   not read for a while. TCP then slows it down, and what is honest in it comes late, but comes.
3. In one go, before others have their turn, it takes no more than a few times BURST_S.
"""

SHARE = 0.5
BURST_S = 0.02


class JunkAllowance:
    """What the junk of one relay has taken of our time, forgotten at the rate it is allowed.

    Args:
        now: seconds, of a clock that is never set, as all times here.

    """

    def __init__(self, now: float) -> None:
        self._taken_s = 0.0
        self._at = now

    def pause_after(self, cost_s: float, now: float) -> float:
        """Count junk that took so many seconds.

        Returns:
            How long the relay is not to be read now, in seconds; mostly 0.

        """
        forgotten_s = (now - self._at) * SHARE
        self._taken_s = max(0.0, self._taken_s - forgotten_s) + cost_s
        self._at = now
        # All of it at once, so that many small pauses are few long enough to be worth it.
        return self._taken_s / SHARE if self._taken_s > BURST_S else 0.0
