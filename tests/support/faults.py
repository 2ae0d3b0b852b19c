"""Controls tests/support/faulty_plugin.py through files beside lightningd's RPC socket.

A point is a moment in serving one request, or in following payments after a start. `before datastore 2`
is one: first `before`, `sent` (lightningd has the call, its answer is not read yet) or `after`; then the
RPC method, or `publish` and the event's kind; then its number among those of the same name.
"""

from pathlib import Path

FAULTY_PLUGIN = Path(__file__).with_name("faulty_plugin.py")

CRASH_AT, POINTS, CLOCK = "test-crash-at", "test-points", "test-clock"


class Faults:
    """The control files of one node.

    Args:
        directory: that of the node's RPC socket.

    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def crash_at(self, point: str) -> None:
        """Make the plugin kill itself when it reaches this point."""
        (self._directory / CRASH_AT).write_text(point)

    def record(self) -> None:
        """Start the record of points anew."""
        (self._directory / POINTS).write_text("")

    def points(self) -> list[str]:
        """Return the points that the plugin has passed since `record`."""
        return (self._directory / POINTS).read_text().splitlines()

    def shift_clock(self, seconds: int) -> None:
        """Set the plugin's clock ahead by some seconds."""
        # The plugin reads this file at any time, so it must never be half written.
        fresh = self._directory / f"{CLOCK}.new"
        fresh.write_text(str(seconds))
        fresh.rename(self._directory / CLOCK)

    def clear(self) -> None:
        """Remove all faults."""
        for name in (CRASH_AT, POINTS, CLOCK):
            (self._directory / name).unlink(missing_ok=True)
