"""How much CPU time one relay may use.

If a relay uses more than its share, we stop reading from it for a while; other relays are not affected.
TCP then slows it down. Honest messages in its flood are delayed, but not lost. A relay below its share
is never paused. So we count CPU time, and let used time decay. Pausing after a fixed number of frames
would be worse: on a busy machine each pause takes long, so relays within their share would fall behind.
"""

SHARE = 0.4
BURST_S = 0.02


class CpuShare:
    """The CPU time that one relay has used. It decays at the rate at which the relay may use it.

    Args:
        now: seconds of a monotonic clock, like all times here.

    """

    def __init__(self, now: float) -> None:
        self._used_s = 0.0
        self._at = now

    def pause_after(self, cpu_s: float, now: float) -> float:
        """Add CPU time that the relay has used.

        Returns:
            For how many seconds to stop reading from the relay; 0 while it is within its share.

        """
        decayed_s = (now - self._at) * SHARE
        self._used_s = max(0.0, self._used_s - decayed_s) + cpu_s
        self._at = now
        # The pause lasts until all of it has decayed: few long pauses are better than many short ones.
        return self._used_s / SHARE if self._used_s > BURST_S else 0.0
