"""The log: lines in lightningd's format, to stdout and to a file."""

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

LEVELS = {
    "io": "IO     ",
    "trace": "TRACE  ",
    "debug": "DEBUG  ",
    "info": "INFO   ",
    "unusual": "UNUSUAL",
    "warn": "UNUSUAL",
    "broken": "**BROKEN**",
    "error": "**BROKEN**",
}


class Log:
    """The log of the double and of its plugins."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None

    def add(self, level: str, source: str, message: str) -> None:
        """Write one line for every line of `message`."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        for line in message.split("\n"):
            entry = f"{now} {LEVELS[level]} {source}: {line}\n"
            if self._file:
                self._file.write(entry)
                self._file.flush()
            with contextlib.suppress(BrokenPipeError):  # the reader has gone, so we will be stopped
                sys.stdout.write(entry)
                sys.stdout.flush()
