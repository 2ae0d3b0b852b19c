"""Tests that need what this machine lacks: they are skipped, in a way that nobody overlooks."""

from collections.abc import Sequence
from pathlib import Path

import pytest


class NotRun:
    """The tests of a folder, if they cannot run here.

    Args:
        folder: of the tests.
        title: what they are.
        reason: why they cannot run; empty if they can.
        notes: more lines for the end of the output.

    """

    def __init__(self, folder: Path, title: str, reason: str, notes: Sequence[str] = ()) -> None:
        self._folder = folder
        self._title = title
        self._reason = reason
        self._notes = notes
        self._skipped = 0

    def skip(self, items: Sequence[pytest.Item]) -> None:
        """Mark those that cannot run; for `pytest_collection_modifyitems`."""
        if not self._reason:
            return
        ours = [item for item in items if self._folder in item.path.parents]
        self._skipped = len(ours)
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=self._reason))

    def say(self, reporter: pytest.TerminalReporter) -> None:
        """Say that they did not run; for the end of `pytest_terminal_summary`."""
        if self._skipped:
            reporter.section(f"NOT RUN: {self._title}", sep="!", yellow=True, bold=True)
            reporter.write_line(f"NOT RUN: {self._title}: {self._reason}; {self._skipped} tests skipped")
            for note in self._notes:
                reporter.write_line(note)


def say_why_skipped(reporter: pytest.TerminalReporter) -> None:
    """Repeat the reasons of tests that were skipped while they ran, where these begin with NOT RUN."""
    reports = reporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports}
    if loud := sorted(reason for reason in reasons if reason.startswith("NOT RUN")):
        reporter.section("NOT RUN", sep="!", yellow=True, bold=True)
        for reason in loud:
            reporter.write_line(reason)
