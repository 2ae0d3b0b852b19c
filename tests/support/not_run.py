"""Skips tests that need something this machine lacks, and reports them where nobody overlooks it."""

from collections.abc import Sequence

import pytest


class NotRun:
    """Tests that perhaps cannot run on this machine.

    Args:
        title: the name of these tests in the output.
        reason: why they cannot run; empty if they can.
        notes: further lines for the end of the output.

    """

    def __init__(self, title: str, reason: str, notes: Sequence[str] = ()) -> None:
        self._title = title
        self._reason = reason
        self._notes = notes
        self._skipped = 0

    def skip(self, items: Sequence[pytest.Item]) -> None:
        """Mark these tests as skipped if they cannot run; for `pytest_collection_modifyitems`."""
        if not self._reason:
            return
        self._skipped = len(items)
        for item in items:
            item.add_marker(pytest.mark.skip(reason=self._reason))

    def say(self, reporter: pytest.TerminalReporter) -> None:
        """Report how many tests were skipped, and why; for the end of `pytest_terminal_summary`."""
        if self._skipped:
            reporter.section(f"NOT RUN: {self._title}", sep="!", yellow=True, bold=True)
            reporter.write_line(f"NOT RUN: {self._title}: {self._reason}; {self._skipped} tests skipped")
            for note in self._notes:
                reporter.write_line(note)


def say_why_skipped(reporter: pytest.TerminalReporter) -> None:
    """Report the reasons that begin with NOT RUN, of tests that were skipped while they ran."""
    reports = reporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports}
    if loud := sorted(reason for reason in reasons if reason.startswith("NOT RUN")):
        reporter.section("NOT RUN", sep="!", yellow=True, bold=True)
        for reason in loud:
            reporter.write_line(reason)
