"""What a test tells tests/support/faulty_plugin.py, in files beside lightningd's RPC socket.

A point is a moment in serving one request, or in following payments after a start, for example `before
datastore 2`: `before`, `sent` (lightningd has it, its answer is not read) or `after`, then the RPC
method or `publish` and the event's kind, then which of them it is.
"""

from pathlib import Path

FAULTY_PLUGIN = Path(__file__).with_name("faulty_plugin.py")

CRASH_AT, POINTS, CLOCK = "test-crash-at", "test-points", "test-clock"


class Faults:
    """The files of one node.

    Args:
        directory: where its RPC socket is.

    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def crash_at(self, point: str) -> None:
        """Have the plugin kill itself when it comes to this point."""
        (self._directory / CRASH_AT).write_text(point)

    def record(self) -> None:
        """Forget the points that were passed so far."""
        (self._directory / POINTS).write_text("")

    def points(self) -> list[str]:
        """Return the points that were passed since `record`."""
        return (self._directory / POINTS).read_text().splitlines()

    def shift_clock(self, seconds: int) -> None:
        """Have the plugin's clock show so much more than it is."""
        # Whole at once: it is read all the time.
        fresh = self._directory / f"{CLOCK}.new"
        fresh.write_text(str(seconds))
        fresh.rename(self._directory / CLOCK)

    def clear(self) -> None:
        """Have the plugin work as it should."""
        for name in (CRASH_AT, POINTS, CLOCK):
            (self._directory / name).unlink(missing_ok=True)
