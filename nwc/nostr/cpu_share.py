"""How much of our time one relay may take.

A relay that takes more than its share is not read for a while, and no other: TCP then slows it down, and
what is honest in its flood comes late, but comes. Below its share it is never made to wait. So it is CPU
time that counts, and what was taken is forgotten: with a pause for every so many frames, a busy machine,
on which each pause takes long, could not keep up with relays that are well within what they may take.
"""

SHARE = 0.4
BURST_S = 0.02


class TimeShare:
    """What one relay has taken of our time, forgotten at the rate that it may take.

    Args:
        now: seconds, of a clock that is never set, as all times here.

    """

    def __init__(self, now: float) -> None:
        self._taken_s = 0.0
        self._at = now

    def pause_after(self, cpu_s: float, now: float) -> float:
        """Count CPU time that the relay has taken.

        Returns:
            How long the relay is not to be read now, in seconds; 0 while it is within its share.

        """
        forgotten_s = (now - self._at) * SHARE
        self._taken_s = max(0.0, self._taken_s - forgotten_s) + cpu_s
        self._at = now
        # Until all of it is forgotten: few long pauses rather than many short ones.
        return self._taken_s / SHARE if self._taken_s > BURST_S else 0.0
